"""Timers through a real host: what the PBX lists and what it never announced arrives in storage."""

from __future__ import annotations

import pathlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
import requests

from dev.simulator import Simulator
from functions.background import TIMERS
from shared.events.table import EVENTS
from shared.items.store import TABLE
from shared.settings import SETTINGS, Settings
from shared.storage.account import Storage
from tests.hosts import free_port, start_host
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dev.processes import HostProcess


ROOT = pathlib.Path(__file__).parents[2]
WEBHOOKS = [event for event in EVENTS if event.source == "pbx"]
NEVER = "0 0 0 1 1 *"
KEY = "webhook key"

pytestmark = pytest.mark.xdist_group("pollers")


class Running:
    """A host with the app, a simulated PBX and an account of its own."""

    def __init__(self, host: HostProcess, storage: Storage, pbx: Simulator) -> None:
        self.host, self.storage, self.pbx = host, storage, pbx

    def run(self, function: str) -> None:
        """Start a function by hand, as the portal does."""
        answer = requests.post(f"{self.host.url}/admin/functions/{function}", json={}, timeout=10)
        assert answer.status_code == 202

    def types(self) -> list[tuple[str, str]]:
        rows = self.storage.table("events").list_entities()
        return sorted((row["type"], row["origin"]) for row in rows)

    def checkpoint(self, resource: str) -> dict[str, Any]:
        rows = self.storage.table("checkpoints").query_entities(f"RowKey eq '{resource}'")
        return next((dict(row) for row in rows), {})

    def items(self, resource: str) -> int:
        rows = self.storage.table(TABLE).query_entities(f"PartitionKey eq '{resource}' and RowKey lt ':'")
        return len(list(rows))


@pytest.fixture(scope="module")
def running(new_account: Callable[[], str]) -> Iterator[Running]:
    port = free_port()
    schedules = {row.name: NEVER for row in SETTINGS if row.read_by_host}
    with Simulator(api_key="k") as pbx:
        environment = {
            "DataStorage": new_account(),
            "PBX_BASE_URL": pbx.base_url,
            "PBX_API_KEY": "k",
            "PUBLIC_BASE_URL": f"http://127.0.0.1:{port}/",
            "PBX_WEBHOOK_KEY": KEY,
            **schedules,
            "POLL_CONTACTS_SCHEDULE": "* * * * * *",
        }
        storage = Storage(Settings.from_env(environment).storage)
        storage.ready()
        with start_host(ROOT, port, env=environment) as host:
            yield Running(host, storage, pbx)


def test_every_timer_has_its_schedule_in_the_settings() -> None:
    assert {schedule for _, schedule, _ in TIMERS} == {row.name for row in SETTINGS if row.read_by_host}


def test_webhooks_are_registered_as_the_app_starts(running: Running) -> None:
    until(lambda: len(running.pbx.webhooks) == len(WEBHOOKS))


def test_a_timer_brings_a_new_contact_by_itself(running: Running) -> None:
    until(lambda: running.pbx.calls_seen("GetContacts"))
    until(lambda: list(running.storage.table("checkpoints").list_entities()))
    running.pbx.add_contact("Jauna", "Kolēģe", "26550109")
    until(lambda: ("ContactCreated", "poll") in running.types())


def test_a_call_that_was_never_announced_is_polled_and_reconciled(running: Running) -> None:
    running.run("PollCallHistory")
    until(lambda: len(running.pbx.webhooks) == len(WEBHOOKS))
    until(lambda: running.checkpoint("call_history").get("started"))
    running.pbx.hooks.faults.add("drop", "CallCompleted", times=1)
    heard = running.pbx.call("27771153", contact_id=966, rings=0.1, talks=0.1)
    until(lambda: heard.id in running.pbx.rows["call_history"])
    running.run("PollCallHistory")
    until(lambda: running.items("call_history") == 1 and running.checkpoint("call_history").get("waiting"))
    until(lambda: ("CallConnected", "webhook") in running.types())
    make_due(running.storage)
    running.run("LookAfter")
    until(lambda: ("CallCompleted", "reconciled") in running.types())
    call = [(name, origin) for name, origin in running.types() if name.startswith("Call")]
    assert call == [("CallCompleted", "reconciled"), ("CallConnected", "webhook"), ("CallStarted", "webhook")]


def make_due(storage: Storage) -> None:
    """Have the grace of what was polled pass."""
    table, checkpoints = storage.table(TABLE), storage.table("checkpoints")
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    for row in list(table.query_entities("PartitionKey eq 'call_history' and due gt datetime'1970-01-01T00:00:00Z'")):
        table.update_entity({**row, "due": begin})
    checkpoints.update_entity({"PartitionKey": "checkpoint", "RowKey": "call_history", "waiting": begin})


def test_a_timer_that_fails_says_so_and_the_next_one_goes_on(running: Running) -> None:
    fault = running.pbx.faults.add("status", match="GetGroups", status=422)
    running.run("PollGroups")
    until(lambda: fault.hits and "PbxRefused" in running.host.output)
    running.pbx.faults.clear()
    running.run("PollGroups")
    until(lambda: running.checkpoint("groups").get("last_error") == "")
