"""
Table `calls`: one row a call, merged from its events under an ETag.

Table `ended` has the order in which calls were first known to be over.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Collection, Mapping, Sequence, Set
from dataclasses import replace
from datetime import datetime
from itertools import islice
from threading import Lock
from typing import Any

from shared import people
from shared.bridge import Bridge
from shared.calls.stories import UNENDED, Gathered, Part, part_of, place_of, story_of
from shared.events.event import ReceivedEvent
from shared.people import Pointer
from shared.storage import rows
from shared.storage.account import Storage, once
from shared.storage.rows import Allowance, Period, descending, expire_rows, from_descending
from shared.times import FIRST_CLOCK_ID, LAST_CLOCK_ID, call_start, clock, iso, now

TABLE = "calls"
PARTITION = "call"
ENDED = "ended"
_REMEMBERED = 4096
_TURNS = 64
# Calls of the same number in one second.
_MOST_IN_SECOND = 20
# A column takes 64 KiB.
_LONGEST_PARTS = 60 * 1024
_PAGE = 1000
_AUDIO: Mapping[str, people.Kind] = {"recordingID": "recording", "voicemailID": "voicemail"}

Pointers = Set[tuple[str, Pointer]]


class Calls:
    """
    The stories of calls in a storage account; national numbers belong to `region`.

    A process remembers those that it merged last, which saves a read for each event.
    """

    def __init__(self, storage: Storage, region: str) -> None:
        self._storage, self._table, self._region = storage, storage.table(TABLE), region
        self._known: dict[int, rows.Row] = {}
        self._turns = [Lock() for _ in range(_TURNS)]

    def merge(
        self, call_id: int, event: ReceivedEvent | None, stored: Pointers = frozenset(), *, repeat: bool = False
    ) -> None:
        """
        Add an event to its call's story; an event that adds nothing costs no write.

        `stored` has the event's pointers, which the caller has stored. Without an event the call's end is given up: the
        outcome is `unknown` until an end arrives. A `repeat` most likely has a story, so it is read first unless this
        process remembers it. Raises Conflict if others kept changing the call.
        """

        def merged(row: rows.Row | None) -> Mapping[str, Any] | None:
            before = gathered_in(row)
            gathered = before.with_event(event) if event else replace(before, given_up=True)
            if gathered == before:
                return None
            columns = _columns(call_id, gathered, self._region)
            old: Mapping[str, Any] = row if row is not None else {"began": now()}
            columns["began"] = call_start(call_id) or columns.get("started") or old["began"]
            # Pointers first: after a death in between, the story still lacks its event and the next run adds both.
            known = stored | _pointers(before.parts.values(), call_id, old["began"], self._region, whole=True)
            wanted = _pointers(gathered.parts.values(), call_id, columns["began"], self._region, whole=True)
            people.add(self._storage, wanted - known)
            if columns["outcome"] not in UNENDED:
                columns["over"] = old.get("over") or self._end(call_id, event)
            return columns

        # Threads of this process take turns at a call; the ETag guards it against other instances.
        with self._turns[call_id % _TURNS]:
            known = self._known.get(call_id)
            if known is None and (repeat or event is None):
                known = get(self._storage, call_id)
            # A call that is not remembered is most often new: creating its row unread takes one request.
            written = rows.change(self._table, PARTITION, descending(call_id), merged, known)
            if written is not None:
                if len(self._known) >= _REMEMBERED:
                    self._known.clear()
                self._known[call_id] = written

    def _end(self, call_id: int, event: ReceivedEvent | None) -> datetime:
        """Return the present as the time a call ended; store it for triggers, unless the event is of old history."""
        moment = now()
        if event is None or event.origin != "backfill":
            key = f"{clock(moment):016d}-{descending(call_id)}"
            rows.put(self._storage.table(ENDED), {"PartitionKey": PARTITION, "RowKey": key, "at": moment})
        return moment

    def find(self, started: datetime, caller: str | None) -> Mapping[str, Any] | None:
        """
        Return the row of the only call that a caller began in a second; None if there are none or several.

        Withheld numbers count as one caller.
        """
        person = people.number(caller, self._region)
        near = people.find(self._storage, person, ["call"], first=started, last=started, limit=_MOST_IN_SECOND)
        # A number's pointers lead also to the calls that it received.
        found = by_pointers(self._storage, near)
        fitting = [row for row in found if people.number(row.get("caller"), self._region) == person]
        return fitting[0] if len(fitting) == 1 else None


calls = once(Calls)


def add_to_story(bridge: Bridge, event: ReceivedEvent, *, repeat: bool = False) -> bool | None:
    """
    Add an event, whose `pointers` are stored, to the story of its call, if it has one.

    Return False for a voicemail whose call is not known yet. A voicemail names no call, but began in the same second.
    """
    stories = calls(bridge.storage, bridge.settings.default_region)
    call_id: int | None = event.data.get("callID")
    if call_id is None:
        started = event.data.get("callStarted")
        if started is None or "voicemailID" not in event.data:
            return None
        row = stories.find(started, event.caller)
        if row is None:
            return False
        call_id = int(rows.value_of(row["callID"]))
    stories.merge(call_id, event, pointers(event, bridge.settings.default_region), repeat=repeat)
    return None


def pointers(event: ReceivedEvent, region: str) -> Pointers:
    """
    Return the pointers from the people in an event to its call and audio; none if only the story has the call's start.

    Without a call, such as for a voicemail whose call is not found yet, pointers have the event's own time.
    """
    call_id = event.data.get("callID")
    began = call_start(call_id) if call_id is not None else event.data.get("callStarted") or event.moment
    return _pointers([part_of(event)], call_id, began, region) if began else set()


def _pointers(
    parts: Collection[Part], call_id: int | None, began: datetime, region: str, *, whole: bool = False
) -> Pointers:
    """Return the pointers from the people in parts to a call and its audio; a `whole` call may be withheld."""
    subjects, things, is_withheld = set[str](), set[Pointer](), whole and bool(parts)
    if call_id is not None:
        things.add(Pointer("call", str(call_id), began))
    for part in parts:
        for name, value in part.items():
            if name in ("caller", "destination"):
                subjects.add(people.number(value, region))
                is_withheld = is_withheld and name != "caller"
            elif name in ("contactID", "previous_contactID"):
                subjects.add(people.employee(value))
            elif name in _AUDIO:
                things.add(Pointer(_AUDIO[name], str(value), began))
    if is_withheld:
        subjects.add(people.number(None, region))
    return {(subject, thing) for subject in subjects for thing in things}


def _columns(call_id: int, gathered: Gathered, region: str) -> dict[str, Any]:
    """Return the columns of a call, with as many parts as fit."""
    while len(packed := zlib.compress(json.dumps([*gathered.parts.values()]).encode())) > _LONGEST_PARTS:
        gathered = gathered.cut(len(gathered.parts) // 2)
    columns: dict[str, Any] = {"callID": rows.long(call_id), "parts": packed, "givenUp": gathered.given_up or None}
    for name, value in story_of(call_id, gathered, region).items():
        if name == "answeredBy" and value is not None:
            columns[name] = rows.long(value)
        elif value is not None:
            columns[name] = json.dumps(value) if isinstance(value, list) else value
    return columns


def gathered_in(row: Mapping[str, Any] | None) -> Gathered:
    """Return the parts that a call's row was computed from."""
    if row is None:
        return Gathered()
    parts = json.loads(zlib.decompress(row["parts"]))
    return Gathered({place_of(part): part for part in parts}, bool(row.get("truncated")), bool(row.get("givenUp")))


