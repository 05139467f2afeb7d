"""The poll of callers who wait to be called back: what their webhooks should have said, and did not."""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

from shared import health
from shared.calls.cases import heard_until, open_cases
from shared.calls.lost_callers import other_day, same_day
from shared.events.receive import submit
from shared.items.reader import Known
from shared.json_bodies import encode
from shared.pbx.fields import LOST_CALL
from shared.pbx.resources import Resource
from shared.phones import e164, spelt
from shared.polling import odd_items, removals
from shared.polling.pages import pages
from shared.polling.poll import follow
from shared.polling.reading import grace
from shared.times import event_time, iso, parse_time
from shared.webhooks.table import ended_since, wanted_events

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from shared.bridge import Bridge
    from shared.calls.lost_callers import OpenCase
    from shared.items.reader import Item
    from shared.polling.odd_items import Odd
    from shared.polling.reading import Reading

logger = logging.getLogger(__name__)

# No row of RESOURCES: its items have no id, and are kept as the cases of their events.
_ROW = Resource(
    name="lost_calls",
    noun="LostCaller",
    list_operation="GetLostCalls",
    read_operation="GetLostCalls",
    id_field="callerid, destination",
    id_parameter="destination",
)


# What a column holds of callers: beyond it an event may be submitted again, and a removal waits for others'.
_MOST_SENT = 500
_MOST_MISSING = 200


def poll_lost_calls(bridge: Bridge, *, at: datetime | None = None) -> None:
    """
    Submit LostCallerAdded, Updated and Removed where no webhook did within the grace.

    A caller who waits and is listed no longer was called back, with the proof of removals: listings of the same day,
    since each midnight empties the list. Raises as poll does.
    """
    follow(bridge, _ROW, _poll, at=at, started=True)


def _poll(reading: Reading) -> None:
    from shared.events.model import item_drift

    bridge, seen = reading.bridge, reading.checkpoint
    listed, unreadable = dict[int, "Item"](), list["Item"]()
    region = bridge.settings.default_region
    for page in pages(bridge.pbx, _ROW, lane="poll", unreadable=unreadable, identify=partial(_identified, region)):
        listed |= page.items
    state = json.loads(seen.digest or "{}")
    cases = {_key(region, case.callerid, case.destination): case for case in open_cases(bridge.storage)}
    found, sent = _news(reading, listed, cases, state.get("sent", {}))
    missing = state.get("missing", {})
    # Any that cannot be read may be the one that seems to be missing.
    gone, missing = ([], missing) if unreadable else _gone(reading, listed, cases, missing)
    wanted = {event.name for event in wanted_events(bridge.settings)}
    events, odd = [(name, data) for name, data in [*found, *gone] if name in wanted], list["Odd"]()
    for name, data in events:
        with odd_items.set_aside(data, odd):
            submit(bridge.storage, bridge.settings, name, data, origin="reconciled")
            health.drifted(bridge.storage, item_drift(LOST_CALL, data))
    for reason, item in odd:
        odd_items.keep(bridge.storage, _ROW.name, reason, item)
    if events and bridge.settings.public_base_url and not ended_since(bridge.storage):
        logger.warning("signal webhook_loss resource=%s events=%d", _ROW.name, len(events))
    values = {"digest": encode({"sent": sent, "missing": missing}).decode(), "items": len(listed)}
    changes: dict[str, Any] = {name: value for name, value in values.items() if getattr(seen, name) != value}
    reading.advance(**changes, **reading.note_unreadable(unreadable))


def _identified(region: str, item: Item) -> tuple[int, Item] | None:
    """A listed caller by a key of both numbers; None without one that can be read."""
    numbers = [spelt(item.get(name, False)) for name in ("callerid", "destination")]
    texts = [number.strip() for number in numbers if number is not None]
    return (_key(region, *texts), item) if any(texts) and len(texts) == len(numbers) else None


def _key(region: str, callerid: str, destination: str) -> int:
    numbers = [e164(number, region) or number for number in (callerid, destination)]
    return int(hashlib.sha256(json.dumps(numbers).encode()).hexdigest()[:15], 16)


def _news(
    reading: Reading, listed: Mapping[int, Item], cases: Mapping[int, OpenCase], sent: Mapping[str, str]
) -> tuple[list[tuple[str, Item]], dict[str, str]]:
    """The events that listed callers lack, and what was submitted of each: the same is not submitted at every poll."""
    found: list[tuple[str, Item]] = []
    said: dict[str, str] = {}
    # The list holds nobody of an earlier day.
    still = {key: case for key, case in cases.items() if (then := case.last) and not other_day(then, reading.moment)}
    for key, item in listed.items():
        name = _event(reading, item, still.get(key))
        if name is None:
            continue
        text = f"{name} {item.get('last_contact')} {item.get('attempts')}"
        said[str(key)] = hashlib.sha256(text.encode()).hexdigest()[:8]
        if sent.get(str(key)) != said[str(key)] and (key in still or not _is_over(reading, item)):
            found.append((name, item))
    return found, dict(islice(said.items(), _MOST_SENT))


def _event(reading: Reading, item: Item, case: OpenCase | None) -> str | None:
    last, begin = event_time(item.get("last_contact")), reading.checkpoint.begin
    if last and reading.moment - last < grace(reading.bridge):
        return None
    if case is None:
        return None if begin and last and last < begin.replace(microsecond=0) else "LostCallerAdded"
    if last and case.last_contact:
        return "LostCallerUpdated" if last.replace(microsecond=0) > case.last_contact else None
    attempts = item.get("attempts")
    more = isinstance(attempts, int) and case.attempts is not None and attempts > case.attempts
    return "LostCallerUpdated" if more else None


def _is_over(reading: Reading, item: Item) -> bool:
    """Whether a listed caller was called back since: the list may be older than the events that say so."""
    numbers = [str(item.get(name) or "").strip() or None for name in ("callerid", "destination")]
    heard = heard_until(reading.bridge.storage, numbers, reading.bridge.settings.default_region)
    last = event_time(item.get("last_contact")) or reading.moment - grace(reading.bridge)
    return heard is not None and last.replace(microsecond=0) <= heard


def _gone(
    reading: Reading, listed: Mapping[int, Item], cases: Mapping[int, OpenCase], missing: Mapping[str, Any]
) -> tuple[list[tuple[str, Item]], dict[str, Any]]:
    """The removals that are proved, and since when others are missing, with the number of listings."""
    moment = reading.moment
    today = {key: case for key, case in cases.items() if (then := case.last) and same_day(then, moment)}
    known = {key: _known(missing.get(str(key))) for key in today}
    verdict = removals.judge(known, listed, moment)
    found: list[tuple[str, Item]] = []
    still: dict[str, Any] = {}
    for key, case in today.items():
        row = replace(known[key], **verdict.changes.get(key, {}))
        if key in verdict.due and row.missing and moment - row.missing >= grace(reading.bridge):
            found.append(("LostCallerRemoved", {"callerid": case.callerid, "destination": case.destination}))
        elif key not in listed:
            still[str(key)] = [iso(row.missing or moment), row.missed]
    return found, dict(islice(still.items(), _MOST_MISSING))


def _known(state: Any) -> Known:
    return Known(hash="", missed=state[1], missing=parse_time(state[0])) if state else Known(hash="")
