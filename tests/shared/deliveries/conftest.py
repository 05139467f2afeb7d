"""A bridge that may post to this machine, and a subscriber on it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dev.listener import Listener
from shared.bridge import Bridge
from tests.outbox import Outbox, outbox


@pytest.fixture
def environment(environment: dict[str, str]) -> dict[str, str]:
    return environment | {"ALLOW_LOOPBACK_CALLBACKS": "true"}


@pytest.fixture
def listener() -> Iterator[Listener]:
    with Listener() as listener:
        yield listener


@pytest.fixture
def sent(bridge: Bridge) -> Outbox:
    return outbox(bridge.storage)
