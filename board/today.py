"""The first page: problems, and figures and charts of the calls of today and of four weeks."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date, timedelta, tzinfo
from itertools import product
from statistics import median
from typing import Any

from flask import Blueprint, render_template
from flask_babel import get_locale, gettext

from board import show
from board.callbacks import waiting
from shared.api.calls import is_lost
from shared.api.status import read_parts
from shared.calls import store
from shared.times import day_bounds, local_day, now

Row = Mapping[str, Any]
# An hour of a day: its label, and its number of calls by series.
Hour = tuple[str, Counter[str]]

blueprint = Blueprint("today", __name__)

_WEEKS, _HOUR = timedelta(days=28), timedelta(hours=1)
# Five requests of a thousand rows. A company with more calls in four weeks sees the newest ones.
_MOST_CALLS = 5000
_COLUMNS = ("started", "ended", "outcome", "direction", "callerE164", "caller", "destinationE164", "destination")
_ANSWERED = ("answered", "talking")
# Bars of the day's chart, from the bottom up.
_SERIES = ("answered", "missed", "other")
# Height of that chart, and the margin above its highest bar, in pixels.
_HEIGHT, _MARGIN = 200, 12


@blueprint.get("/")
def index() -> str:
    """Show the day."""
    bridge, zone = show.here(), show.here().settings.time_zone
    today = local_day(now(), zone)
    first = day_bounds(today - _WEEKS + timedelta(days=1), zone)[0]
    with ThreadPoolExecutor(3) as pool:
        calls = pool.submit(store.newest, bridge.storage, first=first, limit=_MOST_CALLS, select=_COLUMNS)
        problems = pool.submit(read_parts, bridge)
        lost = pool.submit(waiting, bridge)
        rows, following = calls.result()
    found = [row for row in rows if row.get("started")]
    of_today = [row for row in found if local_day(row["started"], zone) == today]
    hours = by_hour(of_today, today, zone)
    span, cells = by_weekday(found, zone)
    names = get_locale().days["stand-alone"]["abbreviated"]
    return render_template(
        "today.html",
        problems=[problem.sentence(gettext) for problem in problems.result()[0]],
        day=figures(of_today),
        waiting=len(lost.result()),
        hours=hours,
        chart=_chart(hours),
        span=span,
        cells=cells,
        # Seven columns fit a phone: Latvian has "d." for day at the end of each.
        weekdays=[names[number].removesuffix("d.") for number in range(7)],
        since=found[-1]["started"] if following and found else None,
    )


@dataclass(slots=True)
class Figures:
    """
    Figures of a day.

    `callers` counts those who reached nobody; `seconds` has, for each who was spoken to later, the time until then.
    """

    incoming: int = 0
    outgoing: int = 0
    answered: int = 0
    missed: int = 0
    callers: int = 0
    seconds: list[float] = field(default_factory=list)

    @property
    def share(self) -> float | None:
        """Return the answered share of the incoming calls that were answered or missed; None without any."""
        decided = self.answered + self.missed
        return self.answered / decided if decided else None

    @property
    def median_seconds(self) -> float | None:
        """Return the median time from a missed call to the next answered call with the same person."""
        return median(self.seconds) if self.seconds else None


def figures(found: Iterable[Row]) -> Figures:
    """Return the figures of a day's calls, given in any order."""
    day, waiting = Figures(), dict[str, Any]()
    for row in sorted(found, key=lambda row: row["started"]):
        incoming, series = _is_incoming(row), _series(row)
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
    """Return the 23 to 25 hours of a day with their calls; the label of a repeated hour has its zone."""
    first, end = day_bounds(day, zone)
    starts = [(first + number * _HOUR).astimezone(zone) for number in range(round((end - first) / _HOUR))]
    times = Counter(f"{start:%H}" for start in starts)
    hours = [(f"{start:%H %Z}" if times[f"{start:%H}"] > 1 else f"{start:%H}", Counter[str]()) for start in starts]
    for row in found:
        hours[(row["started"] - first) // _HOUR][1][_series(row)] += 1
    return hours


def by_weekday(found: Iterable[Row], zone: tzinfo) -> tuple[range, dict[tuple[int, int], Counter[str]]]:
    """Return the range of hours with calls, and the incoming calls by weekday and hour, counted by series."""
    cells = defaultdict[tuple[int, int], Counter[str]](Counter)
    for row in found:
        if _is_incoming(row) and (series := _series(row)) != "other":
            local = row["started"].astimezone(zone)
            cells[local.weekday(), local.hour].update([series])
    hours = [hour for _, hour in cells]
    return range(min([8, *hours]), max([17, *hours]) + 1), dict(cells)


def _is_incoming(row: Row) -> bool:
    return (row.get("direction") or "").lower() != "out"


def _series(row: Row) -> str:
    return "missed" if is_lost(row) else "answered" if row["outcome"] in _ANSWERED else "other"


def _chart(hours: Sequence[Hour]) -> dict[str, Any]:
    """Return the geometry of the day's chart: x in percent, so that it fits any width, and y in pixels."""
    marks = ticks(max(counts.total() for _, counts in hours))
    scale, left, width = (_HEIGHT - _MARGIN) / marks[-1], 7.0, 93.0 / len(hours)
    bars, labels = [], []
    for index, (label, counts) in enumerate(hours):
        bottom, x = float(_HEIGHT), left + index * width
        for series in _SERIES:
            if counts[series]:
                bottom -= counts[series] * scale
                bars.append((series, x + width * 0.14, bottom, width * 0.72, counts[series] * scale))
        if index % 3 == 0 or " " in label:
            labels.append((x + width / 2, label))
    return {
        "bars": bars,
        "labels": labels,
        "marks": [(_HEIGHT - mark * scale, mark) for mark in marks],
        "height": _HEIGHT,
    }


def ticks(most: int) -> Sequence[int]:
    """Return the marks of an axis of whole numbers from 0 to at least `most`, five at most."""
    sizes = (10**power * size for power, size in product(range(20), (1, 2, 5)))
    step = next(step for step in sizes if step * 4 >= most)
    return range(0, max(most, 1) + step, step)
