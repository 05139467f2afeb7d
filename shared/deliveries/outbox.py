"""Table `deliveries`: each subscription's partition has its state, its waiting events, and a marker of each event."""

from __future__ import annotations

import logging
import math
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

from shared.bridge import Bridge
from shared.events.event import ReceivedEvent, submit
from shared.storage import rows
from shared.storage.account import Storage
from shared.storage.messages import send
from shared.storage.rows import Allowance, Period
from shared.subscriptions import STALE_SECONDS, Subscription, host_of, meets, subscriptions
from shared.times import iso, now

logger = logging.getLogger(__name__)

TABLE = QUEUE = "deliveries"
# The kinds of the queue's messages: an outbox is to be posted, or events from the feed are to be put into one.
WAKE, RANGE = "wake", "range"
# Row keys, in their order: one read returns the state and the first places, and replays come after other places.
STATE, PLACE, REPLAY, MARKER, END = "lease", "place-", "replay-", "sent-", "~"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Longer than a batch takes; it delays the next batch after a process has died.
LEASE = timedelta(seconds=60)
DEAD_LETTER = "dead letter"
_PAGE = 1000
# A transaction takes a hundred rows; a place and its marker are two.
_PAIRS = 50
# Clocks of instances differ: an event may seem to be older than a subscription that was stored before it.
_CLOCKS = timedelta(minutes=1)
# The time until all instances know a new subscription, and until an event that was processed is in the feed.
_UNKNOWN, _FEED_SECONDS = timedelta(seconds=STALE_SECONDS + 3), 3
# The time until all instances know that a subscription has ended, and put nothing into its outbox.
_END_TAKES = timedelta(seconds=10)


@dataclass(slots=True)
class State:
    """
    The row of a subscriber: its lease, when it is tried again, and its last results.

    `holder` posts until `until`. Only replays are posted before `resume`. `streak` counts the events whose first try
    has failed since the last success, and `rounds` the failed batches while it is down. Each write is under `etag`.
    """

    holder: str = ""
    until: datetime = EPOCH
    resume: datetime = EPOCH
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

    def row(self, subscription: str) -> dict[str, Any]:
        """Return its columns."""
        columns = {"PartitionKey": subscription, "RowKey": STATE, "due": EPOCH} | asdict(self)
        del columns["etag"]
        return columns


@dataclass(frozen=True, slots=True)
class Place:
    """
    The row of an event that waits: it is posted from `due` on and has had `tries` since `first`.

    `marker` is the key of the row that stays: the event has had a place and, once it is posted, a result.
    """

    key: str
    event: str
    marker: str
    tries: int = 0
    first: datetime = EPOCH
    due: datetime = EPOCH

    @classmethod
    def of(cls, received: datetime, event: str, replay: str = "") -> Place:
        """Return a new place, sorted by its event's arrival; that of a replay has the replay's token in its marker."""
        begin, end = (REPLAY, f"-{replay}") if replay else (PLACE, "")
        microseconds = max(int(received.timestamp() * 1_000_000), 0)
        return cls(f"{begin}{microseconds:016d}-{event}", event, f"{MARKER}{event}{end}")

    @property
    def is_replay(self) -> bool:
        """True if the event is sent again by an operator."""
        return self.key.startswith(REPLAY)

    def row(self, subscription: str) -> dict[str, Any]:
        """Return its columns."""
        columns = {"PartitionKey": subscription, "RowKey": self.key} | asdict(self)
        del columns["key"]
        return columns