def newest(
    storage: Storage,
    *,
    limit: int,
    first: datetime | None = None,
    last: datetime | None = None,
    start: str = "",
    where: str = "",
    select: Sequence[str] | None = None,
) -> tuple[list[dict[str, Any]], str]:
    """
    Return rows of calls that began from `first` to before `last`, newest first, and the key to `start` from next.

    The key is empty at the end. Calls whose callID spells no start are sorted by it, before and after all others.
    `where` is a further condition; the service reads also the rows that it leaves out.
    """
    table, page = storage.table(TABLE), list[dict[str, Any]]()
    for span in _spans(first, last):
        conditions = [span, f"RowKey ge '{start}'" if start else "", f"({where})" if where else ""]
        query = table.query_entities(
            " and ".join(filter(None, conditions)),
            select=["RowKey", *select] if select else None,
            results_per_page=min(limit + 1 - len(page), _PAGE),
        )
        page += islice(query, limit + 1 - len(page))
        if len(page) > limit:
            return page[:limit], str(page[limit]["RowKey"])
    return page, ""


def _spans(first: datetime | None, last: datetime | None) -> list[str]:
    """
    Return the conditions for calls that began from `first` to before `last`, in the order of their keys.

    A callID that spells a start is found by its key, any other by the column `began`.
    """
    # A call belongs to the second in which it began.
    low = max(clock(first.replace(microsecond=0)), FIRST_CLOCK_ID) if first else FIRST_CLOCK_ID
    high = max(clock(last.replace(microsecond=0)), FIRST_CLOCK_ID) if last else LAST_CLOCK_ID
    times = [f"began ge datetime'{iso(first)}'"] if first else []
    times += [f"began lt datetime'{iso(last)}'"] if last else []
    spelt = [f"RowKey gt '{descending(high)}'", f"RowKey le '{descending(low)}'"]
    beyond = [f"RowKey le '{descending(LAST_CLOCK_ID)}'", *times]
    counted = [f"RowKey gt '{descending(FIRST_CLOCK_ID)}'", *times]
    return [" and ".join((f"PartitionKey eq '{PARTITION}'", *span)) for span in (beyond, spelt, counted)]


