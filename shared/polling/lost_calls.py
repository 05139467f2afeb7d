"""The poll of callers who wait to be called back: what their webhooks should have said, and did not."""

from __future__ import annotations

import hashlib
import json
import logging
from typing import TYPE_CHECKING, Any

from shared import health
from shared.calls.cases import heard_until, open_cases
from shared.calls.lost_callers import other_day, same_day
from shared.errors import Invalid, PbxNotUnderstood, PbxRefused
from shared.events.receive import submit
from shared.items.reader import Known
from shared.pbx.fields import LOST_CALL
from shared.pbx.resources import Resource
from shared.phones import e164, spelt
from shared.polling import checkpoints, odd_items, removals
from shared.polling.checkpoints import Checkpoint
from shared.polling.outcomes import advance, noting
from shared.polling.reading import Reading, first_moment, grace, time_in
from shared.storage.account import reaching_storage
from shared.times import event_time, iso, now, parse_time
from shared.webhooks.table import ended_since, wanted_events

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from shared.bridge import Bridge
    from shared.calls.lost_callers import OpenCase
    from shared.items.reader import Item

logger = logging.getLogger(__name__)

# No row of RESOURCES: its items have no id, and are kept as the cases of their events.
_ROW = Resource(
    name="lost_calls",
    noun="LostCaller",
    list_operation="GetLostCalls",
    read_operation="GetLostCalls",
    id_field="callerid",
    id_parameter="destination",
)
_PAGE = 1000
_MOST_PAGES = 50

Callers = dict[int, Any]


def poll_lost_calls(bridge: Bridge, *, at: datetime | None = None) -> int:
    """
    Submit LostCallerAdded, Updated and Removed where no webhook did within the grace; how many.

    A caller who waits and is listed no longer was called back, with the proof of removals: listings of the same day,
    since each midnight empties the list. Raises as poll does.
    """
    moment = at or now()
    with reaching_storage():
        checkpoint = checkpoints.read(bridge.storage, _ROW.name) or checkpoints.create(
            bridge.storage, Checkpoint(resource=_ROW.name, begin=first_moment(bridge, moment), started=True)
        )
        if checkpoint.is_paused(moment):
            return 0
        reading = Reading(bridge=bridge, resource=_ROW, checkpoint=checkpoint, moment=moment)
        with noting(reading):
            return _poll(reading)
    return 0


def _poll(reading: Reading) -> int:
    from shared.events.model import item_drift

    bridge, seen = reading.bridge, reading.checkpoint
    listed, odd = _listed(bridge)
    for item in odd:
        odd_items.keep(bridge.storage, _ROW.name, "callerid, destination: they are required", item)
    state = json.loads(seen.digest or "{}")
    cases = {_key(bridge, case.callerid, case.destination): case for case in open_cases(bridge.storage)}
    found, sent = _news(reading, listed, cases, state.get("sent", {}))
    missing = state.get("missing", {})
    # Any that cannot be read may be the one that seems to be missing.
    gone, missing = ([], missing) if odd else _gone(reading, listed, cases, missing)
    wanted = {event.name for event in wanted_events(bridge.settings)}
    events = [(name, data) for name, data in [*found, *gone] if name in wanted]
    for name, data in events:
        try:
            submit(bridge.storage, bridge.settings, name, data, origin="reconciled")
            health.drifted(bridge.storage, item_drift(LOST_CALL, data))
        except Invalid as error:
            odd_items.keep(bridge.storage, _ROW.name, str(error), data)
    if events and bridge.settings.public_base_url and not ended_since(bridge.storage):
        logger.warning("signal webhook_loss resource=%s events=%d", _ROW.name, len(events))
    values: dict[str, Any] = {
        "digest": json.dumps({"sent": sent, "missing": missing}),
        "items": len(listed),
        "unreadable": len(odd),
    }
    changes: dict[str, Any] = {name: value for name, value in values.items() if getattr(seen, name) != value}
    advance(reading, **changes)
    return len(events)


def _listed(bridge: Bridge) -> tuple[dict[int, Item], list[Item]]:
    """All who are listed, by a key of both numbers, and items without them."""
    found: dict[int, Item] = {}
    odd: list[Item] = []
    offset, limit = 0, _PAGE
    for _ in range(_MOST_PAGES):
        page = _page(bridge, offset, limit)
        fresh: dict[int, Item] = {}
        for item in page:
            texts = [spelt(item.get(name, False)) for name in ("callerid", "destination")]
            numbers = [text.strip() for text in texts if text is not None]
            if any(numbers) and len(numbers) == len(texts):
                fresh.setdefault(_key(bridge, *numbers), item)
            elif item not in odd:
                odd.append(item)
        if not fresh.keys() - found.keys():
            return found, odd
        found = fresh | found
        offset += len(page)
    raise PbxNotUnderstood(_ROW.list_operation, "the list has no end")