class Outbox:
    """The outbox of one subscriber."""

    def __init__(self, storage: Storage, subscription: str) -> None:
        self._storage = storage
        self._table = storage.table(TABLE)
        self._id = subscription

    def wake(self, at: datetime | None = None) -> None:
        """Queue a message that has the outbox posted: at once, or at a time, which is a second from now at least."""
        message = {"kind": WAKE, "id": self._id, "subscription": self._id}
        delay = max(math.ceil((at - now()).total_seconds()), 1) if at else 0
        send(self._storage, QUEUE, message, name=self._id, delay=delay)

    def put(self, events: Sequence[tuple[datetime, str]], replay: str = "") -> int:
        """
        Give each event, by arrival and id, a place unless it has had one; return the number of events.

        Each `replay` token gives places of its own, except to events that still wait: these are not counted.
        """
        if replay:
            events = self.without_waiting(events)
        for start in range(0, len(events), _PAIRS):
            part = events[start : start + _PAIRS]
            if not self._create(part, replay) and len(part) > 1:
                for event in part:
                    self._create([event], replay)
        return len(events)

    def _create(self, events: Sequence[tuple[datetime, str]], replay: str) -> bool:
        """Create places with their markers; return False if one of them exists."""
        from azure.core.exceptions import HttpResponseError

        made: list[Any] = []
        for received, event in events:
            place = Place.of(received, event, replay)
            for row in ({"PartitionKey": self._id, "RowKey": place.marker}, place.row(self._id)):
                made.append(("create", row | {"at": now()}))
        try:
            rows.transact(self._table, made)
        except HttpResponseError as error:
            if error.status_code != 409:
                raise
            return False
        return True

    def without_waiting(self, events: Sequence[tuple[datetime, str]]) -> Sequence[tuple[datetime, str]]:
        """Return the events that have no place now."""
        if not events:
            return events
        first, last = Place.of(*min(events)), Place.of(*max(events))
        waiting = {row["RowKey"] for row in self._rows(first.key, last.key + END, select=["RowKey"])}
        return [event for event in events if Place.of(*event).key not in waiting]

    def due(self, moment: datetime, most: int) -> tuple[State, list[Place]]:
        """Return the state and the first places that are due; only replays before the state's `resume`."""
        waiting, state = self._rows(STATE, MARKER, due=moment, most=most + 1), State()
        if waiting and waiting[0]["RowKey"] == STATE:
            row = waiting.pop(0)
            state = State.of(row, str(row.metadata["etag"]))
        if state.resume > moment:
            waiting = self._rows(REPLAY, MARKER, due=moment, most=most)
        places = []
        for row in waiting[:most]:
            places.append(Place(row["RowKey"], row["event"], row["marker"], row["tries"], row["first"], row["due"]))
        return state, places

    def state(self) -> State:
        """Return the state alone."""
        row = rows.get(self._table, self._id, STATE)
        return State.of(row, row.etag) if row is not None else State()

    def results(self, event: str) -> list[Mapping[str, Any]]:
        """Return the markers of an event, those of its replays last; `result` is absent until it is posted."""
        return self._rows(f"{MARKER}{event}", f"{MARKER}{event}{END}")

    def take(self, state: State) -> bool:
        """Take the lease; return False if another process was faster."""
        state.holder, state.until = secrets.token_hex(8), now() + LEASE
        taken = rows.swap(self._table, state.row(self._id), state.etag)
        state.etag = taken.etag if taken else state.etag
        return taken is not None

    def complete(self, state: State, finished: Sequence[tuple[Place, str]], again: Sequence[Place] = ()) -> bool:
        """
        Write the state, the results of finished places, and the places that are due again, in one transaction.

        Returns False if others have changed the state.
        """
        from azure.data.tables import TableTransactionError

        changes: list[Any] = [("update", state.row(self._id), {"mode": "replace", "etag": state.etag})]
        for place in again:
            changes.append(("update", place.row(self._id)))
        for place, result in finished:
            marker = {"RowKey": place.marker, "at": now(), "result": result, "attempts": place.tries}
            changes.append(("delete", {"PartitionKey": self._id, "RowKey": place.key}))
            changes.append(("upsert", {"PartitionKey": self._id, **marker}))
        try:
            rows.transact(self._table, changes)
        except TableTransactionError as error:
            if error.index or error.status_code not in rows.LOST:
                raise
            return False
        return True

    def try_now(self) -> int:
        """
        Make the first thousand waiting events due now, and forget the failures so far.

        Returns their number. Raises Conflict if others kept changing the state.
        """
        moment, waiting = now(), self._rows(PLACE, MARKER, most=_PAGE, select=["RowKey", "due"])
        for row in waiting:
            if row["due"] > moment:
                rows.update(self._table, {"PartitionKey": self._id, "RowKey": row["RowKey"], "due": EPOCH})
        afresh = {"resume": EPOCH, "streak": 0, "rounds": 0, "failures": 0, "failing": None}
        rows.change(self._table, self._id, STATE, lambda row: None if row is None else row | afresh)
        self.wake()
        return len(waiting)

    def drop(self, seconds: float) -> bool:
        """Delete the whole outbox; return False if rows are left after so many seconds."""
        deadline = time.monotonic() + seconds
        while found := self._rows("", END, most=rows.IN_BATCH, select=["PartitionKey", "RowKey"]):
            rows.delete_keys(self._table, found)
            if time.monotonic() > deadline:
                return False
        return True

    def _rows(
        self,
        low: str,
        high: str,
        *,
        due: datetime | None = None,
        most: int | None = None,
        select: list[str] | None = None,
    ) -> list[Any]:
        """Return the first `most` rows with keys from `low` to before `high`, of those `due` by a time if given."""
        query = "PartitionKey eq @id and RowKey ge @low and RowKey lt @high" + (" and due le @due" if due else "")
        values = {"id": self._id, "low": low, "high": high, "due": due}
        found = self._table.query_entities(query, parameters=values, select=select, results_per_page=most or _PAGE)
        return list(islice(found, most))


