"""The rows of an outbox: what is known of the subscriber, the events that wait, and what becomes of them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from shared.times import now

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shared.deliveries.post import Outcome

# Sorts before the places of the outbox, so that one read brings both; the markers come last.
KEY, PLACE, PLACES_END, MARKER = "lease", "place-", "place~", "sent-"
_COLUMNS = ("event", "marker", "tries", "probes", "first", "due")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Longer than a post and the note of it take; who dies keeps others waiting for as long.
LEASE = timedelta(seconds=60)
# What was done to the row of a subscriber while somebody held it.
WOKEN, RESTORED = "woken", "restored"
SLOW_SECONDS = 1.0


@dataclass(slots=True)
class State:
    """
    One row a subscription, beside its outbox; `etag` fences: who has not seen the last change can change nothing.

    `holder` drains until `until`. Nothing is posted before `resume`. `wake` is when the message is seen that was put
    on the queue for later. `streak` counts events whose first try failed since the last success, `rounds` the tries of
    the whole subscriber since it counts as down, `waiting` the events on a schedule of their own.
    """

    holder: str = ""
    until: datetime = EPOCH
    mark: str = ""
    resume: datetime = EPOCH
    wake: datetime = EPOCH
    streak: int = 0
    rounds: int = 0
    waiting: int = 0
    result: str = ""
    at: datetime | None = None
    attempt: int = 0
    milliseconds: int = 0
    delivered: datetime | None = None
    failures: int = 0
    failing: datetime | None = None
    etag: str | None = None

    def is_held(self, moment: datetime) -> bool:
        """Whether somebody drains the outbox."""
        return bool(self.holder) and self.until > moment

    @property
    def is_quick(self) -> bool:
        """Whether the last answer came soon and was good, or nothing is known yet."""
        return self.failing is None and self.milliseconds < SLOW_SECONDS * 1000

    def note(self, outcome: Outcome, attempt: int, moment: datetime) -> None:
        """What came of an attempt, counted from 1."""
        self.result, self.at, self.attempt = outcome.result, moment, attempt
        self.milliseconds = round(outcome.seconds * 1000)
        if outcome.verdict == "delivered":
            self.delivered, self.failing, self.failures = moment, None, 0
            self.streak = self.rounds = 0
            self.resume = EPOCH
        else:
            self.failures += 1
            self.failing = self.failing or moment

    def restore(self) -> None:
        """Begin again: it is tried at once, and the days of failures count from now."""
        self.streak = self.rounds = self.failures = 0
        self.resume, self.failing = EPOCH, None

    def row(self, subscription: str) -> dict[str, Any]:
        """Its columns in table `deliveries`."""
        columns = {name: value for name, value in asdict(self).items() if value is not None and name != "etag"}
        return {"PartitionKey": subscription, "RowKey": KEY, "due": EPOCH, **columns}


def state_of(row: Mapping[str, Any], etag: str) -> State:
    """The state in a row of table `deliveries`."""
    return State(**{field.name: row[field.name] for field in fields(State) if field.name in row}, etag=etag)


@dataclass(frozen=True, slots=True)
class Place:
    """
    A row: an event that waits in an outbox, and `marker`, the key of the row that says what became of it.

    It is posted from `due` on. It has failed `tries` times since `first` while others succeeded, or might have, and
    `probes` times while everything failed.
    """

    key: str
    event: str
    marker: str
    tries: int = 0
    probes: int = 0
    first: datetime = EPOCH
    due: datetime = EPOCH

    @classmethod
    def of(cls, received: datetime, event: str, token: str) -> Place:
        """A new place; another token makes another marker."""
        return cls(f"{PLACE}{position(received)}-{event}", event, f"{MARKER}{event}" + (f"-{token}" if token else ""))

    def row(self, subscription: str) -> dict[str, Any]:
        """Its columns in table `deliveries`."""
        columns = {name: getattr(self, name) for name in _COLUMNS}
        return {"PartitionKey": subscription, "RowKey": self.key, **columns}

    def marked(self, subscription: str, **more: Any) -> dict[str, Any]:
        """The columns of its marker."""
        return {"PartitionKey": subscription, "RowKey": self.marker, "at": now(), **more}


def position(received: datetime) -> str:
    """How the keys of places for what came in at a time go on after PLACE."""
    return f"{max(int(received.timestamp() * 1_000_000), 0):016d}"


def place_of(row: Any) -> Place:
    """The place in a row of table `deliveries`."""
    return Place(key=row["RowKey"], **{name: row[name] for name in _COLUMNS})


@dataclass(frozen=True, slots=True)
class Change:
    """What becomes of a place: it goes, with a result for its marker, or without one stays with new columns."""

    place: Place
    result: str | None = None

    def operations(self, subscription: str) -> list[Any]:
        """Its part of a transaction."""
        replace = {"mode": "replace"}
        if self.result is None:
            return [("update", self.place.row(subscription), replace)]
        marker = self.place.marked(subscription, result=self.result, attempts=self.place.tries)
        gone = {"PartitionKey": subscription, "RowKey": self.place.key}
        return [("delete", gone), ("upsert", marker, replace)]
