"""Queue triggers against the storage emulator."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
import requests
from azure.core.exceptions import ResourceNotFoundError
from azure.storage.queue import QueueServiceClient

from dev.azurite import AzuriteProcess, Ports
from tests.hosts import MASTER, dev_host_only, free_port
from tests.waiting import until

if TYPE_CHECKING:
    from azure.storage.queue import QueueClient
    from conftest import Sample

    Start = Callable[..., Sample]


ADMIN = {"x-functions-key": MASTER}


def put(queue: QueueClient, **job: object) -> None:
    queue.send_message(json.dumps(job))


def left(queue: QueueClient) -> int:
    """Return the number of messages in the queue, visible or not."""
    return queue.get_queue_properties().approximate_message_count or 0


def test_a_message_is_handed_over_once_and_deleted(sample: Start, queue: QueueClient) -> None:
    app = sample()
    sent = queue.send_message(json.dumps({"name": "ž"}))
    (started,) = app.noted("started")
    assert started["job"] == {"name": "ž"}
    assert started["id"] == sent.id
    assert started["tries"] == 1
    assert started["insertion_time"][:16] == sent.inserted_on.isoformat()[:16]
    assert started["expiration_time"] > started["insertion_time"]
    until(lambda: left(queue) == 0)
    assert len(app.notes("started")) == 1


def test_a_failed_message_comes_back_and_then_goes_to_the_poison_queue(sample: Start, queue: QueueClient) -> None:
    app = sample()
    put(queue, name="twice", fails=2)
    put(queue, name="always", fails=99)
    tries = [(note["job"]["name"], note["tries"]) for note in app.noted("started", 6)]
    assert sorted(tries) == sorted((name, count) for name in ("twice", "always") for count in (1, 2, 3))
    assert [note["job"]["name"] for note in app.noted("ended")] == ["twice"]
    assert [json.loads(note["body"])["name"] for note in app.noted("poisoned")] == ["always"]
    until(lambda: left(queue) == 0)


@pytest.mark.slow
def test_a_poison_queue_has_no_poison_queue(sample: Start, queue: QueueClient, azurite: AzuriteProcess) -> None:
    app = sample("--lease-seconds", "1", AzureFunctionsJobHost__extensions__queues__maxDequeueCount="2")
    put(queue, fails=99, name="again")
    # It fails there as well: it is hidden for a lease each time, and no longer run after its tries.
    app.noted("poisoned", 2)
    time.sleep(2.5)
    assert [note["tries"] for note in app.notes("poisoned")] == [1, 2]
    names = {each.name for each in _service(azurite).list_queues(name_starts_with=queue.queue_name)}
    assert names == {queue.queue_name, f"{queue.queue_name}-poison"}


@pytest.mark.slow
def test_poison_lives_seven_days_however_long_the_original(
    sample: Start, queue: QueueClient, azurite: AzuriteProcess
) -> None:
    sample(**{"AzureWebJobs.poisoned.Disabled": "true"})
    queue.send_message(json.dumps({"fails": 99}), time_to_live=-1)
    poison = _service(azurite).get_queue_client(f"{queue.queue_name}-poison")
    until(lambda: left(queue) == 0)
    (message,) = poison.receive_messages()
    assert message.expires_on - message.inserted_on == timedelta(days=7)
    assert message.content == '{"fails": 99}'


def test_a_disabled_function_runs_by_hand_only(sample: Start, queue: QueueClient) -> None:
    disabled = {f"AzureWebJobs.{name}.Disabled": "true" for name in ("work", "tick")}
    app = sample(TICKS="* * * * * *", **disabled)
    put(queue, name="left")
    time.sleep(1.5)
    assert app.notes("ticks") == app.notes("started") == []
    for name, body in (("tick", {}), ("WORK", {"input": '{"name": "by hand"}'})):
        answer = requests.post(f"{app.host.url}/admin/functions/{name}", json=body, headers=ADMIN)
        assert answer.status_code == 202
    assert app.noted("ended") == [{"job": {"name": "by hand"}}]
    assert not app.notes("started")[0]["id"]
    app.noted("ticks", 2)
    assert left(queue) == 1


@pytest.mark.slow
def test_a_long_run_keeps_its_message(sample: Start, queue: QueueClient) -> None:
    app = sample("--lease-seconds", "1")
    put(queue, seconds=2.5)
    app.noted("ended", seconds=15)
    until(lambda: left(queue) == 0)
    assert len(app.notes("started")) == 1


@pytest.mark.slow
def test_a_crash_gives_the_message_back_after_the_lease(sample: Start, queue: QueueClient) -> None:
    crashing = sample("--lease-seconds", "1")
    put(queue, seconds=1)
    crashing.noted("started")
    crashing.host.kill()
    app = sample()
    assert [note["tries"] for note in app.noted("started", 2)] == [1, 2]
    app.noted("ended")


@pytest.mark.slow
def test_batches_go_on_while_a_message_runs_up_to_the_limit(sample: Start, queue: QueueClient) -> None:
    for number in range(9):
        put(queue, number=number, seconds=0.2 if number < 2 else 2)
    app = sample()
    # A batch of four; as soon as two of them have ended, four more; and then no room until one of the six ends.
    app.noted("started", 8)
    assert len(app.notes("ended")) == 2
    time.sleep(0.7)
    assert len(app.notes("started")) == 8
    app.noted("ended", 9)


@pytest.mark.slow
@dev_host_only
def test_a_missing_queue_is_looked_for_and_never_made(sample: Start, queue: QueueClient) -> None:
    queue.delete_queue()
    app = sample()
    app.host.wait_for(lambda output: f"Queue {queue.queue_name} cannot be read (ResourceNotFoundError)" in output, 10)
    with pytest.raises(ResourceNotFoundError):
        queue.get_queue_properties()
    queue.create_queue()
    put(queue, name="late")
    assert [note["job"]["name"] for note in app.noted("ended")] == ["late"]


@pytest.mark.slow
@pytest.mark.parametrize("text", ['{"name": "ž"}', ' {"name": "\\u0001"} ', json.dumps({"name": "x" * 60_000})])
def test_plain_messages_arrive_whole(sample: Start, azurite: AzuriteProcess, queue: QueueClient, text: str) -> None:
    app = sample()
    _service(azurite).get_queue_client(queue.queue_name).send_message(text)
    assert app.noted("ended") == [{"job": json.loads(text)}]


@dev_host_only
@pytest.mark.slow
def test_storage_that_goes_away_is_waited_for(sample: Start, queue: QueueClient) -> None:
    ports = Ports(*(free_port() for _ in range(3)))
    with AzuriteProcess(ports=ports) as first:
        _service(first).create_queue(queue.queue_name)
        app = sample(Queues=first.connection_string)
        _service(first).get_queue_client(queue.queue_name).send_message("{}")
        app.noted("ended")
        first.kill()
    app.host.wait_for(lambda output: f"Queue {queue.queue_name} cannot be read" in output, 15)
    assert requests.get(f"{app.host.url}/api/text").text == "plain"
    with AzuriteProcess(ports=ports) as again:
        _service(again).create_queue(queue.queue_name)
        _service(again).get_queue_client(queue.queue_name).send_message("{}")
        app.noted("ended", 2)


@pytest.mark.slow
def test_a_stop_lets_messages_finish_however_long(sample: Start, queue: QueueClient) -> None:
    app = sample("--grace-seconds", "0.3")
    put(queue, seconds=2)
    put(queue, seconds=2)
    app.noted("started", 2)
    assert app.host.stop() == 0
    assert len(app.notes("ended")) == 2
    assert left(queue) == 0


def _service(azurite: AzuriteProcess) -> QueueServiceClient:
    return QueueServiceClient.from_connection_string(azurite.connection_string)