def expire(storage: Storage, period: Period, allowance: Allowance) -> int:
    """
    Delete the places and markers that were written within a period.

    A state goes too if nothing was posted since: its subscription may have ended.
    """
    return rows.expire_rows(storage.table(TABLE), period.condition("at"), allowance)


def fan_out(bridge: Bridge, event: ReceivedEvent) -> None:
    """Put an event into the outbox of each subscription that wants it."""
    for subscription in subscriptions(bridge).all():
        if wants(bridge, subscription, event):
            outbox = Outbox(bridge.storage, subscription.id)
            outbox.put([(event.received, event.id)])
            # Also if the event has its place already: an earlier run may have died before this line.
            outbox.wake()


def wants(bridge: Bridge, subscription: Subscription, event: ReceivedEvent, *, is_replay: bool = False) -> bool:
    """
    Return True if the event is of the subscription's type and meets its filter.

    Except for a replay, the subscription must also be enabled, and no younger than the event.
    """
    if subscription.event != event.type.name or not meets(event, subscription.wanted, bridge.settings.default_region):
        return False
    return is_replay or (not subscription.disabled and event.received >= subscription.created - _CLOCKS)


def catch_up(storage: Storage, subscription: Subscription) -> None:
    """Queue a range of the feed for a new subscription: events that arrive before all instances know of it."""
    delay = math.ceil(_UNKNOWN.total_seconds()) + _FEED_SECONDS
    send_range(storage, subscription.id, subscription.created, subscription.created + _UNKNOWN, delay=delay)


def send_range(
    storage: Storage, subscription: str, since: datetime, until: datetime, *, delay: int = 0, **more: str
) -> None:
    """Queue a message that puts events which arrived between two times into an outbox; `more` is a replay's."""
    span = {"since": iso(since), "until": iso(until), **more}
    message = {"kind": RANGE, "id": f"{subscription}-range", "subscription": subscription, **span}
    send(storage, QUEUE, message, name=subscription, delay=delay)


def set_disabled(bridge: Bridge, subscription: Subscription, disabled: bool) -> None:
    """Disable or enable a subscription, and announce the change if there is one."""

    def changed(known: Subscription) -> Subscription | None:
        return replace(known, disabled=now() if disabled else None) if bool(known.disabled) != disabled else None

    if subscriptions(bridge).change(subscription.id, changed):
        _announce(bridge, "disabled" if disabled else "recovered", subscription)


def end(bridge: Bridge, id: str, *, answer: str = "") -> None:
    """
    End a subscription and have its outbox dropped; do nothing if there is none.

    `answer` is the status by which its subscriber has ended it, which is announced. The message that drops the outbox
    is sent first, so that a death in between leaves nothing behind.
    """
    known = subscriptions(bridge)
    subscription = known.get(id)
    if subscription is None:
        # Anybody may ask with any id, so it must cost no message.
        return
    Outbox(bridge.storage, id).wake(now() + _END_TAKES)
    if known.end(id, answer=answer) and answer:
        _announce(bridge, "ended", subscription, answer=answer)


def _announce(bridge: Bridge, change: str, subscription: Subscription, **fields: str) -> None:
    """Log a subscription's change as a signal, and make an event of it."""
    details = "".join(f" {name}={value}" for name, value in fields.items())
    id, event, host = subscription.id, subscription.event, host_of(subscription.endpoint)
    logger.warning("signal subscription_%s subscription=%s event=%s%s", change, id, event, details)
    data = {"subscriptionID": id, "event": event, "host": host, "since": iso(now()), **fields}
    data |= {"name": subscription.name} if subscription.name else {}
    submit(bridge, f"Subscription{change.capitalize()}", data, origin="bridge")
