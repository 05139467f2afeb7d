"""Running apps shared by several modules, since a host takes seconds to start; each has its own xdist group."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from shared.api.operations import SERVED
from tests.apps import RunningApp, running_app


@pytest.fixture(scope="session")
def shared_bridge(new_account: Callable[[], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApp]:
    """The whole app, for the group `shared_bridge`."""
    with running_app(new_account(), tmp_path_factory.mktemp("bridge")) as running:
        yield running


@pytest.fixture(scope="session")
def shared_face(new_account: Callable[[], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApp]:
    """The functions for flows, for the group `shared_face`."""
    names = (*(row.id for row in SERVED), "GetSwagger", "GetStoredAudio", "GetAudio")
    with running_app(new_account(), tmp_path_factory.mktemp("face"), *names) as running:
        yield running
