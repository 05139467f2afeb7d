"""Table `calls`: one entity a call, merged from its events under an ETag."""

from __future__ import annotations

import json
import zlib
from collections import OrderedDict
from dataclasses import replace
from itertools import islice
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal

from shared import people
from shared.calls.parts import Gathered, involved
from shared.calls.stories import UNENDED, story_of
from shared.once import once
from shared.storage import rows
from shared.storage.expiry import Period, expire_rows
from shared.storage.rows import descending, from_descending
from shared.times import FIRST_CLOCK_ID, LAST_CLOCK_ID, MICROSECONDS_PER_SECOND, call_start, clock, iso, now

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from azure.data.tables import TableClient

    from shared.bridge import Bridge
    from shared.events.event import ReceivedEvent
    from shared.people import Pointer
    from shared.storage.account import Storage
    from shared.storage.expiry import Allowance, Expired

TABLE = "calls"
PARTITION = "call"
# In which order calls were first known to be over.
ENDED = "ended"
_REMEMBERED = 4096
_TURNS = 64
# Calls of the same number in one second.
_MOST_IN_SECOND = 20
# A column takes 64 KiB.
_LONGEST_PARTS = 60 * 1024
_PAGE = 1000


class Calls:
    """The stories of calls; what this process merged last is remembered, which saves a read for each event."""

    def __init__(self, storage: Storage, region: str) -> None:
        self._storage = storage
        self._region = region
        self._known: OrderedDict[int, rows.Row] = OrderedDict()
        self._lock = Lock()
        self._turns = [Lock() for _ in range(_TURNS)]

    def merge(self, call_id: int, event: ReceivedEvent, *, repeat: bool = False) -> None:
        """
        Add an event to its call's story; one that adds nothing costs no write.

        The story of a `repeat` is most likely there, and is read first where this process does not remember it.

        A story that grows past its bound is cut and says so, `truncated`. Raises Conflict when others kept changing
        the same call.
        """
        is_old = event.origin == "backfill"
        self._change(call_id, lambda gathered: gathered.with_event(event), is_there=repeat, is_old=is_old)

    def give_up(self, call_id: int) -> None:
        """Wait no longer for the end of a call: its outcome is `unknown` until an end comes."""
        self._change(call_id, lambda gathered: replace(gathered, given_up=True), is_there=True)

    def _change(
        self, call_id: int, by: Callable[[Gathered], Gathered], *, is_there: bool = False, is_old: bool = False
    ) -> None:
        def columns(row: rows.Row | None) -> Mapping[str, Any] | None:
            known = _gathered(row)
            gathered = by(known)
            if gathered == known:
                return None
            written, gathered = self._columns(call_id, gathered)
            first = row["began"] if row is not None else now()
            written["began"] = call_start(call_id) or written.get("started") or first
            # First: whoever dies in between finds that the story still lacks them.
            before = involved(call_id, known, self._region, first)
            people.add(self._storage, involved(call_id, gathered, self._region, first) - before)
            if written["outcome"] not in UNENDED:
                known_over = row.get("over") if row is not None else None
                written["over"] = known_over or self._end(call_id, is_old=is_old)
            return written

        # Threads of this process take turns at a call; other instances meet at the ETag.
        with self._turns[call_id % len(self._turns)]:
            # A call we know nothing of is most often new: writing first finds out in one request.
            known: rows.Row | Literal["read"] | None = self._known.get(call_id) or ("read" if is_there else None)
            written = rows.change(self._table, PARTITION, descending(call_id), columns, known)
        if written is not None:
            with self._lock:
                self._known[call_id] = written
                self._known.move_to_end(call_id)
                while len(self._known) > _REMEMBERED:
                    self._known.popitem(last=False)

    def _end(self, call_id: int, *, is_old: bool) -> datetime:
        """Store when a call was first known to be over, for those who wait for that; history is no news to them."""
        moment = now()
        if not is_old:
            key = f"{clock(moment):016d}-{descending(call_id)}"
            rows.put(self._storage.table(ENDED), {"PartitionKey": PARTITION, "RowKey": key, "at": moment})
        return moment

    def find(self, started: datetime, caller: str | None) -> int | None:
        """
        Return the callID of the call that began in the same second by the same caller, or by one without a number.

        None where no call fits, or more than one does. Calls whose callID spells their start come first.
        """
        person = people.number(caller, self._region)
        noted = people.find(self._storage, person, ["call"], first=started, last=started, limit=_MOST_IN_SECOND)
        found = sorted({int(entry.id) for entry in noted})
        for ids in ([id for id in found if call_start(id)], [id for id in found if not call_start(id)]):
            same = [id for id in ids if self._is_from(id, person)]
            if len(same) == 1:
                return same[0]
        return None

    def _is_from(self, call_id: int, person: str) -> bool:
        """True if somebody made this call, rather than being called."""
        row = rows.get(self._table, PARTITION, descending(call_id), select=["caller"])
        return row is not None and people.number(row.get("caller"), self._region) == person

    def gathered(self, call_id: int) -> Gathered:
        """Return the parts of a call's story."""
        select = ["parts", "truncated", "givenUp"]
        return _gathered(rows.get(self._table, PARTITION, descending(call_id), select))

    def contacts(self, call_id: int) -> list[int]:
        """Return the contactIDs of the employees whom a call rang."""
        row = rows.get(self._table, PARTITION, descending(call_id), select=["contacts"])
        found: list[int] = json.loads(row.get("contacts") or "[]") if row else []
        return found

    def without_end(self, first: datetime, last: datetime, limit: int) -> list[int]:
        """Return the callIDs of calls that began between two times and are ringing or talking as far as we know."""
        found: list[int] = []
        outcomes = " or ".join(f"outcome eq '{outcome}'" for outcome in UNENDED)
        for condition in _spans(first, last):
            listed = self._table.query_entities(f"{condition} and ({outcomes})", select=["RowKey"])
            found += [from_descending(row["RowKey"]) for row in islice(listed, limit - len(found))]
        return found

    def is_without_end(self, call_id: int) -> bool:
        """True if there is such a call, and it is ringing or talking as far as we know."""
        row = rows.get(self._table, PARTITION, descending(call_id), select=["outcome"])
        return row is not None and row["outcome"] in UNENDED

    @property
    def _table(self) -> TableClient:
        return self._storage.table(TABLE)

    def _columns(self, call_id: int, gathered: Gathered) -> tuple[dict[str, Any], Gathered]:
        """Return the row of a call, and those of its parts that fit there."""
        while len(packed := _pack(gathered)) > _LONGEST_PARTS:
            gathered = gathered.shorter()
        entity: dict[str, Any] = {
            "callID": rows.long(call_id),
            "parts": packed,
            "givenUp": gathered.given_up or None,
        }
        story = story_of(call_id, gathered, self._region)
        entity |= {name: json.dumps(value) if isinstance(value, list) else value for name, value in story.items()}
        if story["answeredBy"] is not None:
            entity["answeredBy"] = rows.long(story["answeredBy"])
        return {name: value for name, value in entity.items() if value is not None}, gathered