def without_end(storage: Storage, first: datetime, last: datetime, limit: int) -> list[int]:
    """Return the callIDs of calls that began between two times and whose end has not arrived."""
    where = " or ".join(f"outcome eq '{outcome}'" for outcome in UNENDED)
    unended, _ = newest(storage, limit=limit, first=first, last=last, where=where, select=["outcome"])
    return [from_descending(row["RowKey"]) for row in unended]


def ended(storage: Storage, after: int, until: int, limit: int) -> list[tuple[int, Mapping[str, Any] | None]]:
    """
    Return the calls that ended after one time and up to another, in that order, each with that time.

    Times are microseconds since 1970, and those at which an end was first known. A row is None if the call is gone or
    another writer has ended it first, so that each call is returned once.
    """
    span = f"PartitionKey eq '{PARTITION}' and RowKey gt '{after:016d}~' and RowKey lt '{until:016d}~'"
    marks = list(islice(storage.table(ENDED).query_entities(span, results_per_page=min(limit, _PAGE)), limit))
    wanted = [(mark["RowKey"].partition("-")[2], mark["at"]) for mark in marks]
    by_key = people.rows_of(storage.table(TABLE), PARTITION, wanted)
    calls_by_end = [(clock(at), by_key.get(key)) for key, at in wanted]
    return [(at, row if row is not None and clock(row["over"]) == at else None) for at, row in calls_by_end]


def by_pointers(storage: Storage, pointers: Sequence[Pointer]) -> list[Mapping[str, Any]]:
    """Return the rows of the calls that pointers lead to, in their order, without those that are gone."""
    wanted = [(descending(int(pointer.id)), pointer.moment) for pointer in pointers]
    by_key = people.rows_of(storage.table(TABLE), PARTITION, wanted)
    return [by_key[key] for key, _ in wanted if key in by_key]


def get(storage: Storage, call_id: int) -> rows.Row | None:
    """Return a call's row, or None if it is unknown."""
    return rows.get(storage.table(TABLE), PARTITION, descending(call_id))


def expire(storage: Storage, period: Period, allowance: Allowance) -> int:
    """Delete the stories of calls that began within a period."""
    found = expire_rows(storage.table(ENDED), period.condition("at"), allowance)
    for span in _spans(period.first, period.last):
        found += expire_rows(storage.table(TABLE), span, allowance)
    return found
