"""The processor: one effect for each event, also where something dies, repeats or races."""

from __future__ import annotations

import itertools
import json
import pathlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pytest

from shared import people
from shared.api import calls
from shared.api.operations import GET_EVENTS
from shared.api.parameters import Request
from shared.bridge import Bridge
from shared.deliveries.post import read_event
from shared.errors import Refused, Unprocessable
from shared.events.event import accept, submit
from shared.events.table import EVENTS, event_named
from shared.pipeline import process as processing
from shared.pipeline.process import FOLLOW_UPS
from shared.storage import messages
from shared.storage.account import Storage
from shared.storage.rows import descending
from shared.values import encode
from tests.breaking import break_connections
from tests.dying import is_killed
from tests.stored import dead_letters

FIXTURES = pathlib.Path(__file__).parents[2] / "fixtures" / "events"
CALL = 1524664459097344


def send(bridge: Bridge, event: str, **changes: Any) -> str:
    payload = json.loads((FIXTURES / f"{event}.json").read_text())
    payload["data"].update(changes)
    return accept(bridge, event_named(event), json.dumps(payload, ensure_ascii=False).encode())


def take(storage: Storage, queue: str) -> list[bytes]:
    """Everything on a queue, taken off it."""
    client, bodies = storage.queue(queue), []
    for message in client.receive_messages(messages_per_page=32):
        bodies.append(message.content.encode())
        client.delete_message(message)
    return bodies


def process(bridge: Bridge, body: bytes, **changes: Any) -> None:
    processing.process(bridge, messages.read(bridge.storage, body) | changes)


def run(bridge: Bridge) -> None:
    for body in take(bridge.storage, "events"):
        process(bridge, body)


@dataclass
class Steps:
    """The follow-ups that ran, and one that fails."""

    broken: str = ""
    ran: list[str] = field(default_factory=list)


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Steps:
    steps = Steps()

    def guarded(name: str, run: Callable[[Any, Any], bool | None]) -> Callable[[Any, Any], bool | None]:
        def step(bridge: Any, event: Any) -> bool | None:
            if name == steps.broken:
                raise KeyError("nobody foresaw this")
            steps.ran.append(name)
            return run(bridge, event)

        return step

    monkeypatch.setattr(processing, "FOLLOW_UPS", {name: guarded(name, run) for name, run in FOLLOW_UPS.items()})
    return steps


def rows(storage: Storage, table: str) -> list[dict[str, Any]]:
    found = storage.table(table).list_entities()
    return [{name: value for name, value in row.items() if name not in ("received", "began")} for row in found]


def story(storage: Storage, call_id: int = CALL) -> dict[str, Any]:
    entity = storage.table("calls").get_entity("call", descending(call_id))
    return {name: value for name, value in entity.items() if name != "parts"}


def test_each_event_sent_twice_leaves_one_row_one_story_and_one_request_for_media(bridge: Bridge) -> None:
    webhooks = [event for event in EVENTS if event.source == "pbx"]
    first = [send(bridge, event.name) for event in webhooks]
    run(bridge)
    again = [send(bridge, event.name) for event in webhooks]
    assert [one for one, event in zip(again, webhooks, strict=True) if event.name != "LostCallerRemoved"] == [
        one for one, event in zip(first, webhooks, strict=True) if event.name != "LostCallerRemoved"
    ]
    run(bridge)
    assert sorted(row["RowKey"] for row in rows(bridge.storage, "events")) == sorted(first)
    assert len(rows(bridge.storage, "feed")) == len(first)
    assert len(rows(bridge.storage, "calls")) == 1
    asked = [json.loads(body) for body in take(bridge.storage, "media")]
    assert [(ask["kind"], ask["action"]) for ask in asked] == [
        ("recording", "copy"),
        ("voicemail", "copy"),
        ("voicemail", "withdraw"),
    ]


