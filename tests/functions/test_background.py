"""Timers through a real host: listed items and calls without webhooks arrive in storage."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from functions.background import TIMERS
from shared.events.table import EVENTS
from shared.items.store import TABLE
from shared.settings import SETTINGS
from shared.storage.account import Storage
from tests.apps import RunningApp, running_app
from tests.hosts import free_port
from tests.waiting import until

WEBHOOKS = [event for event in EVENTS if event.source == "pbx"]

pytestmark = pytest.mark.xdist_group("pollers")


def types(running: RunningApp) -> list[tuple[str, str]]:
    return sorted((row["type"], row["origin"]) for row in running.storage.table("events").list_entities())


def checkpoint(running: RunningApp, resource: str) -> dict[str, Any]:
    rows = running.storage.table("checkpoints").query_entities(f"RowKey eq '{resource}'")
    return next((dict(row) for row in rows), {})


def items(running: RunningApp, resource: str) -> int:
    rows = running.storage.table(TABLE).query_entities(f"PartitionKey eq '{resource}' and RowKey lt ':'")
    return len(list(rows))


@pytest.fixture(scope="module")
def running(new_account: Callable[[], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApp]:
    port = free_port()
    address = {"PUBLIC_BASE_URL": f"http://127.0.0.1:{port}/", "PBX_WEBHOOK_KEY": "webhook key"}
    often, directory = {"POLL_CONTACTS_SCHEDULE": "* * * * * *"}, tmp_path_factory.mktemp("background")
    with running_app(new_account(), directory, port=port, **address, **often) as running:
        yield running


def test_every_timer_has_its_schedule_in_the_settings() -> None:
    assert {schedule for _, schedule, _ in TIMERS} == {row.name for row in SETTINGS if row.read_by_host}


def test_webhooks_are_registered_as_the_app_starts(running: RunningApp) -> None:
    until(lambda: len(running.pbx.webhooks) == len(WEBHOOKS))


def test_a_timer_brings_a_new_contact_by_itself(running: RunningApp) -> None:
    until(lambda: running.pbx.calls_seen("GetContacts"))
    until(lambda: list(running.storage.table("checkpoints").list_entities()))
    running.pbx.add_contact("Jauna", "Kolēģe", "26550109")
    until(lambda: ("ContactCreated", "poll") in types(running))


def test_a_call_that_was_never_announced_is_polled_and_reconciled(running: RunningApp) -> None:
    running.run("PollCallHistory")
    until(lambda: len(running.pbx.webhooks) == len(WEBHOOKS))
    until(lambda: checkpoint(running, "call_history").get("started"))
    running.pbx.hooks.faults.add("drop", "CallCompleted", times=1)
    heard = running.pbx.call("27771153", contact_id=966, rings=0.1, talks=0.1)
    until(lambda: heard.id in running.pbx.rows["call_history"])
    running.run("PollCallHistory")
    until(lambda: items(running, "call_history") == 1 and checkpoint(running, "call_history").get("waiting"))
    until(lambda: ("CallConnected", "webhook") in types(running))
    make_due(running.storage)
    running.run("LookAfter")
    until(lambda: ("CallCompleted", "reconciled") in types(running))
    call = [(name, origin) for name, origin in types(running) if name.startswith("Call")]
    assert call == [("CallCompleted", "reconciled"), ("CallConnected", "webhook"), ("CallStarted", "webhook")]


def make_due(storage: Storage) -> None:
    """Let the grace of polled items pass."""
    table, checkpoints = storage.table(TABLE), storage.table("checkpoints")
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    for row in list(table.query_entities("PartitionKey eq 'call_history' and due gt datetime'1970-01-01T00:00:00Z'")):
        table.update_entity({**row, "due": begin})
    checkpoints.update_entity({"PartitionKey": "checkpoint", "RowKey": "call_history", "waiting": begin})


def test_a_timer_that_fails_says_so_and_the_next_one_goes_on(running: RunningApp) -> None:
    fault = running.pbx.faults.add("status", match="GetGroups", status=422)
    running.run("PollGroups")
    until(lambda: fault.hits and "PbxRefused" in running.host.output)
    running.pbx.faults.clear()
    running.run("PollGroups")
    until(lambda: checkpoint(running, "groups").get("last_error") == "")
