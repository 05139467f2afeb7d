"""A list by number in a long history, against the same in a short history."""

from __future__ import annotations

from typing import Any

from dev.azurite import AzuriteProcess
from dev.bench.app import App
from dev.bench.figures import Figure, at_most, median_ratio, seconds
from dev.stored import put

_MANY, _FEW = 10_000, 1_000
_LISTS = 20
_RARE = "+37129998877"
_NUMBERS = 3
_FIRST_CALL = 1_524_664_459_097_344
_AT_ONCE = 500


def figures() -> list[Figure]:
    """
    Return the ratio of the times, each divided by the time of a bare query without results in the same table.

    This takes out the emulator's reading of the whole table for any range of keys; a storage account reads the range.
    """
    with (
        AzuriteProcess(accounts=2) as azurite,
        _filled(azurite.account(0), _MANY) as long,
        _filled(azurite.account(1), _FEW) as short,
    ):
        ratio = median_ratio(lambda: _list(long), lambda: _list(short))
    name = f"List by number with {_MANY:,} calls, in bare queries"
    return [at_most(name, f"the same with {_FEW:,} calls", ratio, 1.5)]


def _filled(connection: str, count: int) -> App:
    """Start the app with `count` stored calls, three of them with the rare number."""
    app = App(connection, "GetCallHistory")
    rare = range(0, count // _NUMBERS * _NUMBERS, count // _NUMBERS)
    for start in range(0, count, _AT_ONCE):
        numbers = range(start, min(start + _AT_ONCE, count))
        put(app.storage, "call_history", *(_call(number, is_rare=number in rare) for number in numbers))
    return app


def _call(number: int, *, is_rare: bool) -> dict[str, Any]:
    return {"callID": _FIRST_CALL + number, "caller": _RARE if is_rare else f"+3712{number:07d}", "direction": "in"}


def _list(app: App) -> float:
    """Return the time of the lists over the time of bare queries."""
    table, nothing = app.storage.table("numbers"), "PartitionKey eq 'number' and RowKey ge 'x' and RowKey lt 'y'"
    url = f"{app.url}/api/v2/trigger/call_history"

    def ask() -> None:
        for _ in range(_LISTS):
            found = app.session.get(url, params={"initial_call_id": "0", "source": _RARE}, timeout=60).json()["data"]
            if len(found) != _NUMBERS:
                raise RuntimeError(f"the list has {len(found)} calls")

    def query() -> None:
        for _ in range(_LISTS):
            list(table.query_entities(nothing))

    return seconds(ask) / seconds(query)