@pytest.mark.slow
# A killed process closes no connection.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("after", [False, True], ids=["before the request", "after it took effect"])
@pytest.mark.parametrize("event", ["CallStarted", "CallRecorded", "VoicemailCreated", "LostCallerAdded"])
def test_a_processor_killed_at_any_step_is_finished_by_the_next_delivery(
    event: str, after: bool, start_bridge: Callable[..., Bridge]
) -> None:
    calm = start_bridge()
    # The tables are there already, as in Azure, so that each request is a step of the processor.
    calm.storage.ready()
    send(calm, event)
    (body,) = take(calm.storage, "events")
    for step in itertools.count(1):
        doomed = start_bridge()
        if not is_killed(doomed.storage, step, process, doomed, body, after=after):
            break
        process(start_bridge(), body)
        assert_one_effect(calm.storage, event)
        for table in ("events", "feed", "calls"):
            client = calm.storage.table(table)
            for row in client.list_entities():
                client.delete_entity(row)
        take(calm.storage, "events")
    assert step > 2


def assert_one_effect(storage: Storage, event: str) -> list[dict[str, Any]]:
    """Return the requests for media, which may be the same one several times."""
    (row,) = rows(storage, "events")
    (entry,) = rows(storage, "feed")
    assert (row["type"], entry["id"]) == (event, row["id"])
    asked = [json.loads(body) for body in take(storage, "media")]
    if event_named(event).announces:
        assert len({(ask["kind"], ask["id"], ask["action"]) for ask in asked}) == 1
        assert "media" in row["done"]
    else:
        assert not asked
    if "callID" in row:
        assert story(storage)["revision"] == 1
    return asked


def test_repeats_leave_no_pointers_that_lead_nowhere(bridge: Bridge) -> None:
    ids = {send(bridge, "CallStarted") for _ in range(3)}
    for body in 2 * take(bridge.storage, "events"):
        process(bridge, body)
    found = people.find(bridge.storage, people.call(CALL), ["event"])
    assert {pointer.id for pointer in found} == ids
    assert len(found) == 1
    newest = calls.read_events(bridge, GET_EVENTS, Request(query={"call_id": str(CALL), "limit": "1"}))
    assert [one["id"] for one in newest["data"]] == [*ids]


def test_a_repeat_does_nothing_while_the_first_message_may_still_work(bridge: Bridge, steps: Steps) -> None:
    for _ in range(2):
        send(bridge, "CallRecorded")
    first, repeat = take(bridge.storage, "events")
    steps.broken = "media"
    with pytest.raises(ExceptionGroup):
        process(bridge, first)
    steps.broken = ""
    process(bridge, repeat)
    assert not take(bridge.storage, "media")


@pytest.mark.parametrize(
    "mark", [{}, {"begun": True}, {"begun": True, "mark": "another"}], ids=["mark", "both", "begun"]
)
@pytest.mark.parametrize("broken", ["story", "media", "deliveries", "feed"])
def test_a_step_that_fails_holds_up_no_other_and_the_next_delivery_repeats_none(
    bridge: Bridge, steps: Steps, broken: str, mark: dict[str, Any]
) -> None:
    send(bridge, "CallRecorded")
    (body,) = take(bridge.storage, "events")
    steps.broken = broken
    with pytest.raises(ExceptionGroup):
        process(bridge, body)
    assert steps.ran == [name for name in FOLLOW_UPS if name != broken]
    steps.broken = ""
    steps.ran.clear()
    process(bridge, body, **mark)
    assert steps.ran == [broken]
    process(bridge, body)
    assert len(assert_one_effect(bridge.storage, "CallRecorded")) == 1


def test_an_answer_to_the_insert_that_is_lost_loses_no_effect(bridge: Bridge) -> None:
    bridge.storage.ready()
    send(bridge, "CallRecorded")
    (body,) = take(bridge.storage, "events")
    break_connections(bridge.storage, "POST", "/events")
    process(bridge, body)
    assert len(assert_one_effect(bridge.storage, "CallRecorded")) == 1


