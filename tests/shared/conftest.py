"""A PBX of the test's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from dev.simulator import Simulator

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def pbx() -> Iterator[Simulator]:
    with Simulator("test-key") as simulator:
        yield simulator
