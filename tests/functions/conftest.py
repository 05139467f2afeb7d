"""Running apps that several modules ask, as a host takes seconds to start; each in one xdist group."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from shared.api.operations import SERVED
from tests.bridges import RunningBridge, running_bridge
from tests.face import Face, face

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture(scope="session")
def shared_bridge(new_account: Callable[[], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningBridge]:
    """The whole app, without a PBX; for the group `shared_bridge`."""
    with running_bridge(new_account(), tmp_path_factory.mktemp("bridge")) as running:
        yield running


@pytest.fixture(scope="session")
def shared_face(new_account: Callable[[], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Face]:
    """The face for flows, with a PBX; for the group `shared_face`."""
    names = (*(row.id for row in SERVED), "GetSwagger", "GetStoredAudio", "GetAudio")
    with face(new_account(), tmp_path_factory.mktemp("face"), *names) as running:
        yield running
