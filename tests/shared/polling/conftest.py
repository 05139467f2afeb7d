"""Bridges to the simulated PBX."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from dev.simulator import Simulator
from shared.bridge import Bridge
from shared.settings import Settings
from tests.polls import bridge_to


@pytest.fixture
def start(pbx: Simulator, settings: Settings) -> Callable[..., Bridge]:
    """Start the bridge of a new process; `changes` are settings."""
    return lambda **changes: bridge_to(pbx, settings, **changes)


@pytest.fixture
def bridge(start: Callable[..., Bridge]) -> Bridge:
    return start()
