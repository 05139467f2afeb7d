"""Operations of the master key: webhooks on demand, their end, and the state of the bridge."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from shared.events.table import EVENTS
from shared.storage.messages import dead_letter
from tests.apps import MASTER, RunningApp, running_app
from tests.waiting import until

if TYPE_CHECKING:
    import pathlib

    import requests

OPS = ("SyncWebhooksNow", "DeleteWebhooks", "GetStatus", "PollContacts")
KEYS = {"master": MASTER, "host": {"logicapps": "host-key"}, "functions": {"GetStatus": {"pbx": "own-key"}}}
WEBHOOKS = [event for event in EVENTS if event.source == "pbx"]
ROUTES = [("POST", "webhooks/sync"), ("DELETE", "webhooks"), ("GET", "status")]

pytestmark = pytest.mark.xdist_group("ops")


def ask(running: RunningApp, method: str, route: str, key: str = MASTER) -> requests.Response:
    return running.ask(method, f"/api/ops/{route}", key)


@pytest.fixture(scope="module")
def running(new_account: Callable[[], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApp]:
    address = {"PUBLIC_BASE_URL": "https://bridge.example/", "PBX_WEBHOOK_KEY": "webhook-key"}
    with running_app(new_account(), tmp_path_factory.mktemp("ops"), *OPS, keys=KEYS, **address) as running:
        yield running


@pytest.mark.slow
@pytest.mark.parametrize(("method", "route"), ROUTES, ids=lambda value: value)
@pytest.mark.parametrize("key", ["", "wrong", "host-key", "own-key"])
def test_operations_need_the_master_key(method: str, route: str, key: str, running: RunningApp) -> None:
    answer = ask(running, method, route, key)
    assert answer.status_code == 401
    assert not running.pbx.webhooks


def test_webhooks_are_made_shown_and_deleted_on_demand(running: RunningApp) -> None:
    made = ask(running, "POST", "webhooks/sync")
    assert made.status_code == 200
    assert len(made.json()["created"]) == len(made.json()["held"]) == len(running.pbx.webhooks) == len(WEBHOOKS)
    status = ask(running, "GET", "status")
    assert {row["host"] for row in status.json()["webhooks"]} == {"bridge.example"}
    for answer in (made, status):
        assert "webhook-key" not in answer.text
    gone = ask(running, "DELETE", "webhooks")
    assert (gone.status_code, gone.json()["held"], running.pbx.webhooks) == (200, [], [])
    assert ask(running, "GET", "status").json()["webhooksEndedSince"] == gone.json()["endedSince"]


def test_at_the_limit_the_answer_has_the_remedy(running: RunningApp) -> None:
    others = [running.pbx.hooks.subscribe("CallStarted", "https://somebody.example/") for _ in range(20)]
    answer = ask(running, "POST", "webhooks/sync")
    assert answer.status_code == 409
    assert "WEB HOOKS" in answer.json()["problem"]
    assert answer.json()["endedSince"] is None
    for other in others:
        assert other is not None
        running.pbx.hooks.unsubscribe(other.id)


def test_the_status_shows_checkpoints_health_dead_letters_and_budget(running: RunningApp) -> None:
    running.pbx.add_contact("Anna")
    running.run("PollContacts")
    dead_letter(running.storage, kind="event", id="x", reason="a test", body=b"{}")

    def contacts() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = ask(running, "GET", "status").json()["checkpoints"]
        return [row for row in found if row["resource"] == "contacts" and row["state"] == "following"]

    (checkpoint,) = until(contacts)
    assert (checkpoint["items"], checkpoint["lastError"]) == (1, None)
    status = ask(running, "GET", "status").json()
    assert status["deadLetters"] == {"kinds": {"event": 1}, "more": False}
    assert status["health"]["webhooks"] == 0
    assert 0 < status["budget"]["used"] <= status["budget"]["limit"] == 100
    assert next(iter(status)) == "problems"
    assert any(
        line.startswith("Dead letters of kind event: 1. POST /api/ops/deadletters") for line in status["problems"]
    )


@pytest.mark.slow
def test_without_an_address_the_answer_names_the_setting_and_the_rest_goes_on(
    new_account: Callable[[], str], tmp_path: pathlib.Path
) -> None:
    with running_app(new_account(), tmp_path, *OPS) as running:
        answer = ask(running, "POST", "webhooks/sync")
        assert answer.status_code == 500
        assert "settings" in answer.json()["title"]
        for line in ("PUBLIC_BASE_URL: missing", "PBX_WEBHOOK_KEY: missing"):
            until(lambda line=line: line in running.host.output)
        assert ask(running, "GET", "status").status_code == 200


@pytest.mark.slow
def test_orphans_are_shown_with_what_to_do_and_forgotten_on_request(
    new_account: Callable[[], str], tmp_path: pathlib.Path
) -> None:
    settings = {"PUBLIC_BASE_URL": "https://bridge.example/", "PBX_WEBHOOK_KEY": "k", "PBX_EVENTS": "CallStarted"}
    with running_app(new_account(), tmp_path, *OPS, **settings) as running:
        running.pbx.faults.add("reset", match="CallStarted", before=False, times=1)
        answer = ask(running, "POST", "webhooks/sync")
        assert [row["event"] for row in answer.json()["maybeOrphaned"]] == ["CallStarted"]
        until(lambda: "forget_orphans=true" in running.host.output)
        forgotten = ask(running, "POST", "webhooks/sync?forget_orphans=true").json()
        assert (forgotten["maybeOrphaned"], len(forgotten["held"])) == ([], 1)
