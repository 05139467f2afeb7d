"""The first page: whether all is well, and the day in numbers and charts."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from flask import Blueprint, render_template
from flask_babel import get_locale

from board import figures, show
from board.callbacks import waiting
from board.workings import state
from shared.calls import store
from shared.storage.account import reaching_storage
from shared.times import day_bounds, local_day, now

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared.bridge import Bridge

blueprint = Blueprint("today", __name__)

_WEEKS = timedelta(days=28)
# Requests of a thousand that a page may cost; a company with more calls in four weeks sees its newest ones.
_MOST_CALLS = 5000
_HEIGHT, _ROW = 200, 26


@blueprint.get("/")
def index() -> str:
    """Show the day."""
    bridge, zone = show.here(), show.here().settings.time_zone
    today = local_day(now(), zone)
    first = day_bounds(today - _WEEKS + timedelta(days=1), zone)[0]
    with ThreadPoolExecutor(3) as pool:
        calls = pool.submit(_calls, bridge, first)
        problems = pool.submit(state, bridge)
        lost = pool.submit(waiting, bridge)
        found, whole = calls.result()
    of_today = [row for row in found if local_day(row["started"], zone) == today]
    hours = figures.by_hour(of_today, today, zone)
    span, cells = figures.by_weekday(found, zone)
    return render_template(
        "today.html",
        problems=problems.result().sentences,
        day=figures.figures(of_today),
        waiting=len(lost.result()),
        today=today,
        hours=hours,
        bars=_bars(hours),
        span=span,
        cells=cells,
        weekdays=_weekdays(),
        since=None if whole or not found else found[-1]["started"],
    )


def _calls(bridge: Bridge, first: Any) -> tuple[list[dict[str, Any]], bool]:
    """Return the calls since a moment, and whether that is all of them."""
    with reaching_storage():
        rows, following = store.newest(bridge.storage, first=first, limit=_MOST_CALLS, select=figures.COLUMNS)
    return [row for row in rows if row.get("started")], not following


def _weekdays() -> Sequence[str]:
    """Return the short names of the days, Monday first."""
    names = get_locale().days["stand-alone"]["abbreviated"]
    # Seven columns fit a phone: Latvian says "d." for day at the end of each.
    return [names[number].removesuffix("d.") for number in range(7)]


def _bars(hours: Sequence[figures.Hour]) -> dict[str, Any]:
    """Return the geometry of the day's chart: across in percent, so that it fits any width, and upwards in pixels."""
    marks = figures.ticks(max(hour.total for hour in hours))
    left, width = 7.0, 93.0 / len(hours)
    bars = []
    for index, hour in enumerate(hours):
        bottom = float(_HEIGHT)
        for series in figures.SERIES:
            height = hour.counts[series] / marks[-1] * (_HEIGHT - 12)
            if height:
                bottom -= height
                bars.append((series, left + index * width + width * 0.14, bottom, width * 0.72, height))
    return {
        "bars": bars,
        "labels": [
            (left + (index + 0.5) * width, hour.label, index % 3 == 0 or " " in hour.label)
            for index, hour in enumerate(hours)
        ],
        "marks": [(_HEIGHT - mark / marks[-1] * (_HEIGHT - 12), mark) for mark in marks],
        "height": _HEIGHT,
    }
