"""The Logic Apps face: a list over many rows against one over few, and an action against the PBX itself."""

from __future__ import annotations

import statistics
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import requests

from dev.azurite import AzuriteProcess
from dev.bench.figures import ROUNDS, at_most, median_ratio, seconds
from dev.processes import HostProcess
from dev.simulator import SimulatorProcess
from shared.items.intake import Intake, row_of
from shared.settings import Settings
from shared.storage.account import Storage

if TYPE_CHECKING:
    from dev.bench.figures import Figure

_ROOT = Path(__file__).resolve().parents[2]
_MANY, _FEW = 20_000, 1_000
# The emulator takes rows faster in the order of their keys.
_CHUNK = 97
_LISTS_IN_ROUND = 40
# Five rounds and a warm-up stay below the budget of 100 calls a minute.
_ACTIONS_IN_ROUND = 15
_CONTACT = 966


def figures() -> list[Figure]:
    """The list's time over many rows as a ratio, and the milliseconds that an action takes longer through us."""
    with AzuriteProcess(accounts=2) as azurite, SimulatorProcess() as pbx, ExitStack() as running:
        pbx.control("POST", "items", resource="contacts", id=_CONTACT, firstname="Anna")
        hosts = []
        for number, rows in enumerate((_MANY, _FEW)):
            environment = {
                "DataStorage": azurite.account(number),
                "PBX_BASE_URL": pbx.base_url,
                "PBX_API_KEY": pbx.api_key,
            }
            storage = Storage(Settings.from_env(environment).storage)
            storage.ready()
            _fill(storage, rows)
            functions = ("GetCallHistory", "GetContactsByID")
            hosts.append(running.enter_context(HostProcess(_ROOT, env=environment, functions=functions)))
        session = running.enter_context(requests.Session())
        session.trust_env = False
        many, few = (host.url for host in hosts)
        ratio = median_ratio(lambda: _list(session, many), lambda: _list(session, few))
        more = _longer(session, few, pbx)
    return [
        at_most(f"List, newest 50 of {_MANY:,} rows", f"newest 50 of {_FEW:,} rows", ratio, 1.5),
        at_most("Action through us, p50, ms more", "the same call straight to the simulator", more, 10),
    ]


def _fill(storage: Storage, count: int) -> None:
    intake, moment = Intake(storage, "call_history"), datetime.now(UTC)
    for start in range(0, count, _CHUNK):
        rows = [row_of(number, _call(number)) for number in range(start + 1, min(start + _CHUNK, count) + 1)]
        intake.add(rows, moment)


def _call(number: int) -> dict[str, object]:
    return {
        "callID": number,
        "caller": "27771153",
        "destination": "+37167000123",
        "direction": "in",
        "status": 1,
        "callStarted": "2018-04-25T13:54:19+0000",
        "callConnected": "2018-04-25T13:54:25+0000",
        "callEnded": "2018-04-25T13:57:30+0000",
        "connectionTime": 185,
        "contactID": _CONTACT,
    }


def _list(session: requests.Session, url: str) -> float:
    def round_() -> None:
        for _ in range(_LISTS_IN_ROUND):
            answer = session.get(f"{url}/api/v2/trigger/call_history?initial_call_id=0&limit=50", timeout=60)
            if len(answer.json()["data"]) != 50:
                raise RuntimeError("the list is not what it should be")

    return seconds(round_)


def _longer(session: requests.Session, url: str, pbx: SimulatorProcess) -> float:
    direct, ours = f"{pbx.base_url}contacts/{_CONTACT}", f"{url}/api/v2/contacts/{_CONTACT}"
    key = {"Authorization": f"Bearer {pbx.api_key}"}
    _median(session, direct, key)
    _median(session, ours, {})
    more = [_median(session, ours, {}) - _median(session, direct, key) for _ in range(ROUNDS)]
    return 1000 * statistics.median(more)


def _median(session: requests.Session, url: str, headers: dict[str, str]) -> float:
    def once() -> None:
        session.get(url, headers=headers, timeout=10).raise_for_status()

    return statistics.median(seconds(once) for _ in range(_ACTIONS_IN_ROUND))