def _gathered(row: Mapping[str, Any] | None) -> Gathered:
    if row is None:
        return Gathered()
    parts = json.loads(zlib.decompress(row["parts"]))
    return Gathered(parts, bool(row.get("truncated")), bool(row.get("givenUp")))


def _pack(gathered: Gathered) -> bytes:
    return zlib.compress(json.dumps(gathered.parts, ensure_ascii=False, sort_keys=True).encode())


def _spans(first: datetime | None, last: datetime | None, column: str = "began") -> list[str]:
    """
    Return the conditions for calls that began from `first` to before `last`, in the order of their keys.

    A callID that spells a start is found by its key, any other by the column: `started`, else when it was written.
    """
    low, high = (_id_at(one) if one else None for one in (first, last))
    after = f"RowKey gt '{descending(LAST_CLOCK_ID if high is None else high)}'"
    times = [f"{column} ge datetime'{iso(first)}'"] if first else []
    times += [f"{column} lt datetime'{iso(last)}'"] if last else []
    spelt = [after, f"RowKey le '{descending(FIRST_CLOCK_ID if low is None else low)}'"]
    beyond = [f"RowKey le '{descending(LAST_CLOCK_ID)}'", *times]
    counted = [f"RowKey gt '{descending(FIRST_CLOCK_ID)}'", *times]
    return [" and ".join((f"PartitionKey eq '{PARTITION}'", *span)) for span in (beyond, spelt, counted)]


