"""NCRONTAB schedules in UTC, and the status of a timer by its schedule."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from croniter import croniter

from dev.host.errors import HostError

# .NET's default(DateTime): the timer never ran.
NEVER = datetime.min.replace(tzinfo=UTC)


class Schedule:
    """An NCRONTAB expression of six fields, seconds first; five fields run at second 0."""

    def __init__(self, text: str) -> None:
        fields = text.split()
        if len(fields) == 5:
            fields.insert(0, "0")
        self.text = " ".join(fields)
        if len(fields) != 6 or not croniter.is_valid(self.text, second_at_beginning=True):
            raise HostError(f"{text!r} is not an NCRONTAB schedule of six fields, seconds first")
        self._each_minute = all(field == "*" for field in fields[1:])

    def after(self, moment: datetime) -> datetime:
        """The first occurrence after a moment; in NCRONTAB a day has to fit both day fields."""
        following: datetime = croniter(self.text, moment, second_at_beginning=True, day_or=False).get_next(datetime)
        return following

    def oftener_than_a_minute(self, now: datetime) -> bool:
        """Whether it is one of those whose status the host does not keep."""
        return self._each_minute and self.after(self.after(now)) < now + timedelta(minutes=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Status:
    """When a timer ran last, when it is to run next, and from when that was reckoned."""

    last: datetime
    next: datetime
    updated: datetime

    @classmethod
    def ran(cls, schedule: Schedule, at: datetime) -> Status:
        """The status after a run that began at a moment."""
        return cls(last=at, next=schedule.after(at), updated=at)

    @classmethod
    def new(cls, schedule: Schedule, now: datetime) -> Status:
        """The status of a timer that never ran."""
        return cls(last=NEVER, next=schedule.after(now), updated=now)

    def under(self, schedule: Schedule, now: datetime) -> Status:
        """The same where it fits the schedule; a schedule that has changed since makes no run late."""
        since = self.last if self.last != NEVER else self.updated
        following = schedule.after(since if since != NEVER else now)
        if following == self.next:
            return self
        if following < now:
            return self.new(schedule, now)
        return replace(self, last=NEVER, next=following, updated=since)

    def to_dict(self) -> dict[str, str]:
        """As the host writes it, for the function and for its blob."""
        return {
            "Last": self.last.isoformat(),
            "Next": self.next.isoformat(),
            "LastUpdated": self.updated.isoformat(),
        }

    @classmethod
    def from_json(cls, text: str | bytes) -> Status:
        """Read what `to_dict` wrote; ValueError where it is something else."""
        try:
            fields = json.loads(text)
            last, following, updated = (
                datetime.fromisoformat(fields[name]).astimezone(UTC) for name in ("Last", "Next", "LastUpdated")
            )
        except (KeyError, TypeError, OverflowError) as error:
            raise ValueError("not the status of a timer") from error
        return cls(last=last, next=following, updated=updated)
