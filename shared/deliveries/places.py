"""An event's place in an outbox, and what becomes of it, as rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shared.deliveries.state import EPOCH
from shared.storage import versions
from shared.times import now

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

# Between the state and the markers, in the order in which the events came.
PLACE, PLACES_END, MARKER = "place-", "place~", "sent-"
_COLUMNS = ("event", "marker", "tries", "probes", "first", "due")

Keys = dict[str, Any]


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
    """The place in a row of table `deliveries`; raises NewerRelease."""
    versions.check(row)
    return Place(key=row["RowKey"], **{name: row[name] for name in _COLUMNS})


@dataclass(frozen=True, slots=True)
class Change:
    """What becomes of a place: it goes, with a result for its marker, or without one stays with new columns."""

    place: Place
    result: str | None = None

    def operations(self, subscription: str) -> list[Any]:
        """Its part of a transaction."""
        from azure.data.tables import UpdateMode

        replace = {"mode": UpdateMode.REPLACE}
        if self.result is None:
            return [("update", self.place.row(subscription), replace)]
        marker = self.place.marked(subscription, result=self.result, attempts=self.place.tries)
        gone = {"PartitionKey": subscription, "RowKey": self.place.key}
        return [("delete", gone), ("upsert", marker, replace)]


def change_at(operation: int, changes: Sequence[Change]) -> int:
    """Which of the changes an operation belongs to, in a transaction that begins with one that belongs to none."""
    count = 0
    for number, change in enumerate(changes):
        count += 1 if change.result is None else 2
        if operation <= count:
            return number
    return len(changes) - 1
