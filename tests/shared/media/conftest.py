"""A PBX with a recording and a voicemail, and bridges that copy from it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import cast

import pytest

from dev.simulator import Simulator
from shared.bridge import Bridge
from shared.pbx.budget import Budget
from shared.pbx.client import Pbx
from shared.settings import Settings
from shared.storage.account import Storage
from tests.copying import CALL, RECORDING, STARTED, VOICEMAIL
from tests.outbox import Outbox, outbox


class _Unlimited:
    def take(self, lane: str, *, until: float | None = None) -> None:
        """Always: the budget has tests of its own."""


@pytest.fixture(scope="module")
def pbx() -> Iterator[Simulator]:
    with Simulator(api_key="secret-key") as simulator:
        yield simulator


@pytest.fixture(autouse=True)
def _fresh(pbx: Simulator) -> None:
    pbx.reset()
    pbx.options.file_needs_key = True
    call = {"callID": CALL, "caller": "27771153", "destination": "67000123", "contactID": 966, "direction": "in"}
    pbx.add("call_records", RECORDING, **call, callStarted=STARTED)
    pbx.add("voicemails", VOICEMAIL, sender="27771153", callStarted=STARTED)


@pytest.fixture
def open_bridge(pbx: Simulator, connection_string: str) -> Callable[..., Bridge]:
    """A bridge as a new process has it; `changes` are settings."""

    def start(**changes: str) -> Bridge:
        environment = {"DataStorage": connection_string, "PBX_BASE_URL": pbx.base_url, "PBX_API_KEY": "secret-key"}
        settings = Settings.from_env({**environment, **changes})
        storage = Storage(settings.storage)
        client = Pbx(settings, cast("Budget", _Unlimited()), pause=lambda seconds: None)
        return Bridge(settings=settings, storage=storage, pbx=client)

    return start


@pytest.fixture
def bridge(open_bridge: Callable[..., Bridge]) -> Bridge:
    return open_bridge()


@pytest.fixture
def sent(bridge: Bridge) -> Outbox:
    """Yield the messages that the bridge puts on queues, with their delays."""
    return outbox(bridge.storage)
