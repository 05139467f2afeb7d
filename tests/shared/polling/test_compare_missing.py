"""An item that no webhook announced enters the pipeline once, as the webhook's event and under its id."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from dev.simulator import Simulator
from shared import health
from shared.bridge import Bridge
from shared.events.event import accept
from shared.events.table import event_named
from shared.pbx.resources import RESOURCES
from shared.polling import compare
from shared.polling.poll import poll, reconcile
from shared.polling.run import Run
from shared.privacy.retention import drop
from shared.storage.rows import descending
from shared.times import iso, now
from tests.polls import CALLS, RECORDINGS, VOICEMAILS, run_pipeline, submitted
from tests.stored import dead_letters

POLLED = [resource for resource in RESOURCES if not resource.editable]
ANNOUNCED = {"call_records": "CallRecorded", "voicemails": "VoicemailCreated"}
GRACE = timedelta(minutes=5)
LATER = GRACE + timedelta(seconds=1)


@pytest.fixture
def bridge(start: Callable[..., Bridge]) -> Bridge:
    bridge = start()
    bridge.storage.ready()
    for resource in POLLED:
        poll(bridge, resource)
    return bridge


def add_call(pbx: Simulator, **fields: Any) -> int:
    start = now() - timedelta(minutes=3)
    call = {"caller": "27771153", "destination": "67021234", "direction": "in", "status": 3, "contactID": 966}
    call |= {"callStarted": start, "callConnected": start + timedelta(seconds=9), "connectionTime": 40}
    return pbx.add("call_history", **{**call, "callEnded": start + timedelta(seconds=49), **fields})


def post(bridge: Bridge, event: str, **data: Any) -> str:
    return accept(bridge, event_named(event), json.dumps({"data": data}).encode())


def events(bridge: Bridge) -> list[tuple[str, str]]:
    return sorted((row["type"], row["origin"]) for row in bridge.storage.table("events").list_entities())


def restored(bridge: Bridge, moment: datetime | None = None) -> int:
    """Poll once the grace is over, and process; how many events are new."""
    before = len(events(bridge))
    for resource in POLLED:
        poll(bridge, resource, at=moment or now() + LATER)
    run_pipeline(bridge)
    return len(events(bridge)) - before


def look(bridge: Bridge) -> int:
    for resource in POLLED:
        poll(bridge, resource)
    return restored(bridge)


def test_a_call_without_any_webhook_is_restored_after_the_grace_and_not_before(pbx: Simulator, bridge: Bridge) -> None:
    call, begin = add_call(pbx), now()
    poll(bridge, CALLS, at=begin)
    assert restored(bridge, begin + GRACE - timedelta(seconds=1)) == 0
    reconcile(bridge, at=begin + LATER)
    assert len(run_pipeline(bridge)) == 3
    assert restored(bridge, begin + 2 * LATER) == 0
    assert events(bridge) == [(name, "reconciled") for name in ("CallCompleted", "CallConnected", "CallStarted")]
    assert (story(bridge, call)["outcome"], story(bridge, call)["talkSeconds"]) == ("answered", 40)
    ended = pbx.item("call_history", call)["callEnded"].replace(microsecond=0)
    rows = {row["type"]: row for row in bridge.storage.table("events").list_entities()}
    assert iso(rows["CallCompleted"]["happened"]) == iso(ended)
    assert all("drift" not in row for row in rows.values())


@pytest.mark.parametrize("resource", [RECORDINGS, VOICEMAILS], ids=lambda value: value.name)
@pytest.mark.parametrize("came", [True, False], ids=["announced", "not announced"])
def test_recordings_and_voicemails_are_restored_unless_they_were_announced(
    resource: Any, came: bool, pbx: Simulator, bridge: Bridge
) -> None:
    fields = {"callID": 7} if resource is RECORDINGS else {"sender": "27771153", "length": 9}
    number, event = pbx.add(resource.name, **fields, callStarted=now()), ANNOUNCED[resource.name]
    if came:
        post(bridge, event, **{resource.id_field: number})
        run_pipeline(bridge)
    assert look(bridge) == (0 if came else 1)
    assert events(bridge) == [(event, "webhook" if came else "reconciled")]
    if not came:
        id = post(bridge, event, **{resource.id_field: number})
        assert bridge.storage.table("events").get_entity("event", id)["origin"] == "reconciled"


def test_a_restored_recording_has_the_length_of_its_talk(pbx: Simulator, bridge: Bridge) -> None:
    start = now()
    times = {"callStarted": start, "callConnected": start, "callEnded": start + timedelta(minutes=10)}
    pbx.add("call_records", callID=7, connectionTime=None, **times)
    assert look(bridge) == 1
    (row,) = bridge.storage.table("events").list_entities()
    assert json.loads(row["body"])["data"]["connectionTime"] == 600


def test_a_voicemail_that_is_gone_was_deleted_and_no_audio_is_for_it(pbx: Simulator, bridge: Bridge) -> None:
    number = pbx.add("voicemails", sender="27771153", callStarted=now() - timedelta(days=200))
    restored(bridge, now() + timedelta(hours=1))
    pbx.remove("voicemails", number)
    restored(bridge, now() + timedelta(hours=2))
    assert ("VoicemailDeleted", "reconciled") in events(bridge)
    messages = [json.loads(one.content) for one in bridge.storage.queue("media").receive_messages()]
    assert {one["inferred"] for one in messages if one["action"] == "withdraw"} <= {True}


def test_what_led_to_a_call_that_ended_is_counted_as_lost_and_so_is_a_transfer(pbx: Simulator, bridge: Bridge) -> None:
    post(bridge, "CallCompleted", callID=add_call(pbx), contactID=966)
    moved = add_call(pbx, contactID=970)
    for name in ("CallStarted", "CallConnected"):
        post(bridge, name, callID=moved, contactID=966)
    post(bridge, "CallCompleted", callID=moved, contactID=970)
    run_pipeline(bridge)
    assert look(bridge) == 0
    health.flush(bridge.storage)
    lost = health.of_kind(next(iter(health.days(bridge.storage, 1).values())), health.LOST)
    assert lost == {"CallStarted": 1, "CallConnected": 1, "CallTransfered": 1}


def test_events_that_nobody_wants_webhooks_for_are_not_restored_and_losses_are_signalled(
    pbx: Simulator, bridge: Bridge, start: Callable[..., Bridge], caplog: pytest.LogCaptureFixture
) -> None:
    add_call(pbx)
    choosy = start(pbx_events=("CallCompleted",), public_base_url="https://bridge.example/")
    assert look(choosy) == 1
    assert [line for line in caplog.messages if "signal" in line] == [
        "signal webhook_loss resource=call_history events=1"
    ]


def test_a_malformed_item_stops_no_other(pbx: Simulator, bridge: Bridge, monkeypatch: pytest.MonkeyPatch) -> None:
    look_at = compare.FINDERS["call_history"]
    calls = {add_call(pbx, contactID="nobody"), add_call(pbx)}
    broken = add_call(pbx)

    def fails(run: Run, id: int, item: Any) -> Any:
        if id == broken:
            raise ZeroDivisionError
        return look_at(run, id, item)

    monkeypatch.setattr(compare, "FINDERS", {**compare.FINDERS, "call_history": fails})
    look(bridge)
    ended = bridge.storage.table("events").query_entities("type eq 'CallCompleted'")
    assert {row["callID"].value for row in ended} == calls
    (dead,) = dead_letters(bridge.storage)
    assert "ZeroDivisionError at tests/shared/polling/test_compare_missing.py:" in dead["reason"]


@pytest.mark.parametrize("end", [None, "", "1970-01-01T00:00:00+0000", "soon", 0])
def test_a_call_that_goes_on_is_not_ended_and_its_real_end_is_sent(end: Any, pbx: Simulator, bridge: Bridge) -> None:
    call = add_call(pbx, callEnded=end, connectionTime=None)
    assert look(bridge) == 2
    assert events(bridge) == [("CallConnected", "reconciled"), ("CallStarted", "reconciled")]
    pbx.edit("call_history", call, callEnded=now() + timedelta(seconds=1), connectionTime=1200)
    look(bridge)
    assert events(bridge).count(("CallCompleted", "reconciled")) == 1
    rows = {row["type"]: row for row in bridge.storage.table("events").list_entities()}
    assert json.loads(rows["CallCompleted"]["body"])["data"]["connectionTime"] == 1200


def test_an_employee_who_declines_ends_nothing_while_the_call_goes_on(pbx: Simulator, bridge: Bridge) -> None:
    never = dict.fromkeys(("callConnected", "callEnded", "connectionTime"))
    call = add_call(pbx, contactID=966, callStarted=now(), **never)
    for contact in (966, 970, 971):
        post(bridge, "CallStarted", callID=call, contactID=contact)
    post(bridge, "CallCompleted", callID=call, contactID=966)
    run_pipeline(bridge)
    assert look(bridge) == 0
    assert story(bridge, call)["outcome"] == "ringing"
    pbx.edit("call_history", call, callEnded=pbx.item("call_history", call)["callStarted"] + timedelta(seconds=49))
    assert look(bridge) == 2
    assert story(bridge, call)["outcome"] == "missed"


def test_a_bare_announcement_gets_what_the_list_knows(pbx: Simulator, bridge: Bridge) -> None:
    call = add_call(pbx)
    post(bridge, "CallStarted", callID=call, contactID=966, caller="27771153")
    recording = pbx.add("call_records", callID=call, recordingURL="http://127.0.0.1:9/x", callStarted=now())
    post(bridge, "CallRecorded", recordingID=recording)
    run_pipeline(bridge)
    look(bridge)
    row = bridge.storage.table("calls").get_entity("call", descending(call))
    assert json.loads(row["recordings"]) == [recording]
    assert restored(bridge, now() + 2 * LATER) == 0


def test_a_dropped_month_does_not_come_back_while_its_calls_are_told(
    pbx: Simulator, bridge: Bridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    last_month = now().replace(day=1) - timedelta(days=1)
    call = add_call(pbx, callStarted=last_month, callConnected=last_month, callEnded=now())
    look_at = compare.FINDERS["call_history"]

    def drops(run: Run, id: int, item: Any) -> Any:
        found = look_at(run, id, item)
        drop(bridge, f"{last_month:%Y-%m}", dry=False)
        return found

    monkeypatch.setattr(compare, "FINDERS", {**compare.FINDERS, "call_history": drops})
    poll(bridge, CALLS, at=last_month + timedelta(days=1))
    assert call not in {number for _, number in submitted(bridge.storage)}


def story(bridge: Bridge, call: int) -> dict[str, Any]:
    row = bridge.storage.table("calls").get_entity("call", descending(call))
    names = ("caller", "destination", "direction", "started", "connected", "ended", "outcome", "talkSeconds")
    return {name: row.get(name) for name in names}


BARE: list[list[tuple[str, dict[str, Any]]]] = [
    [("CallCompleted", {"contactID": 966})],
    [("CallCompleted", {})],
    [("CallCompleted", {"contactID": "nobody"})],
    [("CallCompleted", {"contactID": ["nobody"]})],
    [("CallStarted", {"contactID": 966}), ("CallCompleted", {})],
    [("CallCompleted", {"contactID": 966, "caller": "20000000", "direction": "out"})],
    [("CallCompleted", {"contactID": 970})],
    [("CallConnected", {"contactID": 966}), ("CallCompleted", {"contactID": 966, "connectionTime": 3})],
]


@pytest.mark.slow
@pytest.mark.parametrize("sent", BARE, ids=str)
def test_history_completes_an_end_that_said_less(
    sent: list[tuple[str, dict[str, Any]]], pbx: Simulator, bridge: Bridge
) -> None:
    alone, call = add_call(pbx), add_call(pbx)
    for name, data in sent:
        post(bridge, name, callID=call, **data)
    run_pipeline(bridge)
    before = sorted(row["RowKey"] for row in bridge.storage.table("events").query_entities(f"callID eq {call}L"))
    assert look(bridge) == 3  # those of the other call
    known, whole = story(bridge, call), story(bridge, alone)
    assert {**known, "started": None, "connected": None, "ended": None} == {
        **whole, "started": None, "connected": None, "ended": None
    }  # fmt: skip
    assert known["outcome"] == "answered"
    assert known["talkSeconds"] == 40
    after = sorted(row["RowKey"] for row in bridge.storage.table("events").query_entities(f"callID eq {call}L"))
    assert after == before


RANG = [("CallStarted", {"contactID": contact}) for contact in (966, 967, 968)]


@pytest.mark.parametrize(
    ("sent", "missing", "outcome"),
    [
        (RANG, 3, "missed"),
        ([*RANG, ("CallCompleted", {"contactID": 966})], 2, "missed"),
        ([*RANG, *(("CallCompleted", {"contactID": one}) for one in (966, 967, 968))], 0, "missed"),
        ([("CallCompleted", {"contactID": 970})], 0, "missed"),
        ([*RANG, ("CallCompleted", {"contactID": 967}), ("CallConnected", {"contactID": 966})], 1, "answered"),
    ],
    ids=["nobody ended", "one ended", "all ended", "another employee ended", "who answered has not ended"],
)
def test_a_call_ends_once_for_each_one_it_rang_or_for_who_answered(
    sent: list[tuple[str, dict[str, Any]]], missing: int, outcome: str, pbx: Simulator, bridge: Bridge
) -> None:
    is_answered = outcome == "answered"
    call = add_call(pbx, contactID="966", **({} if is_answered else {"callConnected": None, "connectionTime": 0}))
    for name, data in sent:
        post(bridge, name, callID=call, direction="in", **data)
    run_pipeline(bridge)
    assert look(bridge) == missing
    assert story(bridge, call)["outcome"] == outcome
