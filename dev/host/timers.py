"""Timer triggers: NCRONTAB schedules in UTC, one run of a timer at a time."""

from __future__ import annotations

import asyncio
import json
import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from croniter import croniter

from dev.host import protos
from dev.host.errors import HostError
from dev.host.settings import resolve

if TYPE_CHECKING:
    from dev.host.worker import Function, Worker

logger = logging.getLogger(__name__)


class Schedule:
    """An NCRONTAB expression of six fields, seconds first; five fields run at second 0."""

    def __init__(self, text: str) -> None:
        fields = text.split()
        if len(fields) == 5:
            fields.insert(0, "0")
        self.text = " ".join(fields)
        if len(fields) != 6 or not croniter.is_valid(self.text, second_at_beginning=True):
            raise HostError(f"{text!r} is not an NCRONTAB schedule of six fields, seconds first")

    def after(self, moment: datetime) -> datetime:
        """The first occurrence after a moment; in NCRONTAB a day has to fit both day fields."""
        following: datetime = croniter(self.text, moment, second_at_beginning=True, day_or=False).get_next(datetime)
        return following


class Timer:
    """Runs one timer function by its schedule.

    Occurrences missed while a run went on, or while the host was down, are not made up for: `past_due` is always False.
    """

    def __init__(self, worker: Worker, function: Function) -> None:
        self.schedule = Schedule(resolve(function.trigger["schedule"]))
        self._worker, self._function = worker, function
        self._last: datetime | None = None
        # One timer never overlaps itself, not even with a run by hand.
        self._alone = asyncio.Lock()

    async def run(self) -> None:
        """Run at each occurrence until cancelled; a run that has begun goes on."""
        if self._function.trigger.get("runOnStartup"):
            await asyncio.shield(asyncio.ensure_future(self.fire()))
        while True:
            occurrence = self.schedule.after(datetime.now(UTC))
            while (left := (occurrence - datetime.now(UTC)).total_seconds()) > 0:
                # Short sleeps follow the clock when it is set or the machine was asleep.
                await asyncio.sleep(min(left, 30))
            await asyncio.shield(asyncio.ensure_future(self.fire()))

    async def fire(self) -> None:
        """One run, now or as soon as the one before has ended."""
        async with self._alone:
            now = datetime.now(UTC)
            data = _data(self._last or now, self.schedule.after(now))
            self._last = now
            await self._worker.invoke(self._function, data, {})


def _data(last: datetime, following: datetime) -> protos.TypedData:
    request: dict[str, Any] = {
        "Schedule": {"AdjustForDST": True},
        "ScheduleStatus": {
            "Last": last.isoformat(),
            "Next": following.isoformat(),
            "LastUpdated": last.isoformat(),
        },
        "IsPastDue": False,
    }
    return protos.TypedData(json=json.dumps(request))