def _page(bridge: Bridge, offset: int, limit: int) -> list[Item]:
    asked: dict[str, Any] = {"lane": "poll", "offset": offset or None}
    try:
        page: list[Item] = bridge.pbx.call(_ROW.list_operation, limit=limit, **asked)
    except PbxRefused:
        # The largest page is not documented.
        page = bridge.pbx.call(_ROW.list_operation, **asked)
    return page


def _key(bridge: Bridge, callerid: str, destination: str) -> int:
    region = bridge.settings.default_region
    numbers = [e164(number, region) or number for number in (callerid, destination)]
    return int(hashlib.sha256(json.dumps(numbers).encode()).hexdigest()[:15], 16)


def _news(
    reading: Reading, listed: Mapping[int, Item], cases: Mapping[int, OpenCase], sent: Mapping[str, str]
) -> tuple[list[tuple[str, Item]], dict[str, str]]:
    """The events that listed callers lack, and what was submitted of each: the same is not submitted at every poll."""
    found: list[tuple[str, Item]] = []
    said: dict[str, str] = {}
    # The list holds nobody of an earlier day.
    still = {key: case for key, case in cases.items() if (then := _last(case)) and not other_day(then, reading.moment)}
    for key, item in listed.items():
        name = _event(reading, item, still.get(key))
        if name is None:
            continue
        said[str(key)] = f"{name} {item.get('last_contact')} {item.get('attempts')}"
        if sent.get(str(key)) != said[str(key)] and (key in still or not _is_over(reading, item)):
            found.append((name, item))
    return found, said


def _event(reading: Reading, item: Item, case: OpenCase | None) -> str | None:
    last, begin = time_in(item, "last_contact"), reading.checkpoint.begin
    if last and reading.moment - last < grace(reading.bridge):
        return None
    if case is None:
        return None if begin and last and last < begin.replace(microsecond=0) else "LostCallerAdded"
    before = event_time(case.last_contact)
    if last and before:
        return "LostCallerUpdated" if last.replace(microsecond=0) > before else None
    attempts = item.get("attempts")
    more = isinstance(attempts, int) and case.attempts is not None and attempts > case.attempts
    return "LostCallerUpdated" if more else None


def _is_over(reading: Reading, item: Item) -> bool:
    """Whether a listed caller was called back since: the list may be older than the events that say so."""
    numbers = [str(item.get(name) or "").strip() or None for name in ("callerid", "destination")]
    heard = heard_until(reading.bridge.storage, numbers, reading.bridge.settings.default_region)
    last = time_in(item, "last_contact") or reading.moment - grace(reading.bridge)
    return heard is not None and last.replace(microsecond=0) <= heard


def _gone(
    reading: Reading, listed: Mapping[int, Item], cases: Mapping[int, OpenCase], missing: Mapping[str, Any]
) -> tuple[list[tuple[str, Item]], dict[str, Any]]:
    """The removals that are proved, and since when others are missing, with the number of listings."""
    moment = reading.moment
    today = {key: case for key, case in cases.items() if (then := _last(case)) and same_day(then, moment)}
    known = {key: _known(missing.get(str(key))) for key in today}
    verdict = removals.judge(known, listed, moment)
    found: list[tuple[str, Item]] = []
    still: dict[str, Any] = {}
    for key, case in today.items():
        row, change = known[key], verdict.changes.get(key)
        since = row.missing
        if key in verdict.due and since and moment - since >= grace(reading.bridge):
            found.append(("LostCallerRemoved", {"callerid": case.callerid, "destination": case.destination}))
        elif key not in listed:
            missed, first = (change["missed"], change["missing"]) if change else (row.missed, since)
            still[str(key)] = [iso(first or moment), missed]
    return found, still


def _known(state: Any) -> Known:
    return Known(hash="", missed=state[1], missing=parse_time(state[0])) if state else Known(hash="")


def _last(case: OpenCase) -> datetime | None:
    """When the caller tried last, as far as that is known."""
    return event_time(case.last_contact) or event_time(case.since)
