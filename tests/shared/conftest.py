"""A PBX of the test's own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dev.simulator import Simulator


@pytest.fixture
def pbx() -> Iterator[Simulator]:
    with Simulator("test-key") as simulator:
        yield simulator
