"""Subscribing, being told and leaving, over HTTP through a real host."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from shared import signatures
from tests.bridges import RunningBridge, running_bridge
from tests.listener import Listener

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dev.azurite import AzuriteProcess

pytestmark = pytest.mark.xdist_group("subscriptions")


@pytest.fixture(scope="module")
def running(
    azurite: AzuriteProcess, _accounts: Iterator[int], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningBridge]:
    account = azurite.account(next(_accounts))
    with running_bridge(account, tmp_path_factory.mktemp("subscriptions")) as running:
        yield running


@pytest.fixture
def listener() -> Iterator[Listener]:
    with Listener() as listener:
        yield listener


def test_an_event_reaches_its_subscriber_signed_and_as_the_pbx_said_it(
    running: RunningBridge, listener: Listener
) -> None:
    made = running.ask("POST", "/api/v2/webhooks/CallCompleted", json={"endpoint": listener.url})
    assert made.status_code == 201
    told = made.json()
    assert (told["statusCode"], told["status"]) == (201, "success")
    assert made.headers["Location"] == f"{running.url}/api/v2/webhooks/{told['data']}"
    id = running.happen("CallCompleted", remark="kept")
    (delivery,) = listener.wait(1)
    signatures.verify(delivery.headers, delivery.body, [told["secret"]], time.time())
    assert delivery.id == id
    assert delivery.headers["content-type"] == "application/json"
    body = delivery.json()
    assert body.keys() == {"type", "eventType", "version", "data"}
    assert (body["eventType"], body["data"]["remark"]) == ("CallCompleted", "kept")
