"""A list by number over a long history against one over a short history."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dev.azurite import AzuriteProcess
from dev.bench.app import App
from dev.bench.figures import at_most, median_ratio, seconds
from dev.simulator import SimulatorProcess

if TYPE_CHECKING:
    from dev.bench.figures import Figure

_MANY, _FEW = 10_000, 1_000
_LISTS = 20
_RARE = "+37129998877"
_NUMBERS = 3


def figures(many: int = _MANY, few: int = _FEW) -> list[Figure]:
    """One, as a ratio."""
    with (
        AzuriteProcess(accounts=2) as azurite,
        _filled(azurite.account(0), many) as long,
        _filled(azurite.account(1), few) as short,
    ):
        ratio = median_ratio(lambda: _list(long), lambda: _list(short))
    return [at_most(f"List by number with {many:,} calls", f"with {few:,} calls", ratio, 1.5)]


def _filled(connection: str, count: int) -> App:
    """Start the app, with so many calls polled, a few of them of one number."""
    with SimulatorProcess() as pbx:
        app = App(connection, "PollCallHistory", "GetCallHistory", pbx_url=pbx.base_url, pbx_key=pbx.api_key)
        for _ in range(_NUMBERS):
            pbx.control("POST", "items", resource="call_history", caller=_RARE)
            pbx.control("POST", "bulk", resource="call_history", count=count // _NUMBERS)
        app.run("PollCallHistory")
    return app


def _list(app: App) -> float:
    url = f"{app.url}/api/v2/trigger/call_history"

    def ask() -> None:
        for _ in range(_LISTS):
            found = app.session.get(url, params={"initial_call_id": "0", "source": _RARE}, timeout=60).json()["data"]
            if len(found) != _NUMBERS:
                raise RuntimeError(f"the list has {len(found)} calls")

    return seconds(ask)
