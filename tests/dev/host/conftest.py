"""The sample app on a running host, and queues of its own for each test."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from azure.storage.queue import QueueServiceClient

from dev.azurite import AzuriteProcess
from dev.processes import HostProcess
from tests.hosts import MASTER, start_host, write_keys
from tests.waiting import until

if TYPE_CHECKING:
    from azure.storage.queue import QueueClient

APP = Path(__file__).parent / "sample_app"
NEVER = "0 0 0 1 1 *"


@dataclass(frozen=True)
class Sample:
    """A running sample app: its host, and the notes of its functions."""

    host: HostProcess
    notes_dir: Path

    def notes(self, name: str) -> list[dict[str, Any]]:
        file = self.notes_dir / name
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def noted(self, name: str, count: int = 1, seconds: float = 10) -> list[dict[str, Any]]:
        """Return the notes as soon as there are `count`."""
        return until(lambda: len(notes := self.notes(name)) >= count and notes, seconds)


@pytest.fixture(scope="session")
def azurite() -> Iterator[AzuriteProcess]:
    with AzuriteProcess() as process:
        yield process


@pytest.fixture(scope="session")
def app_dir() -> Path:
    """The sample app."""
    return APP


@pytest.fixture(scope="session")
def quiet() -> Mapping[str, str]:
    """Settings that leave the sample app's HTTP functions alone."""
    disabled = {f"AzureWebJobs.{name}.Disabled": "true" for name in ("work", "asleep", "tick", "untracked")}
    return disabled | {"AzureWebJobs_poisoned_Disabled": "true", "TICKS": NEVER, "UNMONITORED": NEVER}


@pytest.fixture(scope="session")
def plain(
    quiet: Mapping[str, str], azurite: AzuriteProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[HostProcess]:
    """The sample app with its HTTP functions alone."""
    env = {**quiet, "AzureWebJobsStorage": azurite.connection_string, "JOBS": "jobs", "Queues": ""}
    with start_host(APP, env=env | write_keys(tmp_path_factory.mktemp("secrets"), {"master": MASTER})) as host:
        yield host


@pytest.fixture
def queue(azurite: AzuriteProcess) -> Iterator[QueueClient]:
    """A queue of the test's own; its poison queue has its name and `-poison`."""
    with QueueServiceClient.from_connection_string(azurite.connection_string) as service:
        client = service.get_queue_client(f"jobs-{uuid.uuid4().hex[:12]}")
        client.create_queue()
        yield client


@pytest.fixture
def sample(azurite: AzuriteProcess, queue: QueueClient, tmp_path: Path) -> Iterator[Callable[..., Sample]]:
    """Starts the sample app on the test's queue, with settings and arguments as given."""
    with ExitStack() as running:

        def start(*arguments: str, **settings: str) -> Sample:
            env = {
                "Queues": azurite.connection_string,
                "JOBS": queue.queue_name,
                "NOTES": str(tmp_path),
                "TICKS": NEVER,
                "UNMONITORED": NEVER,
                **write_keys(tmp_path / "secrets", {"master": MASTER}),
                **settings,
            }
            return Sample(running.enter_context(start_host(APP, env=env, arguments=arguments)), tmp_path)

        yield start
