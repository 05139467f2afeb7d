"""Table `deliveries`: for each subscriber a partition with its outbox, what it has had, and its state."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shared.deliveries import entries
from shared.deliveries.entries import Place, State
from shared.storage import rows
from shared.storage.account import reaching_storage
from shared.storage.expiry import IN_BATCH, delete_keys, expire_rows
from shared.times import now

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from shared.deliveries.entries import Change
    from shared.storage.account import Storage
    from shared.storage.expiry import Allowance, Expired, Period
    from shared.storage.rows import Row

TABLE = "deliveries"
PAGE = 200
# A transaction takes a hundred rows; a place and its marker are two.
_PAIRS = 50


@dataclass(frozen=True, slots=True)
class Head:
    """A part of an outbox: the state, places that are due, the oldest first, and whether there may be more."""

    state: State
    places: Sequence[Place]
    more: bool


class Fenced(Exception):
    """Somebody else has the outbox now."""


class Outbox:
    """The outbox of one subscriber."""

    def __init__(self, storage: Storage, subscription: str) -> None:
        self._table = storage.table(TABLE)
        self._id = subscription

    def put(self, events: Sequence[tuple[datetime, str]], token: str = "") -> None:
        """
        Give events a place each, by the time they were received and their id, once for all time.

        An event that has its marker or its place is left alone. Another `token` is another time.
        """
        for start in range(0, len(events), _PAIRS):
            part = events[start : start + _PAIRS]
            if not self._create(part, token) and len(part) > 1:
                for event in part:
                    self._create([event], token)

    def _create(self, events: Sequence[tuple[datetime, str]], token: str) -> bool:
        from azure.core.exceptions import HttpResponseError

        made: list[Any] = []
        for received, event in events:
            place = Place.of(received, event, token)
            made += [("create", place.marked(self._id)), ("create", place.row(self._id))]
        try:
            rows.transact(self._table, made)
        except HttpResponseError as error:
            if error.status_code != 409:
                raise
            return False
        return True

    def read(self, moment: datetime, after: str = "", most: int = PAGE) -> Head:
        """What is due; `after` the key of a place, the state is not read."""
        condition = f"RowKey gt @after and RowKey lt '{entries.PLACES_END}' and due le @moment"
        with reaching_storage():
            pages = self._query(condition, page=most, after=after, moment=moment).by_page()
            found = list(next(pages, ()))
            while not found and pages.continuation_token:
                found = list(next(pages, ()))
        state = State()
        if found and found[0]["RowKey"] == entries.KEY:
            state = entries.state_of(found[0], str(found[0].metadata["etag"]))
            del found[0]
        return Head(state, [entries.place_of(row) for row in found], bool(pages.continuation_token))

    def state(self) -> State:
        """The state alone."""
        row = rows.get(self._table, self._id, entries.KEY)
        return entries.state_of(row, row.etag) if row is not None else State()

    def is_empty(self) -> bool:
        """Whether there is not even a state."""
        with reaching_storage():
            return next(self._query(select=["RowKey"], page=1), None) is None

    def next_due(self, moment: datetime) -> datetime | None:
        """When the first of the places is due that wait for their time."""
        condition = f"RowKey gt '{entries.PLACE}' and RowKey lt '{entries.PLACES_END}' and due gt @moment"
        with reaching_storage():
            return min((row["due"] for row in self._query(condition, select=["due"], moment=moment)), default=None)

    def take(self, state: State, holder: str) -> bool:
        """Become the one who drains; False where somebody was faster."""
        state.holder, state.until, state.mark = holder, now() + entries.LEASE, ""
        etag = rows.swap(self._table, state.row(self._id), state.etag)
        state.etag = etag or state.etag
        return etag is not None

    def mark(self, state: State) -> bool:
        """Have the one who drains look once more before it leaves; False where that was not the state any more."""
        if state.mark:
            return True
        state.mark = entries.WOKEN
        return rows.swap(self._table, state.row(self._id), state.etag) is not None

    def note(self, state: State) -> None:
        """Write the state of an outbox that nobody holds, unless it is another one by now."""
        state.etag = rows.swap(self._table, state.row(self._id), state.etag)

    def save(self, state: State, changes: Sequence[Change], *, leave: bool = False) -> bool:
        """
        Write state and changes in one transaction, and give the outbox back where one leaves.

        False where somebody left a mark meanwhile: all is written, but the outbox is still held. Raises Fenced, with
        nothing written, where it is another's.
        """
        from azure.data.tables import TableTransactionError

        holder, undisturbed, changes = state.holder, True, list(changes)
        while True:
            released = leave and undisturbed
            state.holder, state.until, state.mark = "" if released else holder, now() + entries.LEASE, ""
            try:
                self._write(state, changes)
                return undisturbed
            except TableTransactionError as error:
                if error.status_code not in rows.LOST:
                    raise
                known = self.state()
                if known.holder != holder:
                    raise Fenced from None
                if known.etag == state.etag:
                    # A place that is not there any more, or a row that nobody can write: never again the same.
                    if not changes:
                        raise
                    owners = [change for change in changes for _ in change.operations(self._id)]
                    # The first operation is the state's.
                    changes.remove(owners[max(error.index, 1) - 1])
                    continue
                undisturbed, state.etag = False, known.etag
                if known.mark == entries.RESTORED:
                    state.restore()

    def restore(self) -> None:
        """Begin again, whoever drains: what waited for the subscriber is tried at once; raises Conflict."""

        def restored(row: Row | None) -> dict[str, Any] | None:
            if row is None:
                return None
            state = entries.state_of(row, row.etag)
            if state.is_held(now()):
                state.mark = entries.RESTORED
            else:
                state.restore()
            return state.row(self._id)

        rows.change(self._table, self._id, entries.KEY, restored)

    def abandon(self, holder: str) -> None:
        """Give the outbox back as it is, if it can be reached."""
        known = self.state()
        if known.holder == holder:
            known.holder = ""
            rows.swap(self._table, known.row(self._id), known.etag)

    def drop(self, seconds: float) -> bool:
        """Delete all of it; False where there is more than can be deleted in that time."""
        deadline = time.monotonic() + seconds
        with reaching_storage():
            for page in self._query(select=["PartitionKey", "RowKey"], page=IN_BATCH).by_page():
                if found := list(page):
                    delete_keys(self._table, found)
                    if time.monotonic() > deadline:
                        return False
        return True

    def _query(self, *conditions: str, select: list[str] | None = None, page: int = 1000, **values: Any) -> Any:
        query, values["id"] = " and ".join(("PartitionKey eq @id", *conditions)), self._id
        return self._table.query_entities(query, parameters=values, select=select, results_per_page=page)

    def _write(self, state: State, changes: Sequence[Change]) -> None:
        from azure.core import MatchConditions

        guard: dict[str, Any] = {"etag": state.etag, "match_condition": MatchConditions.IfNotModified}
        made: list[Any] = [("update", state.row(self._id), {"mode": "replace", **guard})]
        for change in changes:
            made += change.operations(self._id)
        state.etag = str(rows.transact(self._table, made)[0]["etag"])


def expire(storage: Storage, period: Period, allowance: Allowance) -> Expired:
    """
    Delete the markers that were written within a period, and the places of events that came in within it.

    A state goes where nobody has drained since: it may be of a subscription that ended, and says little of another one.
    """
    low, high = (
        f"{entries.PLACE}{entries.position(moment) if moment else ''}" for moment in (period.first, period.last)
    )
    markers = f"RowKey ge '{entries.MARKER}' and RowKey lt '{entries.MARKER}~' and {period.condition('at')}"
    state = f"RowKey eq '{entries.KEY}' and {period.condition('until')}"
    query = f"({markers}) or ({state}) or (RowKey ge '{low}' and RowKey lt '{high}')"
    return expire_rows(storage.table(TABLE), query, allowance)
