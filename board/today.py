"""The first page: whether all is well, and the day in numbers and charts."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from flask import Blueprint, render_template
from flask_babel import get_locale, gettext

from board import figures, show
from board.callbacks import waiting
from shared.api.status import look
from shared.calls import store
from shared.times import day_bounds, local_day, now

if TYPE_CHECKING:
    from collections.abc import Sequence


blueprint = Blueprint("today", __name__)

_WEEKS = timedelta(days=28)
# Requests of a thousand that a page may cost; a company with more calls in four weeks sees its newest ones.
_MOST_CALLS = 5000
# Of the day's chart, in pixels; the highest bar leaves a margin above it.
_HEIGHT, _MARGIN = 200, 12


@blueprint.get("/")
def index() -> str:
    """Show the day."""
    bridge, zone = show.here(), show.here().settings.time_zone
    today = local_day(now(), zone)
    first = day_bounds(today - _WEEKS + timedelta(days=1), zone)[0]
    with ThreadPoolExecutor(3) as pool:
        calls = pool.submit(store.newest, bridge.storage, first=first, limit=_MOST_CALLS, select=figures.COLUMNS)
        problems = pool.submit(look, bridge)
        lost = pool.submit(waiting, bridge)
        rows, following = calls.result()
    found = [row for row in rows if row.get("started")]
    of_today = [row for row in found if local_day(row["started"], zone) == today]
    hours = figures.by_hour(of_today, today, zone)
    span, cells = figures.by_weekday(found, zone)
    names = get_locale().days["stand-alone"]["abbreviated"]
    return render_template(
        "today.html",
        problems=[problem.said(gettext) for problem in problems.result()[0]],
        day=figures.figures(of_today),
        waiting=len(lost.result()),
        hours=hours,
        chart=_chart(hours),
        span=span,
        cells=cells,
        # Seven columns fit a phone: Latvian has "d." for day at the end of each.
        weekdays=[names[number].removesuffix("d.") for number in range(7)],
        since=found[-1]["started"] if following and found else None,
    )


def _chart(hours: Sequence[figures.Hour]) -> dict[str, Any]:
    """Return the geometry of the day's chart: across in percent, so that it fits any width, and upwards in pixels."""
    marks = figures.ticks(max(counts.total() for _, counts in hours))
    scale, left, width = (_HEIGHT - _MARGIN) / marks[-1], 7.0, 93.0 / len(hours)
    bars, labels = [], []
    for index, (label, counts) in enumerate(hours):
        bottom, x = float(_HEIGHT), left + index * width
        for series in figures.SERIES:
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
