"""Table `deliveries`: for each subscriber a partition with its state, the events that wait, and those it has had."""

from __future__ import annotations

import secrets
import time
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from shared.storage import rows
from shared.storage.account import reaching_storage
from shared.storage.expiry import IN_BATCH, delete_keys, expire_rows
from shared.times import now

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from shared.deliveries.policy import Ruling
    from shared.storage.account import Storage
    from shared.storage.expiry import Allowance, Expired, Period
    from shared.storage.rows import Row

TABLE = "deliveries"
# In the order of their keys: one read has the state and the first places, and replays come after all others.
STATE, PLACE, REPLAY, MARKER = "lease", "place-", "replay-", "sent-"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Longer than a batch takes; the next one waits so long after a process has died.
LEASE = timedelta(seconds=60)
DEAD_LETTER = "dead letter"
_COLUMNS = ("event", "marker", "tries", "first", "due")
_REPLACE = {"mode": "replace"}
# A transaction takes a hundred rows; a place and its marker are two.
_PAIRS = 50


@dataclass(slots=True)
class State:
    """
    The row of a subscriber: who posts to it now, when it is tried again, and its last results.

    `holder` posts until `until`. Nothing but replays is posted before `resume`. A message for it is seen at `wake`, and
    with `later` some places are due later. `streak` counts the events whose first try failed since the last success,
    and `rounds` the batches that failed since it is down. Each write is under `etag`.
    """

    holder: str = ""
    until: datetime = EPOCH
    resume: datetime = EPOCH
    wake: datetime = EPOCH
    later: bool = False
    streak: int = 0
    rounds: int = 0
    result: str = ""
    at: datetime | None = None
    attempt: int = 0
    milliseconds: int = 0
    delivered: datetime | None = None
    failures: int = 0
    failing: datetime | None = None
    etag: str | None = None

    @classmethod
    def of(cls, row: Mapping[str, Any], etag: str) -> State:
        """Return the state in a row."""
        return cls(**{field.name: row[field.name] for field in fields(cls) if field.name in row}, etag=etag)

    def is_held(self, moment: datetime) -> bool:
        """Return True if somebody posts to the subscriber."""
        return bool(self.holder) and self.until > moment

    def row(self, subscription: str) -> dict[str, Any]:
        """Return its columns."""
        columns = {name: value for name, value in asdict(self).items() if value is not None and name != "etag"}
        return {"PartitionKey": subscription, "RowKey": STATE, "due": EPOCH, **columns}


@dataclass(frozen=True, slots=True)
class Place:
    """
    The row of an event that waits: it is posted from `due` on and has failed `tries` times since `first`.

    Its `marker` is the row that stays: the event has had its place, and, once it is posted, with which result.
    """

    key: str
    event: str
    marker: str
    tries: int = 0
    first: datetime = EPOCH
    due: datetime = EPOCH

    @classmethod
    def of(cls, received: datetime, event: str, replay: str = "") -> Place:
        """Return a new place; that of a replay has the replay's token in its marker."""
        begin, end = (REPLAY, f"-{replay}") if replay else (PLACE, "")
        return cls(f"{begin}{position(received)}-{event}", event, f"{MARKER}{event}{end}")

    @property
    def is_replay(self) -> bool:
        """True if the event is sent again by an operator."""
        return self.key.startswith(REPLAY)


def position(received: datetime) -> str:
    """Return the part of a place's key that sorts it by its event's arrival."""
    return f"{max(int(received.timestamp() * 1_000_000), 0):016d}"