def test_one_message_twice_at_once_is_harmless(start_bridge: Callable[..., Bridge]) -> None:
    bridges = [start_bridge() for _ in range(4)]
    bridges[0].storage.ready()
    send(bridges[0], "CallRecorded")
    (body,) = take(bridges[0].storage, "events")
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda one: process(one, body), bridges))
    assert_one_effect(bridges[0].storage, "CallRecorded")


@pytest.mark.slow
def test_many_workers_on_one_call_lose_nothing(start_bridge: Callable[..., Bridge]) -> None:
    bridges = [start_bridge() for _ in range(4)]
    for contact in range(24):
        send(bridges[0], "CallStarted", contactID=contact)
    bodies = take(bridges[0].storage, "events")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda work: process(bridges[work[0] % 4], work[1]), enumerate(bodies)))
    found = story(bridges[0].storage)
    assert found["revision"] == 24
    assert json.loads(found["contacts"]) == list(range(24))


@pytest.mark.parametrize(("caller", "sender"), [("29998877", "+37129998877"), ("+37129998877", "29998877")])
@pytest.mark.parametrize("first", ["VoicemailCreated", "CallStarted"])
def test_a_voicemail_finds_its_call_whichever_comes_first(bridge: Bridge, first: str, caller: str, sender: str) -> None:
    call = {"callID": 1524668588123456, "callStarted": "2018-04-25T15:03:08+0000", "caller": caller}
    sends = {"CallStarted": call, "VoicemailCreated": {"callStarted": "2018-04-25T15:03:08Z", "sender": sender}}
    for name in sorted(sends, key=lambda name: name != first):
        id = send(bridge, name, **sends[name])
        run(bridge)
    # An event that waits for its call is delayed by seconds: read it before it is visible.
    if bridge.storage.queue("events").get_queue_properties().approximate_message_count:
        (row,) = [row for row in rows(bridge.storage, "events") if row["type"] == "VoicemailCreated"]
        id, waits = row["id"], first == "VoicemailCreated"
        assert waits
        process(bridge, encode({"id": id, "stored": True, "begun": True, "resume": 1}))
    found = story(bridge.storage, call["callID"])
    assert json.loads(found["voicemails"]) == [171118926552]
    assert found["revision"] == 2


def test_a_long_event_travels_as_a_pointer_and_keeps_every_field(bridge: Bridge) -> None:
    send(bridge, "CallStarted", notes="ā" * 30_000)
    (pointer,) = take(bridge.storage, "events")
    assert len(pointer) < 200
    process(bridge, pointer)
    (row,) = rows(bridge.storage, "events")
    envelope = json.loads(messages.get_payload(bridge.storage, row["payload"]))
    assert envelope["data"]["notes"] == "ā" * 30_000
    assert row["drift"] == "notes"


_STRAY = {
    "fits": {"callID": "1524664459097344", "contactID": "971", "caller": 27771153, "destination": 112},
    "odd": {"callID": {"id": 1}, "contactID": "Anna", "caller": "9" * 40_000, "destination": [1], "k" * 2_000: 1},
}


@pytest.mark.slow
@pytest.mark.parametrize("sent", _STRAY.values(), ids=_STRAY.keys())
@pytest.mark.parametrize("event", ["LostCallerAdded", "CallRecorded", "VoicemailCreated", "VoicemailDeleted"])
def test_a_field_of_other_events_breaks_nothing_and_is_kept(bridge: Bridge, event: str, sent: dict[str, Any]) -> None:
    known = json.loads((FIXTURES / f"{event}.json").read_text())["data"]
    strays = {name: value for name, value in sent.items() if name not in known}
    send(bridge, event, **strays)
    run(bridge)
    (row,) = rows(bridge.storage, "feed")
    body = row["body"] if "body" in row else messages.get_payload(bridge.storage, row["payload"])
    assert json.loads(body)["data"].items() >= strays.items()
    assert row["drift"] == ",".join(sorted(strays))[:1000]


