"""Fixtures of all tests: one storage emulator a worker, and an empty account of it for each test."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from typing import Any

import hypothesis
import pytest

from dev.azurite import AzuriteProcess
from dev.processes import end_with_parent
from shared.bridge import Bridge
from shared.settings import Settings
from shared.storage.account import Storage

# More than the tests of one worker use, each of them twice.
_ACCOUNTS = 3000
# A host that a test starts keeps no timer's status unless the test says where: not where local.settings.json does.
_HOST_STORAGE = "AzureWebJobsStorage"
os.environ[_HOST_STORAGE] = ""

# A worker whose controller is gone would go on for seconds, and its emulator and hosts with it.
if "PYTEST_XDIST_WORKER" in os.environ:
    end_with_parent()

# The same examples each time; CI tries more of each property than a laptop.
hypothesis.settings.register_profile("ci", max_examples=250, derandomize=True, deadline=None)
hypothesis.settings.register_profile("laptop", max_examples=10, derandomize=True, deadline=None)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "laptop")


@pytest.fixture(scope="session")
def azurite() -> Iterator[AzuriteProcess]:
    with AzuriteProcess(accounts=_ACCOUNTS) as process:
        yield process


@pytest.fixture(scope="session")
def new_account(azurite: AzuriteProcess) -> Callable[[], str]:
    """Gives the connection string of an account that nobody has used before."""
    numbers = itertools.count()
    return lambda: azurite.account(next(numbers))


@pytest.fixture
def connection_string(new_account: Callable[[], str]) -> str:
    return new_account()


@pytest.fixture
def environment(connection_string: str) -> dict[str, str]:
    """The settings of a bridge on the test's own account; the PBX is nowhere."""
    return {
        "DataStorage": connection_string,
        "PBX_BASE_URL": "http://127.0.0.1:9/api/v2/",
        "PBX_API_KEY": "Bearer test-key",
    }


@pytest.fixture
def settings(environment: dict[str, str]) -> Settings:
    return Settings.from_env(environment)


@pytest.fixture
def storage(settings: Settings) -> Storage:
    return Storage(settings.storage)


@pytest.fixture
def start_bridge(settings: Settings) -> Callable[..., Bridge]:
    """Start the bridge of a new process: the same storage, nothing in memory."""

    def start(pbx: Any = None) -> Bridge:
        storage = Storage(settings.storage)
        return Bridge(settings=settings, storage=storage, pbx=pbx)

    return start


@pytest.fixture
def bridge(start_bridge: Callable[..., Bridge]) -> Bridge:
    return start_bridge()
