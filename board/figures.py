"""Count the calls of a day and of four weeks, and shape the charts."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from statistics import median
from typing import TYPE_CHECKING, Any

from shared.api.calls import is_lost
from shared.times import day_bounds

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from datetime import date, datetime, tzinfo

    Row = Mapping[str, Any]

HOUR = timedelta(hours=1)
COLUMNS = ("started", "ended", "outcome", "direction", "callerE164", "caller", "destinationE164", "destination")
# Bars of the day's chart, from the bottom up.
SERIES = ("answered", "missed", "other")
_ANSWERED = ("answered", "talking")


@dataclass(slots=True)
class Figures:
    """A day in numbers; `callers` reached nobody at first, `reached` of them were spoken to later."""

    calls: int = 0
    incoming: int = 0
    outgoing: int = 0
    answered: int = 0
    missed: int = 0
    callers: int = 0
    reached: int = 0
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


@dataclass(frozen=True, slots=True)
class Hour:
    """An hour of a day: its label, and calls by series."""

    label: str
    counts: Mapping[str, int]

    @property
    def total(self) -> int:
        """Return how many calls began in it."""
        return sum(self.counts.values())


def is_incoming(row: Row) -> bool:
    """True unless somebody of the company called."""
    return (row.get("direction") or "").lower() != "out"


def figures(found: Sequence[Row]) -> Figures:
    """Return what a day's calls add up to, whatever their order."""
    day = Figures(calls=len(found))
    waiting: dict[str, datetime] = {}
    for row in sorted(found, key=lambda row: row["started"]):
        incoming, answered = is_incoming(row), row["outcome"] in _ANSWERED
        day.incoming += incoming
        day.outgoing += not incoming
        side = "caller" if incoming else "destination"
        person = row.get(f"{side}E164") or row.get(side) or ""
        if incoming:
            day.answered += answered
            day.missed += is_lost(row)
        if is_lost(row) and person and person not in waiting:
            waiting[person] = row["started"]
            day.callers += 1
        elif answered and person in waiting:
            day.reached += 1
            day.seconds.append((row["started"] - waiting.pop(person)).total_seconds())
    return day


def hours_of(day: date, zone: tzinfo) -> list[tuple[datetime, str]]:
    """Return each hour of a day with its label, 23 to 25 of them; one that comes twice has its zone in it."""
    first, end = day_bounds(day, zone)
    starts = [first + number * HOUR for number in range(round((end - first) / HOUR))]
    labels = [f"{start.astimezone(zone):%H}" for start in starts]
    twice = {label for label, count in Counter(labels).items() if count > 1}
    return [
        (start, f"{label} {start.astimezone(zone):%Z}" if label in twice else label)
        for start, label in zip(starts, labels, strict=True)
    ]


def by_hour(found: Iterable[Row], day: date, zone: tzinfo) -> list[Hour]:
    """Return the hours of a day with their calls by series."""
    hours = hours_of(day, zone)
    counts = [Counter(dict.fromkeys(SERIES, 0)) for _ in hours]
    for row in found:
        index = int((row["started"] - hours[0][0]) // HOUR)
        if 0 <= index < len(hours):
            series = "missed" if is_lost(row) else "answered" if row["outcome"] in _ANSWERED else "other"
            counts[index][series] += 1
    return [Hour(label, count) for (_, label), count in zip(hours, counts, strict=True)]


def by_weekday(found: Iterable[Row], zone: tzinfo) -> tuple[range, dict[tuple[int, int], tuple[int, int]]]:
    """Return the hours in which anybody called, and of each weekday and hour how many were answered of how many."""
    cells: dict[tuple[int, int], list[int]] = {}
    for row in found:
        decided = row["outcome"] in _ANSWERED or is_lost(row)
        if is_incoming(row) and decided:
            local = row["started"].astimezone(zone)
            cell = cells.setdefault((local.weekday(), local.hour), [0, 0])
            cell[0] += row["outcome"] in _ANSWERED
            cell[1] += 1
    hours = [hour for _, hour in cells]
    span = range(min([8, *hours]), max([17, *hours]) + 1)
    return span, {key: (answered, total) for key, (answered, total) in cells.items()}


def ticks(most: int) -> list[int]:
    """Return the marks of an axis of whole numbers from 0 to at least `most`, four or five of them."""
    step = next(step for step in _steps() if step * 4 >= max(most, 1))
    return list(range(0, max(most, 1) + step, step))


def _steps() -> Iterator[int]:
    power = 1
    while True:
        yield from (power, 2 * power, 5 * power)
        power *= 10
