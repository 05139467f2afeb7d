"""What is known of a subscriber: who drains its outbox, until when it is left alone, and how its deliveries went."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from shared.storage import versions

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shared.deliveries.post import Outcome

# Sorts before the places of the outbox, so that one read brings both.
KEY = "lease"
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


_NAMES = tuple(field.name for field in fields(State) if field.name != "etag")


def state_of(row: Mapping[str, Any], etag: str) -> State:
    """The state in a row of table `deliveries`; raises NewerRelease."""
    versions.check(row)
    return State(**{name: row[name] for name in _NAMES if name in row}, etag=etag)