def test_a_field_of_other_events_counts_where_it_fits(bridge: Bridge) -> None:
    send(bridge, "VoicemailCreated", callID=str(CALL), contactID="971")
    run(bridge)
    found = story(bridge.storage)
    assert (json.loads(found["voicemails"]), json.loads(found["contacts"])) == ([171118926552], [971])


@pytest.mark.parametrize(
    "message",
    [
        *(
            b"garbage",
            b"[]",
            b"{}",
            b'{"event": "CallParked"}',
            b'{"payload": "events/gone"}',
            b'{"payload": "../x?y#z"}',
        ),
        b'{"id": "a/b", "event": "CallStarted", "origin": "x","received": "2018-04-25","body":{"data": {"callID": 1}}}',
        b'{"id": 1, "event": 2}',
    ],
)
def test_a_message_that_is_no_event_can_never_succeed(bridge: Bridge, message: bytes) -> None:
    with pytest.raises(Unprocessable):
        process(bridge, message)


def test_an_employee_who_is_rung_twice_in_one_call_has_two_ends(bridge: Bridge) -> None:
    missed = {"callConnected": None, "connectionTime": 0, "contactID": 966}
    talked = {"callConnected": "2018-04-25T13:55:31+0000", "connectionTime": 100, "contactID": 966}
    for end in (missed, talked, talked | {"connectionTime": 101}, {"contactID": 966, "connectionTime": None}, missed):
        send(bridge, "CallCompleted", **end)
        run(bridge)
    submit(bridge, "CallCompleted", {"callID": CALL, **talked}, origin="reconciled")
    run(bridge)
    ends = [json.loads(row["body"])["data"]["connectionTime"] for row in rows(bridge.storage, "feed")]
    assert sorted(ends) == [0, 100]
    assert (story(bridge.storage)["outcome"], story(bridge.storage)["talkSeconds"]) == ("answered", 100)


def test_a_second_end_whose_run_died_is_finished_as_the_second(bridge: Bridge, steps: Steps) -> None:
    send(bridge, "CallCompleted", connectionTime=0, callConnected=None)
    run(bridge)
    send(bridge, "CallCompleted", connectionTime=100)
    (body,) = take(bridge.storage, "events")
    steps.broken = "feed"
    with pytest.raises(ExceptionGroup):
        process(bridge, body)
    steps.broken = ""
    process(bridge, body, begun=True)
    process(bridge, body)
    assert len(rows(bridge.storage, "feed")) == len(rows(bridge.storage, "events")) == 2


def test_what_history_has_of_a_dropped_month_makes_no_event(bridge: Bridge) -> None:
    people.drop_month(bridge.storage, "2018-04")
    submit(bridge, "CallStarted", {"callID": CALL}, origin="reconciled")
    run(bridge)
    assert rows(bridge.storage, "events") == rows(bridge.storage, "calls") == []
    send(bridge, "CallStarted")
    run(bridge)
    assert len(rows(bridge.storage, "events")) == 1


@pytest.mark.parametrize("levels", [200, 1000])
def test_a_deep_event_is_refused_or_read_and_posted_like_any_other(bridge: Bridge, levels: int) -> None:
    body = f'{{"data": {{"callID": {CALL}, "contactID": 966, "deep": {"[" * levels + "]" * levels}}}}}'.encode()
    try:
        id = accept(bridge, event_named("CallStarted"), body)
    except Refused:
        # The depth limit of JSON depends on the depth of the stack.
        assert levels == 1000
        assert [row["kind"] for row in dead_letters(bridge.storage)] == ["refused"]
        return
    run(bridge)
    (item,) = calls.read_events(bridge, GET_EVENTS, Request())["data"]
    assert (item["id"], item["data"]["callID"], story(bridge.storage)["revision"]) == (id, CALL, 1)
    stored = read_event(bridge.storage, id)
    assert not isinstance(stored, str)
    json.dumps(stored[1])
