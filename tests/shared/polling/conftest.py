"""Bridges to the simulated PBX."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.polls import bridge_to

if TYPE_CHECKING:
    from collections.abc import Callable

    from dev.simulator import Simulator
    from shared.bridge import Bridge
    from shared.settings import Settings


@pytest.fixture
def start(pbx: Simulator, settings: Settings) -> Callable[..., Bridge]:
    """Start what a new process would have; `changes` are settings."""
    return lambda **changes: bridge_to(pbx, settings, **changes)


@pytest.fixture
def bridge(start: Callable[..., Bridge]) -> Bridge:
    return start()
