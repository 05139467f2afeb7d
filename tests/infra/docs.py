"""The tables of docs/deploy.md that are derived from the templates: `python -m tests.infra.docs` writes them."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from typing import Any

from functions.background import TIMERS, runs_often
from shared.storage.account import QUEUES
from tests.infra.template import EVERYTHING, INFRA, built, snapshot

PAGE = INFRA.parent / "docs" / "deploy.md"
_BLOCK = re.compile(r"(<!-- (\w+) -->\n).*?(<!-- /\2 -->)", re.DOTALL)

DAYS = 30
CALLS_A_DAY = (0, 1_000, 10_000, 100_000)
MEMORY_MB = (512, 2048, 4096)
TIMER_SECONDS = "seconds a timer run (it imports the app for two on a quarter of a core)"
TABLE_OPERATIONS = "table operations a timer run (its checkpoint, its calls to the PBX)"
# Assumptions about a bridge.
ASSUMED = {
    "events a call": 4,
    "audio files a call": 1,
    "megabytes an audio file": 1,
    "deliveries to subscribers a call": 1,
    "busy hours a day, calls spread evenly over them": 10,
    "table and queue operations an event": 6,
    "table and queue operations an audio file or a delivery": 5,
    TIMER_SECONDS: 3,
    TABLE_OPERATIONS: 5,
    "blob operations an audio file": 4,
    "other blob operations a timer run (its lock)": 2,
    "blob writes of a timer with a schedule monitor, a run (its state)": 2,
    "queues that idle instances look at, once in two seconds each": 2 * len(QUEUES),
    "kilobytes of logs an execution (a request, and the host's lines about it)": 4,
    "kilobytes of access log a blob operation on audio": 1,
}
# List prices in US dollars, pay as you go, western Europe, locally redundant storage.
PRICES = {
    "a million executions, after 250,000": 0.40,
    "a million GB-seconds, after 100,000": 26.00,
    "ten thousand table operations": 0.00036,
    "ten thousand queue operations": 0.004,
    "ten thousand blob writes": 0.054,
    "ten thousand other blob operations": 0.0043,
    "a gigabyte of audio a month, hot, for its first 30 days": 0.0196,
    "a gigabyte of audio a month, cool, from then on": 0.01,
    "a gigabyte of logs, after 5": 2.76,
    "an alert rule a month": 1.50,
    "a million GB-seconds of an always-ready instance": 4.00,
}


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def parameters() -> Iterator[str]:
    yield _row("Parameter", "Type", "Default", "Meaning")
    yield "|---|---|---|---|"
    for name, param in built(INFRA / "main.bicep")["parameters"].items():
        kind = param["type"] if "items" not in param else f"{param['items']['type']}[]"
        kind = f"`{kind}{'?' if param.get('nullable') else ''}`"
        if "allowedValues" in param:
            kind = " or ".join(f"`{_bicep(value)}`" for value in param["allowedValues"])
        description = param["metadata"]["description"].removeprefix("Optional. ")
        yield _row(f"`{name}`", kind, f"`{_bicep(param.get('defaultValue'))}`", description)


def _bicep(value: Any) -> str:
    """Return a value as Bicep text; an expression without its brackets."""
    if isinstance(value, str):
        return value[1:-1] if value.startswith("[") else "'{}'".format(value.replace("'", "\\'"))
    return json.dumps(value)


def runs_a_day(schedule: str) -> int:
    """Return how often a timer runs on a day on which it does."""
    minute, hour = schedule.split()[1:3]
    return _values(minute, 60) * _values(hour, 24)


def _values(field: str, all_of_them: int) -> int:
    """Count the values of a field: all, from a start on by steps, or those that it lists."""
    if field == "*":
        return all_of_them
    start, _, step = field.partition("/")
    if step:
        return len(range(0 if start == "*" else int(start), all_of_them, int(step)))
    return field.count(",") + 1


def timer_runs(*chosen: str, monitored: bool | None = None) -> int:
    """Runs of all timers in a month, or of those with or without a schedule monitor; chosen are settings of some."""
    settings = snapshot(INFRA / "main.bicepparam").settings()
    schedules = {schedule: settings[schedule] for _, schedule, _ in TIMERS if not chosen or schedule in chosen}
    counted = [text for text in schedules.values() if monitored in (None, not runs_often(text))]
    return sum(map(runs_a_day, counted)) * DAYS


def _memory() -> float:
    app = snapshot(INFRA / "main.bicepparam").one("Microsoft.Web/sites")["properties"]
    return float(app["functionAppConfig"]["scaleAndConcurrency"]["instanceMemoryMB"]) / 1024


def _figures(calls: int) -> dict[str, float]:
    hours = ASSUMED["busy hours a day, calls spread evenly over them"]
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
    tables = timer_runs() * ASSUMED[TABLE_OPERATIONS]
    blobs = files * ASSUMED["blob operations an audio file"]
    state = ASSUMED["blob writes of a timer with a schedule monitor, a run (its state)"]
    gigabytes = audio * ASSUMED["megabytes an audio file"] / 1000
    logs = executions * ASSUMED["kilobytes of logs an execution (a request, and the host's lines about it)"]
    return {
        "executions": executions,
        "gb_seconds": (seconds * DAYS + timer_runs() * ASSUMED[TIMER_SECONDS]) * _memory(),
        "entities": entities / 2 + tables,
        "messages": entities / 2 + idle * DAYS,
        "blobs": blobs + timer_runs(monitored=True) * state,
        "locks": timer_runs() * ASSUMED["other blob operations a timer run (its lock)"],
        "hot": gigabytes * 30,
        "cool": gigabytes * 335,
        "logs": (logs + blobs * ASSUMED["kilobytes of access log a blob operation on audio"]) / 1e6,
    }


def _dollars(figures: dict[str, float]) -> dict[str, float]:
    return {
        "compute": max(figures["executions"] - 250_000, 0) / 1e6 * PRICES["a million executions, after 250,000"]
        + max(figures["gb_seconds"] - 100_000, 0) / 1e6 * PRICES["a million GB-seconds, after 100,000"],
        "operations": figures["entities"] / 1e4 * PRICES["ten thousand table operations"]
        + figures["messages"] / 1e4 * PRICES["ten thousand queue operations"]
        + figures["blobs"] / 1e4 * PRICES["ten thousand blob writes"]
        + figures["locks"] / 1e4 * PRICES["ten thousand other blob operations"],
        "audio": figures["hot"] * PRICES["a gigabyte of audio a month, hot, for its first 30 days"]
        + figures["cool"] * PRICES["a gigabyte of audio a month, cool, from then on"],
        "logs": max(figures["logs"] - 5, 0) * PRICES["a gigabyte of logs, after 5"],
    }


def idle_dollars() -> float:
    """Return the monthly cost of a bridge without calls."""
    return sum(_dollars(_figures(0)).values())


def extras() -> Iterator[str]:
    rules = len(snapshot(EVERYTHING).of("Microsoft.Insights/scheduledQueryRules"))
    yield _row("Added", "$ a month")
    yield "|---|---:|"
    yield _row(f"{rules} alert rules (`alertEmail`)", f"{rules * PRICES['an alert rule a month']:,.2f}")
    price = PRICES["a million GB-seconds of an always-ready instance"]
    for memory in MEMORY_MB:
        cost = memory / 1024 * DAYS * 24 * 3600 / 1e6 * price
        yield _row(f"{memory:,} MB always ready, while idle (`alwaysReadyInstanceCount`)", f"{cost:,.2f}")
    yield _row("The network: gateway, address, seven endpoints (`deployNetwork`)", "90")


def costs() -> Iterator[str]:
    yield _row("Calls a day", *(f"{calls:,}" if calls else "idle" for calls in CALLS_A_DAY))
    yield "|---|" + "---:|" * len(CALLS_A_DAY)
    figures = [_figures(calls) for calls in CALLS_A_DAY]
    for title, names in (
        ("Executions a month", ("executions",)),
        ("GB-seconds a month", ("gb_seconds",)),
        ("Storage operations a month", ("entities", "messages", "blobs", "locks")),
        ("Audio kept after a year, GB", ("hot", "cool")),
    ):
        yield _row(title, *(f"{sum(column[name] for name in names):,.0f}" for column in figures))
    yield _row("Logs a day, GB", *(f"{column['logs'] / DAYS:,.1f}" for column in figures))
    dollars = [_dollars(column) for column in figures]
    for title, name in (
        ("Executions and memory", "compute"),
        ("Storage operations", "operations"),
        ("Audio of one year", "audio"),
        ("Logs", "logs"),
    ):
        yield _row(f"{title}, $ a month", *(f"{column[name]:,.2f}" for column in dollars))
    yield _row("**All, $ a month**", *(f"**{sum(column.values()):,.2f}**" for column in dollars))


def assumed() -> Iterator[str]:
    yield _row("Assumed", "")
    yield "|---|---:|"
    yield from (_row(f"{name[0].upper()}{name[1:]}", f"{value:,}") for name, value in ASSUMED.items())


def prices() -> Iterator[str]:
    yield _row("Price in $", "")
    yield "|---|---:|"
    yield from (_row(f"{name[0].upper()}{name[1:]}", f"{value:g}") for name, value in PRICES.items())


BLOCKS: dict[str, Callable[[], Iterator[str]]] = {
    "parameters": parameters,
    "assumed": assumed,
    "prices": prices,
    "costs": costs,
    "extras": extras,
}


def rendered(page: str) -> str:
    """Return the page with its tables made from the templates."""

    def made(match: re.Match[str]) -> str:
        return match[1] + "\n".join(BLOCKS[match[2]]()) + "\n" + match[3] if match[2] in BLOCKS else match[0]

    return _BLOCK.sub(made, page)


def main() -> int:
    """Return 0 if the page's tables match the templates; needs the Bicep compiler."""
    if os.environ.get("BICEP") == "skip" or shutil.which(os.environ.get("BICEP") or "bicep") is None:
        sys.stderr.write("no Bicep compiler: put bicep on the PATH, or name it in BICEP\n")
        return 1
    PAGE.write_text(rendered(PAGE.read_text()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