class Outbox:
    """The outbox of one subscriber."""

    def __init__(self, storage: Storage, subscription: str) -> None:
        self._table = storage.table(TABLE)
        self._id = subscription

    def put(self, events: Sequence[tuple[datetime, str]], replay: str = "") -> int:
        """
        Give events, by arrival and id, a place each, unless they have had one; return the number of those left.

        Another `replay` token is another place. An event that still waits is not replayed beside that.
        """
        if replay:
            events = self.without_waiting(events)
        for start in range(0, len(events), _PAIRS):
            part = events[start : start + _PAIRS]
            if not self._create(part, replay) and len(part) > 1:
                for event in part:
                    self._create([event], replay)
        return len(events)

    def without_waiting(self, events: Sequence[tuple[datetime, str]]) -> Sequence[tuple[datetime, str]]:
        """Return the events without those that have a place already."""
        if not events:
            return events
        low, high = f"{PLACE}{position(min(events)[0])}", f"{PLACE}{position(max(events)[0])}~"
        with reaching_storage():
            query = self._query(f"RowKey ge '{low}' and RowKey lt '{high}'", select=["RowKey"])
            waiting = {row["RowKey"] for row in query}
        return [one for one in events if Place.of(*one).key not in waiting]

    def read(self, moment: datetime, most: int) -> tuple[State, list[Place]]:
        """Return the state and the first places that are due."""
        found = self._due(STATE, moment, most + 1)
        if found and found[0]["RowKey"] == STATE:
            state, places = State.of(found[0], str(found[0].metadata["etag"])), found[1:]
        else:
            state, places = State(), found[:most]
        return state, [_place(row) for row in places]

    def replays(self, moment: datetime, most: int) -> list[Place]:
        """Return the first replays that are due."""
        return [_place(row) for row in self._due(REPLAY, moment, most)]

    def state(self) -> State:
        """Return the state alone."""
        row = rows.get(self._table, self._id, STATE)
        return State.of(row, row.etag) if row is not None else State()

    def next_due(self, state: State, moment: datetime) -> datetime | None:
        """Return the time at which the first of those places is due that are not due now."""
        with reaching_storage():
            pages = self._query(f"RowKey gt '{PLACE}' and RowKey lt '{MARKER}'", select=["RowKey", "due"]).by_page()
            found = list(next(pages, ()))
        dues = (row["due"] if row["RowKey"] > REPLAY else max(row["due"], state.resume) for row in found)
        return min((due for due in dues if due > moment), default=None)

    def is_empty(self) -> bool:
        """Return True if there is no row, not even a state."""
        with reaching_storage():
            return next(self._query(select=["RowKey"], page=1), None) is None

    def take(self, state: State) -> bool:
        """Become the one who posts; False where somebody was faster."""
        state.holder, state.until = secrets.token_hex(8), now() + LEASE
        etag = self._save(state)
        state.etag = etag or state.etag
        return etag is not None

    def note(self, state: State) -> None:
        """Write the state, unless it was changed meanwhile."""
        state.etag = self._save(state)

    def complete(self, ruling: Ruling) -> bool:
        """Write the consequences of a batch in one transaction and let go of the outbox; False if others changed it."""
        from azure.core import MatchConditions
        from azure.data.tables import TableTransactionError

        state, parts = ruling.state, [operations for _, operations in self._parts(ruling)]
        guard: dict[str, Any] = {"etag": state.etag, "match_condition": MatchConditions.IfNotModified}
        state.holder = ""
        while True:
            changes: list[Any] = [("update", state.row(self._id), _REPLACE | guard)]
            changes += [operation for part in parts for operation in part]
            try:
                rows.transact(self._table, changes)
            except TableTransactionError as error:
                if error.status_code not in rows.LOST:
                    raise
                if not error.index:
                    return False
                # That place is not there any more.
                parts = [part for part in parts if changes[error.index] not in part]
            else:
                return True

    def change(self, by: Callable[[State], None]) -> None:
        """Change the state of an outbox that has one, whoever posts meanwhile; raises Conflict."""

        def changed(row: Row | None) -> dict[str, Any] | None:
            if row is None:
                return None
            state = State.of(row, row.etag)
            by(state)
            return state.row(self._id)

        rows.change(self._table, self._id, STATE, changed)

    def hurry(self) -> int:
        """Make all places due that wait for their time, a thousand at most, and return their number."""
        condition = f"RowKey gt '{PLACE}' and RowKey lt '{MARKER}' and due gt @moment"
        with reaching_storage():
            found = list(next(self._query(condition, moment=now(), select=["RowKey"]).by_page(), ()))
        keys = ({"PartitionKey": self._id, "RowKey": row["RowKey"], "due": EPOCH} for row in found)
        return sum(rows.update(self._table, row) for row in keys)

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

    def _create(self, events: Sequence[tuple[datetime, str]], replay: str) -> bool:
        from azure.core.exceptions import HttpResponseError

        made: list[Any] = []
        for received, event in events:
            place = Place.of(received, event, replay)
            made += [("create", self._marker(place)), ("create", self._row(place))]
        try:
            rows.transact(self._table, made)
        except HttpResponseError as error:
            if error.status_code != 409:
                raise
            return False
        return True

    def _parts(self, ruling: Ruling) -> Iterable[tuple[Place, list[Any]]]:
        """Return the operations for each place."""
        results = [*ruling.delivered, *((place, DEAD_LETTER) for place, _ in ruling.dead)]
        for place, result in results:
            marker = self._marker(place, result=result, attempts=place.tries + (result != DEAD_LETTER))
            yield place, [("delete", self._key(place.key)), ("upsert", marker, _REPLACE)]
        for place in ruling.again:
            yield place, [("update", self._row(place), _REPLACE)]

    def _due(self, begin: str, moment: datetime, most: int) -> list[Any]:
        query = self._query(
            f"RowKey ge '{begin}' and RowKey lt '{MARKER}' and due le @moment", page=most, moment=moment
        )
        found: list[Any] = []
        with reaching_storage():
            # A page may be short, or empty, where much is not due.
            for page in query.by_page():
                found += page
                if len(found) >= most:
                    break
        return found[:most]

    def _query(self, *conditions: str, select: list[str] | None = None, page: int = 1000, **values: Any) -> Any:
        query, values["id"] = " and ".join(("PartitionKey eq @id", *conditions)), self._id
        return self._table.query_entities(query, parameters=values, select=select, results_per_page=page)

    def _save(self, state: State) -> str | None:
        return rows.swap(self._table, state.row(self._id), state.etag)

    def _key(self, key: str) -> dict[str, Any]:
        return {"PartitionKey": self._id, "RowKey": key}

    def _row(self, place: Place) -> dict[str, Any]:
        return self._key(place.key) | {name: getattr(place, name) for name in _COLUMNS}

    def _marker(self, place: Place, **columns: Any) -> dict[str, Any]:
        return {**self._key(place.marker), "at": now(), **columns}


def _place(row: Any) -> Place:
    return Place(key=row["RowKey"], **{name: row[name] for name in _COLUMNS})


def expire(storage: Storage, period: Period, allowance: Allowance) -> Expired:
    """
    Delete the markers that were written within a period, and the places of events that arrived within it.

    A state goes where nobody has posted since: its subscription may have ended.
    """
    markers = f"RowKey ge '{MARKER}' and RowKey lt '{MARKER}~' and {period.condition('at')}"
    state = f"RowKey eq '{STATE}' and {period.condition('until')}"
    spans = []
    for begin in (PLACE, REPLAY):
        low, high = (f"{begin}{position(moment) if moment else ''}" for moment in (period.first, period.last))
        spans.append(f"(RowKey ge '{low}' and RowKey lt '{high}')")
    query = " or ".join([f"({markers})", f"({state})", *spans])
    return expire_rows(storage.table(TABLE), query, allowance)
