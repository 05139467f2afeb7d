"""Receivers and processing over HTTP through a real host: webhooks, repeats and refusals."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
import requests

from shared.events.table import EVENTS, Event, find_event
from shared.storage.rows import descending
from tests.apps import FIXTURES, RunningApp, running_app
from tests.hosts import MASTER, start_host
from tests.waiting import until

if TYPE_CHECKING:
    import pathlib

WEBHOOKS = [event for event in EVENTS if event.source == "pbx"]
IDS = [event.name for event in WEBHOOKS]
# What differs in no field is a repeat or not by what came before, which is looked at after the answer.
UNNAMED = [event for event in WEBHOOKS if event.name == "LostCallerRemoved"]
STARTED = (FIXTURES / "CallStarted.json").read_bytes()
KEYS = {"master": MASTER, "host": {"flows": "host-key"}, "functions": {"OnCallStarted": {"pbx": "function-key"}}}
RECORDING = 150818921852
VOICEMAIL = 171118926552
CALL = 1524664459097344
ONE_FUNCTION = ("OnCallStarted",)

pytestmark = pytest.mark.xdist_group("receivers")


def post(running: RunningApp, event: str, body: bytes | dict[str, Any]) -> requests.Response:
    data = body if isinstance(body, bytes) else json.dumps(body, ensure_ascii=False).encode()
    return running.ask("POST", f"/api/events/{event}", data=data)


def rows(running: RunningApp, table: str) -> list[dict[str, Any]]:
    return [dict(row) for row in running.storage.table(table).list_entities()]


def blobs(running: RunningApp, container: str) -> list[Any]:
    found = running.storage.container(container).list_blobs(include=["metadata"])
    return [blob for blob in found if not blob.name.startswith(".")]


@pytest.fixture(scope="module")
def running(new_account: Callable[[], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApp]:
    with running_app(new_account(), tmp_path_factory.mktemp("receivers")) as running:
        contact = running.pbx.add_contact("Anna", "Bērziņa", contact_id=966)
        call = {"callID": CALL, "contactID": contact, "callStarted": "2018-04-25T13:54:19+0000"}
        running.pbx.add("call_records", RECORDING, **call)
        running.pbx.add("voicemails", VOICEMAIL, sender="+37129998877", callStarted="2018-04-25T15:03:08+0000")
        yield running


def fixture(event: Event) -> dict[str, Any]:
    payload: dict[str, Any] = json.loads((FIXTURES / f"{event.name}.json").read_text())
    return payload


def test_each_fixture_posted_twice_leaves_one_row_one_story_and_one_blob(running: RunningApp) -> None:
    first = [post(running, event.name, fixture(event)) for event in WEBHOOKS]
    assert [answer.status_code for answer in first] == [202] * len(WEBHOOKS)
    again = [post(running, event.name, fixture(event)) for event in WEBHOOKS]
    named = [answer.json() for answer, event in zip(first, WEBHOOKS, strict=True) if event not in UNNAMED]
    assert [answer.json() for answer, event in zip(again, WEBHOOKS, strict=True) if event not in UNNAMED] == named
    stored = {"RecordingStored", "VoicemailStored"}
    until(lambda: {row["type"] for row in rows(running, "events")} == {event.name for event in WEBHOOKS} | stored)
    # The call's id, and its stored audio.
    parts = sum("callID" in fixture(event)["data"] for event in WEBHOOKS) + 1
    until(lambda: "recordingUrls" in rows(running, "calls")[0] and rows(running, "calls")[0]["revision"] == parts)
    accepted = [row["RowKey"] for row in rows(running, "events") if row["type"] not in stored]
    assert len(accepted) == len(WEBHOOKS)
    assert set(accepted) <= {answer.json()["id"] for answer in (*first, *again)}
    (story,) = rows(running, "calls")
    assert story["RowKey"] == descending(CALL)
    assert (story["outcome"], story["talkSeconds"]) == ("answered", 185)
    (recording,) = blobs(running, "recordings")
    assert recording.name == f"2018/04/25/{RECORDING}.mp3"
    assert json.loads(story["recordingUrls"])[0].endswith(f"/recordings/{recording.name}")
    (voicemail,) = blobs(running, "voicemails")
    assert voicemail.name == f"2018/04/25/{VOICEMAIL}.mp3"
    until(lambda: "deletedAtPbx" in (blobs(running, "voicemails")[0].metadata or {}))


@pytest.mark.parametrize("name", ["LostCallerCreated", "lostcallerdeleted", "CallTransferredEvent", "callstarted"])
def test_an_alias_in_the_path_is_that_event(name: str, running: RunningApp) -> None:
    event = find_event(name)
    assert event
    answer = post(running, name, fixture(event))
    assert (answer.status_code, list(answer.json())) == (202, ["id"])


@pytest.mark.parametrize("name", ["CallParked", "ContactCreated", "RecordingStored"])
def test_an_unknown_name_in_the_path_is_answered_with_the_known_ones(name: str, running: RunningApp) -> None:
    answer = post(running, name, {"data": {}})
    (error,) = answer.json()["errors"]
    assert (answer.status_code, error["path"]) == (422, "event")
    assert all(event.name in error["reason"] for event in WEBHOOKS)


@pytest.mark.slow
@pytest.mark.parametrize("event", [event for event in WEBHOOKS if event not in UNNAMED], ids=lambda event: event.name)
def test_any_spelling_and_unknown_fields_are_the_same_event(event: Event, running: RunningApp) -> None:
    payload = fixture(event)
    first = post(running, event.name, payload).json()
    for name in (*event.aliases, f"{event.name}Event", event.name.lower()):
        other = {**payload, "eventType": name, "data": {**payload["data"], "queue": "Birojs"}, "node": 7}
        assert post(running, event.name, other).json() == first


@pytest.mark.parametrize("event", WEBHOOKS[:2], ids=IDS[:2])
@pytest.mark.parametrize(
    ("body", "status"),
    [(b"{", 400), (b"[]", 422), (b'{"data": {}}', 422), (b"x" * 65_537, 413)],
    ids=["no JSON", "a list", "no fields", "too large"],
)
def test_invalid_bodies_are_answered_with_a_problem_and_kept(
    event: Event, body: bytes, status: int, running: RunningApp
) -> None:
    answer = post(running, event.name, body)
    assert answer.status_code == status
    assert answer.headers["Content-Type"].startswith("application/problem+json")
    assert answer.json()["status"] == status
    assert any(row["id"].startswith(f"{event.name}-") for row in rows(running, "deadletters"))


def test_a_refusal_names_the_fields(running: RunningApp) -> None:
    answer = post(running, "CallStarted", {"eventType": "CallStarted", "data": {"callID": "27771153x", "status": []}})
    assert {error["path"] for error in answer.json()["errors"]} == {"data.callID"}
    assert "27771153" not in answer.text
    assert any("data.callID" in row["reason"] for row in rows(running, "deadletters"))


def test_a_message_that_keeps_failing_ends_as_a_dead_letter(running: RunningApp) -> None:
    running.storage.queue("events").send_message("this is no event")
    until(lambda: any(row["kind"] == "event" for row in rows(running, "deadletters")))


@pytest.mark.slow
def test_the_receivers_open_to_the_webhook_keys_and_to_no_key_of_the_host(
    new_account: Callable[[], str], tmp_path: pathlib.Path
) -> None:
    accepted = {"PBX_WEBHOOK_KEY": "new-key", "PBX_WEBHOOK_KEY_PREVIOUS": "old-key"}
    with running_app(new_account(), tmp_path, keys=KEYS, **accepted) as running:

        def post(body: Any = STARTED, to: str = "CallStarted", **options: Any) -> Any:
            return requests.post(f"{running.url}/api/events/{to}", data=body, timeout=10, **options)

        for key in ("new-key", "old-key"):
            assert post(params={"code": key}).status_code == 202
            assert post(headers={"x-functions-key": key}).status_code == 202
        assert not rows(running, "deadletters")
        for key in ("host-key", MASTER, "function-key", ""):
            answer = post(params={"code": key})
            assert (answer.status_code, answer.json()["title"]) == (401, "Invalid or missing key")
            assert post(headers={"x-functions-key": key}, body=b"{").status_code == 401
            assert post(headers={"x-functions-key": key}, body=iter([b"{}"])).status_code == 401
        assert not rows(running, "deadletters")
        # Past the key, and of another event.
        assert post(to="CallConnected", params={"code": "new-key"}).status_code == 422


@pytest.mark.slow
def test_with_the_storage_stopped_the_sender_is_asked_to_come_again(tmp_path: pathlib.Path) -> None:
    nowhere = "DefaultEndpointsProtocol=http;AccountName=a;AccountKey=aaaa;" + "".join(
        f"{service}Endpoint=http://127.0.0.1:9/a;" for service in ("Blob", "Queue", "Table")
    )
    environment = {"DataStorage": nowhere, "PBX_API_KEY": "k", "PBX_WEBHOOK_KEY": ""}
    with start_host(env=environment, functions=ONE_FUNCTION) as host:
        answer = requests.post(f"{host.url}/api/events/CallStarted", data=STARTED, timeout=15)
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
    assert answer.json()["title"]


@pytest.mark.slow
def test_without_settings_the_app_names_them_and_refuses_events() -> None:
    with start_host(env={"DataStorage": "", "PBX_API_KEY": ""}, functions=ONE_FUNCTION) as host:
        answer = requests.post(f"{host.url}/api/events/CallStarted", data=b"{}", timeout=10)
        assert answer.status_code == 500
        assert "settings" in answer.json()["title"]
        host.wait_for(lambda output: "DataStorage: missing" in output, 20)
