"""Timer triggers, by the clock and by hand."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from azure.storage.blob import BlobServiceClient

from dev.azurite import AzuriteProcess
from dev.host.settings import HostError
from dev.host.triggers import NEVER, Schedule
from tests.hosts import dev_host_only
from tests.waiting import until

if TYPE_CHECKING:
    from azure.storage.blob import ContainerClient
    from conftest import Sample

    Start = Callable[..., Sample]

MOMENT = datetime(2026, 2, 27, 23, 59, 58, tzinfo=UTC)
LATE = "2024-01-01T00:00:00+00:00"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("15 */5 * * * *", "2026-02-28T00:00:15"),
        ("*/5 * * * *", "2026-02-28T00:00:00"),
        ("0 30 9 * * MON", "2026-03-02T09:30:00"),
        ("0 0 3 13 * 5", "2026-03-13T03:00:00"),
        ("0 0 0 29 2 *", "2028-02-29T00:00:00"),
    ],
)
def test_a_schedule_has_seconds_first_and_both_day_fields_count(text: str, expected: str) -> None:
    assert Schedule(text).after(MOMENT) == datetime.fromisoformat(expected).replace(tzinfo=UTC)


@pytest.mark.parametrize("text", ["", "* * * * * * *", "@daily", "60 * * * * *"])
def test_an_invalid_schedule_is_refused(text: str) -> None:
    with pytest.raises(HostError, match=re.escape(repr(text))):
        Schedule(text)


def test_a_timer_runs_by_its_schedule(sample: Start) -> None:
    app = sample(TICKS="* * * * * *")
    notes = [note for note in app.noted("ticks", 6) if "at" in note]
    assert all(note["at"] % 1 < 0.5 for note in notes)
    assert len({int(note["at"]) for note in notes}) == len(notes)
    assert not any(note["past_due"] for note in notes)


@pytest.mark.slow
def test_a_timer_never_overlaps_itself_and_is_late_once(sample: Start) -> None:
    app = sample(TICKS="* * * * * *", TICK_SECONDS="1.4")
    notes = app.noted("ticks", 5, seconds=15)
    assert ["at" in note for note in notes[:5]] == [True, False, True, False, True]
    # The occurrence that passed meanwhile is run right after.
    assert notes[2]["at"] - notes[1]["ended"] < 0.3


@pytest.fixture
def hosts(azurite: AzuriteProcess) -> Iterator[ContainerClient]:
    """The container of timers' statuses; each test's host has its own id in it."""
    with BlobServiceClient.from_connection_string(azurite.connection_string) as service:
        yield service.get_container_client("azure-webjobs-hosts")


@pytest.fixture
def host_id() -> str:
    return uuid.uuid4().hex


@pytest.fixture
def monitored(sample: Start, azurite: AzuriteProcess, host_id: str) -> Callable[..., Sample]:
    """Starts the sample app on a host that keeps its timers' status."""
    settings = {"AzureWebJobsStorage": azurite.connection_string, "AzureFunctionsWebHost__hostid": host_id}
    return lambda *arguments, **more: sample(*arguments, **settings, **more)


def kept(hosts: ContainerClient, host_id: str) -> dict[str, Any]:
    """The statuses of a host's timers by the names of their functions."""
    names = hosts.list_blob_names(name_starts_with=f"timers/{host_id}/") if hosts.exists() else ()
    return {name.split("/")[2]: json.loads(hosts.download_blob(name).readall()) for name in names}


def make_late(hosts: ContainerClient, host_id: str) -> None:
    """Keep a status of timer `tick` whose next run is long past."""
    if not hosts.exists():
        hosts.create_container()
    late = json.dumps(dict.fromkeys(("Last", "Next", "LastUpdated"), LATE))
    hosts.upload_blob(f"timers/{host_id}/Host.Functions.tick/status", late, overwrite=True)


@pytest.mark.slow
def test_a_timer_without_a_status_waits_for_its_schedule_and_has_one(
    monitored: Start, hosts: ContainerClient, host_id: str
) -> None:
    app = monitored()
    until(lambda: kept(hosts, host_id))
    status = kept(hosts, host_id)["Host.Functions.tick"]
    following = Schedule("0 0 0 1 1 *").after(datetime.now(UTC))
    assert (status["Last"], status["Next"]) == (NEVER.isoformat(), following.isoformat())
    # Nothing is kept of a timer with `use_monitor=False`.
    assert set(kept(hosts, host_id)) == {"Host.Functions.tick"}
    assert app.notes("ticks") == app.notes("untracked") == []


def test_a_late_timer_runs_once_at_the_start(monitored: Start, hosts: ContainerClient, host_id: str) -> None:
    make_late(hosts, host_id)
    app = monitored()
    began = app.noted("ticks", 2)[0]
    assert began["past_due"]
    assert began["status"]["Next"] == LATE
    until(lambda: kept(hosts, host_id)["Host.Functions.tick"]["Last"] != LATE)
    last = datetime.fromisoformat(kept(hosts, host_id)["Host.Functions.tick"]["Last"])
    assert abs(last.timestamp() - began["at"]) < 1
    app.host.stop()
    in_time = monitored()
    assert in_time.host.stop() == 0
    assert len(app.notes("ticks")) == 2


@dev_host_only
@pytest.mark.slow
def test_a_timer_waits_for_storage_that_is_out_of_reach(sample: Start) -> None:
    settings = {"AzureWebJobsStorage": "UseDevelopmentStorage=true;DevelopmentStorageProxyUri=http://127.0.0.1:9"}
    app = sample(**settings)
    app.host.wait_for(lambda output: "Timer tick waits for its storage" in output, 20)
    assert app.notes("ticks") == []
    assert app.host.stop() == 0


@pytest.mark.slow
def test_a_stop_lets_a_timer_finish_and_keeps_its_status(
    monitored: Start, hosts: ContainerClient, host_id: str
) -> None:
    make_late(hosts, host_id)
    app = monitored("--grace-seconds", "0.3", TICK_SECONDS="2")
    app.noted("ticks")
    assert app.host.stop() == 0
    assert len(app.notes("ticks")) == 2
    assert kept(hosts, host_id)["Host.Functions.tick"]["Last"] != LATE
