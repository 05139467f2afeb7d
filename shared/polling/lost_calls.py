"""The poll of callers who wait to be called back: makes the events whose webhooks did not come."""

from __future__ import annotations

import json
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

from shared import health
from shared.calls import lost_callers
from shared.calls.lost_callers import ADDED, REMOVED, UPDATED, other_day, same_day
from shared.items.content import drift
from shared.json_bodies import encode
from shared.pbx.fields import LOST_CALL
from shared.pbx.resources import Resource
from shared.phones import spelt
from shared.polling import malformed
from shared.polling.missing import Counts, Found, alarm_if_lost, submit_found
from shared.polling.pages import pages
from shared.polling.reading import follow, grace
from shared.times import event_time, iso, parse_time

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from shared.bridge import Bridge
    from shared.calls.lost_callers import LostCaller
    from shared.items.store import Item
    from shared.polling.malformed import Malformed
    from shared.polling.reading import Reading

# No row of RESOURCES: its items have no id, and are kept as the rows of their events.
_ROW = Resource(
    name="lost_calls",
    noun="LostCaller",
    list_operation="GetLostCalls",
    read_operation="GetLostCalls",
    id_field="callerid, destination",
    id_parameter="destination",
)
# Callers of whom the PBX is asked by their destination in one run, and those that a checkpoint remembers as missing.
_MOST_ASKED, _MOST_MISSING = 20, 200


def poll_lost_calls(bridge: Bridge, *, at: datetime | None = None) -> None:
    """
    Submit LostCallerAdded, Updated and Removed where no webhook did within the grace.

    A caller who waits since today and is listed no longer was called back, once the list of that destination lacks it
    too: each midnight empties the list. Raises as poll does.
    """
    follow(bridge, _ROW, _poll, at=at, started=True)


def _poll(reading: Reading) -> None:
    bridge, seen, odd = reading.bridge, reading.checkpoint, list["Malformed"]()
    listed, unreadable = _listed(reading)
    waiting = {_number(one.id): one for one in lost_callers.listed(bridge.storage)}
    missing = json.loads(seen.state or "{}")
    found = [(name, item) for key, item in listed.items() if (name := _event(reading, item, waiting.get(key)))]
    for _, item in found:
        health.drifted(bridge.storage, drift(item, LOST_CALL))
    if not unreadable:
        gone, missing = _gone(reading, listed, waiting, missing)
        found += gone
    count = submit_found(reading, "reconciled", odd, Found(events=found))
    for reason, entry in odd:
        malformed.keep(bridge.storage, _ROW.name, reason, entry)
    alarm_if_lost(reading, Counts(reconciled=count))
    values = {"state": encode(missing).decode() if missing else "", "items": len(listed)}
    changes: dict[str, Any] = {name: value for name, value in values.items() if (getattr(seen, name) or "") != value}
    reading.advance(**changes, **reading.note_unreadable(unreadable))


def _listed(reading: Reading, **filters: Any) -> tuple[dict[int, Item], list[Item]]:
    """Return the listed callers by the number of their pair, and the items without one."""
    found, unreadable = dict[int, "Item"](), list["Item"]()
    identify = partial(_identified, reading.bridge)
    for page in pages(
        reading.bridge.pbx, _ROW,
        lane="poll", deadline=reading.deadline, unreadable=unreadable, identify=identify, **filters,
    ):  # fmt: skip
        found |= dict(page.items)
    return found, unreadable


def _identified(bridge: Bridge, item: Item) -> tuple[int, Item] | None:
    numbers = [spelt(item.get(name, False)) for name in ("callerid", "destination")]
    if None in numbers or not any((number or "").strip() for number in numbers):
        return None
    return _number(lost_callers.key(bridge.storage, numbers[0], numbers[1], bridge.settings.default_region)), item


def _number(id: str) -> int:
    return int(id[:15], 16)


def _event(reading: Reading, item: Item, known: LostCaller | None) -> str | None:
    """Return the event that a listed caller lacks, if any."""
    tried, begin = event_time(item.get("last_contact")), reading.checkpoint.begin
    if tried and reading.moment - tried < grace(reading.bridge):
        return None
    storage, region = reading.bridge.storage, reading.bridge.settings.default_region
    if known is None:
        numbers = [spelt(item.get(name)) for name in ("callerid", "destination")]
        known = lost_callers.get(storage, lost_callers.key(storage, numbers[0], numbers[1], region))
    if known is None:
        return None if begin and tried and tried < begin.replace(microsecond=0) else ADDED
    # The list may be older than what the events said since.
    before = known.last or known.closed or reading.moment
    waits = known.open and not other_day(before, reading.moment)
    if tried:
        is_new = tried.replace(microsecond=0) > before
    elif waits:
        attempts = item.get("attempts")
        is_new = isinstance(attempts, int) and known.attempts is not None and attempts > known.attempts
    else:
        is_new = other_day(before, reading.moment)
    return (UPDATED if waits else ADDED) if is_new else None


def _gone(
    reading: Reading, listed: Mapping[int, Item], waiting: Mapping[int, LostCaller], missing: Mapping[str, str]
) -> tuple[list[tuple[str, Item]], dict[str, str]]:
    """Return the removals that the PBX confirms, and since when others are missing."""
    found: list[tuple[str, Item]] = []
    still: dict[str, str] = {}
    left = _MOST_ASKED
    for key, one in waiting.items():
        if key in listed or one.last is None or not same_day(one.last, reading.moment):
            continue
        since = parse_time(missing.get(str(key)) or iso(reading.moment))
        if left and reading.moment - since >= grace(reading.bridge):
            left -= 1
            again, unreadable = _listed(reading, **({"destination": one.destination} if one.destination else {}))
            if key not in again and not unreadable:
                found.append((REMOVED, {"callerid": one.callerid, "destination": one.destination}))
                continue
        still[str(key)] = iso(since)
    return found, dict(islice(still.items(), _MOST_MISSING))