def _id_at(moment: datetime) -> int:
    return max(int(moment.timestamp()) * MICROSECONDS_PER_SECOND, FIRST_CLOCK_ID)


def expire(storage: Storage, period: Period, allowance: Allowance) -> Expired:
    """Delete the stories of calls that began within a period."""
    found = expire_rows(storage.table(ENDED), period.condition("at"), allowance)
    for number, span in enumerate(_spans(period.first, period.last)):
        found += expire_rows(storage.table(TABLE), span, allowance, name=f"calls {number}")
    return found


def calls_between(storage: Storage, period: Period, token: Any, limit: int) -> tuple[list[Mapping[str, Any]], Any]:
    """Return a page of rows of calls that began within a period, and the token of the next page."""
    spans = " or ".join(f"({span})" for span in _spans(period.first, period.last))
    query = storage.table(TABLE).query_entities(spans, results_per_page=limit)
    pages: Any = query.by_page(token)
    return list(next(pages, ())), pages.continuation_token


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

    Calls whose callID spells no start come before and after all others, by it. The key is empty at the end. `where` is
    a further condition; what it leaves out is read all the same.
    """
    table, found = storage.table(TABLE), list[dict[str, Any]]()
    for span in _spans(first, last, "started"):
        conditions = [span, f"RowKey ge '{start}'" if start else "", f"({where})" if where else ""]
        query = table.query_entities(
            " and ".join(filter(None, conditions)),
            select=["RowKey", *select] if select else None,
            results_per_page=min(limit + 1 - len(found), _PAGE),
        )
        found += islice(query, limit + 1 - len(found))
        if len(found) > limit:
            return found[:limit], str(found[limit]["RowKey"])
    return found, ""


def ended(storage: Storage, after: int, until: int, limit: int) -> list[tuple[int, Mapping[str, Any]]]:
    """
    Return calls that were first known to be over after one time and up to another, in that order, with those times.

    Times are microseconds since 1970. Each call is there once, also where several writers ended it at once.
    """
    span = f"PartitionKey eq '{PARTITION}' and RowKey gt '{after:016d}~' and RowKey lt '{until:016d}~'"
    marks = list(islice(storage.table(ENDED).query_entities(span, results_per_page=min(limit, _PAGE)), limit))
    wanted = [(mark["RowKey"].partition("-")[2], mark["at"]) for mark in marks]
    found = people.rows_of(storage.table(TABLE), PARTITION, wanted)
    over = [(clock(mark["at"]), found.get(key)) for mark, (key, _) in zip(marks, wanted, strict=True)]
    return [(at, row) for at, row in over if row is not None and clock(row["over"]) == at]


def by_pointers(storage: Storage, pointers: Sequence[Pointer]) -> list[Mapping[str, Any]]:
    """Return the rows of the calls that pointers lead to, in their order, without those that are not there."""
    wanted = [(descending(int(pointer.id)), pointer.moment) for pointer in pointers]
    found = people.rows_of(storage.table(TABLE), PARTITION, wanted)
    return [found[key] for key, _ in wanted if key in found]


def get(storage: Storage, call_id: int) -> Mapping[str, Any] | None:
    """Return a call's row, or None where it is unknown."""
    return rows.get(storage.table(TABLE), PARTITION, descending(call_id))


@once
def calls(storage: Storage, region: str) -> Calls:
    """Return this process's view of the calls in a storage account; national numbers belong to `region`."""
    return Calls(storage, region)


def add_to_story(bridge: Bridge, event: ReceivedEvent, *, repeat: bool = False) -> bool:
    """Add an event to the story of its call; False where no call is known to be it."""
    stories = calls(bridge.storage, bridge.settings.default_region)
    call_id = _call_of(event, stories)
    if call_id is not None:
        stories.merge(call_id, event, repeat=repeat)
    return call_id is not None


def _call_of(event: ReceivedEvent, calls: Calls) -> int | None:
    """Return the call that an event belongs to: by its callID, or for a voicemail by its start and caller."""
    call_id: int | None = getattr(event.data, "callID", None)
    started: datetime | None = getattr(event.data, "callStarted", None)
    if call_id is None and started and hasattr(event.data, "voicemailID"):
        return calls.find(started, event.caller)
    return call_id
