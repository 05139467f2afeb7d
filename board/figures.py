"""Count the calls of a day and of four weeks, and shape the charts."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import product
from statistics import median
from typing import TYPE_CHECKING, Any

from shared.api.calls import is_lost
from shared.times import day_bounds

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import date, tzinfo

    Row = Mapping[str, Any]
    # An hour of a day: its label, and calls by series.
    Hour = tuple[str, Counter[str]]

HOUR = timedelta(hours=1)
COLUMNS = ("started", "ended", "outcome", "direction", "callerE164", "caller", "destinationE164", "destination")
# Bars of the day's chart, from the bottom up.
SERIES = ("answered", "missed", "other")
_ANSWERED = ("answered", "talking")


@dataclass(slots=True)
class Figures:
    """A day in numbers; `callers` reached nobody at first, and were spoken to after so many `seconds`."""

    incoming: int = 0
    outgoing: int = 0
    answered: int = 0
    missed: int = 0
    callers: int = 0
    seconds: list[float] = field(default_factory=list)

    @property
    def share(self) -> float | None:
        """Return the part of the incoming calls that somebody answered, of those that are decided."""
        decided = self.answered + self.missed
        return self.answered / decided if decided else None

    @property
    def median_seconds(self) -> float | None:
        """Return the median time from a missed call to the next call in which both talked."""
        return median(self.seconds) if self.seconds else None


def is_incoming(row: Row) -> bool:
    """True unless somebody of the company called."""
    return (row.get("direction") or "").lower() != "out"


def _series(row: Row) -> str:
    return "missed" if is_lost(row) else "answered" if row["outcome"] in _ANSWERED else "other"


def figures(found: Iterable[Row]) -> Figures:
    """Return what a day's calls add up to, whatever their order."""
    day, waiting = Figures(), dict[str, Any]()
    for row in sorted(found, key=lambda row: row["started"]):
        incoming, series = is_incoming(row), _series(row)
        day.incoming += incoming
        day.outgoing += not incoming
        day.answered += incoming and series == "answered"
        day.missed += series == "missed"
        side = "caller" if incoming else "destination"
        person = row.get(f"{side}E164") or row.get(side) or ""
        if series == "missed" and person and person not in waiting:
            waiting[person] = row["started"]
            day.callers += 1
        elif series == "answered" and person in waiting:
            day.seconds.append((row["started"] - waiting.pop(person)).total_seconds())
    return day


def by_hour(found: Iterable[Row], day: date, zone: tzinfo) -> list[Hour]:
    """Return the 23 to 25 hours of a day with their calls; one that comes twice has its zone in its label."""
    first, end = day_bounds(day, zone)
    starts = [(first + number * HOUR).astimezone(zone) for number in range(round((end - first) / HOUR))]
    times = Counter(f"{start:%H}" for start in starts)
    hours = [(f"{start:%H %Z}" if times[f"{start:%H}"] > 1 else f"{start:%H}", Counter[str]()) for start in starts]
    for row in found:
        index = (row["started"] - first) // HOUR
        if 0 <= index < len(hours):
            hours[index][1][_series(row)] += 1
    return hours


def by_weekday(found: Iterable[Row], zone: tzinfo) -> tuple[range, dict[tuple[int, int], Counter[str]]]:
    """Return the hours in which anybody called, and by weekday and hour how the incoming calls ended."""
    cells = defaultdict[tuple[int, int], Counter[str]](Counter)
    for row in found:
        if is_incoming(row) and (series := _series(row)) != "other":
            local = row["started"].astimezone(zone)
            cells[local.weekday(), local.hour].update([series])
    hours = [hour for _, hour in cells]
    return range(min([8, *hours]), max([17, *hours]) + 1), dict(cells)


def ticks(most: int) -> Sequence[int]:
    """Return the marks of an axis of whole numbers from 0 to at least `most`, five at most."""
    sizes = (10**power * size for power, size in product(range(20), (1, 2, 5)))
    step = next(step for step in sizes if step * 4 >= most)
    return range(0, max(most, 1) + step, step)
