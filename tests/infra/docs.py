"""The tables of docs/deploy.md that follow from the templates: `python -m tests.infra.docs` writes them anew."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from tests.infra.template import EVERYTHING, INFRA, built, snapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PAGE = INFRA.parent / "docs" / "deploy.md"
_BLOCK = re.compile(r"(<!-- (\w+) -->\n).*?(<!-- /\2 -->)", re.DOTALL)

DAYS = 30
CALLS_A_DAY = (1_000, 10_000, 100_000)
# What is assumed of a bridge.
ASSUMED = {
    "events a call": 4,
    "audio files a call": 1,
    "megabytes an audio file": 1,
    "deliveries to subscribers a call": 1,
    "busy hours a day, calls spread evenly over them": 10,
    "table and queue operations an event": 6,
    "table and queue operations an audio file or a delivery": 5,
    "table operations a timer run (its checkpoint, its calls to the PBX)": 2,
    "blob operations an audio file": 4,
    "blob operations a timer run (its lock and its state)": 4,
    "queues that idle instances look at, once in two seconds each": 6,
    "kilobytes of logs an execution (a request, and the host's lines about it)": 4,
}
# List prices in US dollars, pay as you go, western Europe, locally redundant storage.
PRICES = {
    "a million executions, after 250,000": 0.40,
    "a million GB-seconds, after 100,000": 26.00,
    "ten thousand table operations": 0.00036,
    "ten thousand queue operations": 0.004,
    "ten thousand blob writes": 0.054,
    "a gigabyte of audio a month, hot, for its first 30 days": 0.0196,
    "a gigabyte of audio a month, cool, from then on": 0.01,
    "a gigabyte of logs, after 5": 2.76,
    "an alert rule a month": 1.50,
}


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def parameters() -> Iterator[str]:
    """Every parameter of main.bicep."""
    yield _row("Parameter", "Type", "Default", "What it is")
    yield "|---|---|---|---|"
    for name, param in built(INFRA / "main.bicep")["parameters"].items():
        kind = param["type"] if "items" not in param else f"{param['items']['type']}[]"
        kind = f"`{kind}{'?' if param.get('nullable') else ''}`"
        if "allowedValues" in param:
            kind = " or ".join(f"`{_bicep(value)}`" for value in param["allowedValues"])
        description = param["metadata"]["description"].removeprefix("Optional. ")
        yield _row(f"`{name}`", kind, f"`{_bicep(param.get('defaultValue'))}`", description)


def _bicep(value: Any) -> str:
    """A value as it stands in a Bicep file; an expression without its brackets."""
    if isinstance(value, str):
        return value[1:-1] if value.startswith("[") else "'{}'".format(value.replace("'", "\\'"))
    return json.dumps(value)


def _runs_a_day(schedule: str) -> int:
    minute = schedule.split()[1]
    if minute == "*":
        return 24 * 60
    step = re.fullmatch(r"\d+/(\d+)", minute)
    return 24 * 60 // int(step[1]) if step else 24


def _schedules() -> list[str]:
    settings = snapshot(INFRA / "main.bicepparam").settings()
    return [value for name, value in settings.items() if name.endswith("_SCHEDULE")]


def timer_runs() -> int:
    """Runs of all timers in a month."""
    return sum(_runs_a_day(text) for text in _schedules()) * DAYS


def _figures(calls: int) -> dict[str, float]:
    hours, memory = ASSUMED["busy hours a day, calls spread evenly over them"], 2
    events, audio, sent = (calls * ASSUMED[name] for name in [*list(ASSUMED)[:2], "deliveries to subscribers a call"])
    files = audio * DAYS
    # HTTP, processing, copying and delivering run on instances of their own. One that works is paid for by the
    # second, at least one; a group is never paid for more seconds than there are, on one instance.
    groups = (events, events, audio, sent)
    seconds = sum(min(executions, hours * 3600) for executions in groups)
    executions = sum(groups) * DAYS + timer_runs()
    idle = seconds / 2 * ASSUMED["queues that idle instances look at, once in two seconds each"]
    other = ASSUMED["table and queue operations an audio file or a delivery"] * (audio + sent)
    entities = (events * ASSUMED["table and queue operations an event"] + other) * DAYS
    tables = timer_runs() * ASSUMED["table operations a timer run (its checkpoint, its calls to the PBX)"]
    blobs = files * ASSUMED["blob operations an audio file"]
    blobs += timer_runs() * ASSUMED["blob operations a timer run (its lock and its state)"]
    gigabytes = audio * ASSUMED["megabytes an audio file"] / 1000
    return {
        "executions": executions,
        "gb_seconds": (seconds * DAYS + timer_runs()) * memory,
        "entities": entities / 2 + tables,
        "messages": entities / 2 + idle * DAYS,
        "blobs": blobs,
        "hot": gigabytes * 30,
        "cool": gigabytes * 335,
        "logs": executions * ASSUMED["kilobytes of logs an execution (a request, and the host's lines about it)"] / 1e6,
    }


def _dollars(figures: dict[str, float]) -> dict[str, float]:
    price = list(PRICES.values())
    alerts = len(snapshot(EVERYTHING).of("Microsoft.Insights/scheduledQueryRules"))
    return {
        "compute": max(figures["executions"] - 250_000, 0) / 1e6 * price[0]
        + max(figures["gb_seconds"] - 100_000, 0) / 1e6 * price[1],
        "operations": figures["entities"] / 1e4 * price[2]
        + figures["messages"] / 1e4 * price[3]
        + figures["blobs"] / 1e4 * price[4],
        "audio": figures["hot"] * price[5] + figures["cool"] * price[6],
        "logs": max(figures["logs"] - 5, 0) * price[7] + alerts * price[8],
    }


def costs() -> Iterator[str]:
    """What a month costs, worked out from the two tables above."""
    yield _row("Calls a day", *(f"{calls:,}" for calls in CALLS_A_DAY))
    yield "|---|" + "---:|" * len(CALLS_A_DAY)
    figures = [_figures(calls) for calls in CALLS_A_DAY]
    for title, names in (
        ("Executions a month", ("executions",)),
        ("GB-seconds a month", ("gb_seconds",)),
        ("Storage operations a month", ("entities", "messages", "blobs")),
        ("Audio kept after a year, GB", ("hot", "cool")),
    ):
        yield _row(title, *(f"{sum(column[name] for name in names):,.0f}" for column in figures))
    yield _row("Logs a day, GB", *(f"{column['logs'] / DAYS:,.1f}" for column in figures))
    dollars = [_dollars(column) for column in figures]
    for title, name in (
        ("Executions and memory", "compute"),
        ("Storage operations", "operations"),
        ("Audio of one year", "audio"),
        ("Logs and alerts", "logs"),
    ):
        yield _row(f"{title}, $ a month", *(f"{column[name]:,.2f}" for column in dollars))
    yield _row("**All, $ a month**", *(f"**{sum(column.values()):,.0f}**" for column in dollars))


def assumed() -> Iterator[str]:
    """What the costs take for granted."""
    yield _row("Assumed", "")
    yield "|---|---:|"
    yield from (_row(f"{name[0].upper()}{name[1:]}", f"{value:,}") for name, value in ASSUMED.items())


def prices() -> Iterator[str]:
    """What the costs take as prices."""
    yield _row("Price in $", "")
    yield "|---|---:|"
    yield from (_row(f"{name[0].upper()}{name[1:]}", f"{value:g}") for name, value in PRICES.items())


BLOCKS: dict[str, Callable[[], Iterator[str]]] = {
    "parameters": parameters,
    "assumed": assumed,
    "prices": prices,
    "costs": costs,
}


def rendered(page: str) -> str:
    """The page with its tables made from the templates."""
    return _BLOCK.sub(lambda match: match[1] + "\n".join(BLOCKS[match[2]]()) + "\n" + match[3], page)


if __name__ == "__main__":
    PAGE.write_text(rendered(PAGE.read_text()))
