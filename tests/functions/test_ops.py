"""Operations of the master key: webhooks on demand, their end, and the state of the bridge."""

from __future__ import annotations

import pathlib
from typing import TYPE_CHECKING, Any

import pytest
import requests

from dev.simulator import Simulator
from shared.events.table import EVENTS
from shared.pbx.resources import RESOURCES
from shared.settings import Settings
from shared.storage.account import Storage
from shared.storage.messages import dead_letter
from tests.hosts import start_host, write_keys
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from dev.processes import HostProcess


ROOT = pathlib.Path(__file__).parents[2]
OPS = ("SyncWebhooksNow", "DeleteWebhooks", "GetStatus", "PollContacts")
KEYS = {"master": "master-key", "host": {"logicapps": "host-key"}, "functions": {"GetStatus": {"pbx": "own-key"}}}
MASTER = {"x-functions-key": "master-key"}
WEBHOOKS = [event for event in EVENTS if event.source == "pbx"]
ROUTES = [("POST", "webhooks/sync"), ("DELETE", "webhooks"), ("GET", "status")]

pytestmark = pytest.mark.xdist_group("ops")


class Running:
    """A host whose keys are checked, a simulated PBX and an account of its own."""

    def __init__(self, host: HostProcess, storage: Storage, pbx: Simulator) -> None:
        self.host, self.storage, self.pbx = host, storage, pbx

    def ask(self, method: str, route: str, headers: Mapping[str, str] = MASTER, **options: Any) -> requests.Response:
        return requests.request(method, f"{self.host.url}/api/ops/{route}", headers=headers, timeout=30, **options)


def start(pbx: Simulator, account: str, tmp_path: pathlib.Path, **settings: str) -> tuple[HostProcess, Storage]:
    environment = {"DataStorage": account, "PBX_BASE_URL": pbx.base_url, "PBX_API_KEY": "k", **settings}
    environment |= {resource.schedule: "0 0 0 1 1 *" for resource in RESOURCES}
    environment |= write_keys(tmp_path / "secrets", KEYS)
    storage = Storage(Settings.from_env(environment).storage)
    storage.ready()
    return start_host(ROOT, env=environment, functions=OPS), storage


@pytest.fixture(scope="module")
def running(new_account: Callable[[], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with Simulator(api_key="k") as pbx:
        address = {"PUBLIC_BASE_URL": "https://bridge.example/", "PBX_WEBHOOK_KEY": "webhook-key"}
        host, storage = start(pbx, new_account(), tmp_path_factory.mktemp("keys"), **address)
        with host:
            yield Running(host, storage, pbx)


@pytest.mark.slow
@pytest.mark.parametrize(("method", "route"), ROUTES, ids=lambda value: value)
@pytest.mark.parametrize("key", [None, "wrong", "host-key", "own-key"])
def test_no_key_but_the_master_key_opens_them(method: str, route: str, key: str | None, running: Running) -> None:
    answer = running.ask(method, route, headers={"x-functions-key": key} if key else {})
    assert answer.status_code == 401
    assert not running.pbx.webhooks


def test_webhooks_are_made_shown_and_deleted_on_demand(running: Running) -> None:
    made = running.ask("POST", "webhooks/sync")
    assert made.status_code == 200
    assert len(made.json()["created"]) == len(made.json()["held"]) == len(running.pbx.webhooks) == len(WEBHOOKS)
    status = running.ask("GET", "status")
    assert {row["host"] for row in status.json()["webhooks"]} == {"bridge.example"}
    for answer in (made, status):
        assert "webhook-key" not in answer.text
    gone = running.ask("DELETE", "webhooks")
    assert (gone.status_code, gone.json()["held"], running.pbx.webhooks) == (200, [], [])
    assert running.ask("GET", "status").json()["webhooksEndedSince"] == gone.json()["endedSince"]


def test_at_the_limit_the_answer_says_what_to_do(running: Running) -> None:
    others = [running.pbx.hooks.subscribe("CallStarted", "https://somebody.example/") for _ in range(20)]
    answer = running.ask("POST", "webhooks/sync")
    assert answer.status_code == 409
    assert "WEB HOOKS" in answer.json()["problem"]
    assert answer.json()["endedSince"] is None
    for other in others:
        assert other is not None
        running.pbx.hooks.unsubscribe(other.id)


def test_the_status_shows_checkpoints_health_dead_letters_and_budget(running: Running) -> None:
    running.pbx.add_contact("Anna")
    answer = requests.post(f"{running.host.url}/admin/functions/PollContacts", json={}, headers=MASTER, timeout=10)
    assert answer.status_code == 202
    dead_letter(running.storage, kind="event", id="x", reason="a test", body=b"{}")

    def contacts() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = running.ask("GET", "status").json()["checkpoints"]
        return [row for row in found if row["resource"] == "contacts" and row["state"] == "following"]

    (checkpoint,) = until(contacts)
    assert (checkpoint["items"], checkpoint["lastError"]) == (1, None)
    status = running.ask("GET", "status").json()
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
    with Simulator(api_key="k") as pbx:
        host, storage = start(pbx, new_account(), tmp_path, PUBLIC_BASE_URL="", PBX_WEBHOOK_KEY="")
        with host:
            running = Running(host, storage, pbx)
            answer = running.ask("POST", "webhooks/sync")
            assert answer.status_code == 500
            assert "settings" in answer.json()["title"]
            for line in ("PUBLIC_BASE_URL: missing", "PBX_WEBHOOK_KEY: missing"):
                until(lambda line=line: line in host.output)
            assert running.ask("GET", "status").status_code == 200


@pytest.mark.slow
def test_orphans_are_shown_with_what_to_do_and_forgotten_on_request(
    new_account: Callable[[], str], tmp_path: pathlib.Path
) -> None:
    settings = {"PUBLIC_BASE_URL": "https://bridge.example/", "PBX_WEBHOOK_KEY": "k", "PBX_EVENTS": "CallStarted"}
    with Simulator(api_key="k") as pbx:
        host, storage = start(pbx, new_account(), tmp_path, **settings)
        with host:
            running = Running(host, storage, pbx)
            pbx.faults.add("reset", match="CallStarted", before=False, times=1)
            answer = running.ask("POST", "webhooks/sync")
            assert [row["event"] for row in answer.json()["maybeOrphaned"]] == ["CallStarted"]
            until(lambda: "forget_orphans=true" in host.output)
            forgotten = running.ask("POST", "webhooks/sync?forget_orphans=true").json()
            assert (forgotten["maybeOrphaned"], len(forgotten["held"])) == ([], 1)
