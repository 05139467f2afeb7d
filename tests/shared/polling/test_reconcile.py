"""What was polled and never announced enters the pipeline once, as the webhook's event and under its id."""

from __future__ import annotations

import itertools
import json
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from shared import health
from shared.events.receive import accept
from shared.events.table import event_named
from shared.items import reader as items
from shared.pbx.resources import RESOURCES
from shared.polling.poll import poll
from shared.polling.reconcile import reconcile
from shared.storage.rows import row_key
from shared.times import iso, now
from tests.dying import is_killed
from tests.polls import CALLS, CONTACTS, RECORDINGS, VOICEMAILS, run_pipeline, submitted
from tests.stored import dead_letters

if TYPE_CHECKING:
    from collections.abc import Callable

    from dev.simulator import Simulator
    from shared.bridge import Bridge

POLLED = [resource for resource in RESOURCES if not resource.editable]
ANNOUNCED = {"call_history": "CallCompleted", "call_records": "CallRecorded", "voicemails": "VoicemailCreated"}
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
    return accept(bridge.storage, bridge.settings, event_named(event), json.dumps({"data": data}).encode())


def outcome(bridge: Bridge) -> dict[str, Any]:
    (row,) = bridge.storage.table("calls").list_entities()
    return dict(row)


def events(bridge: Bridge) -> list[tuple[str, str]]:
    return sorted((row["type"], row["origin"]) for row in bridge.storage.table("events").list_entities())


def test_a_call_without_any_webhook_is_restored_after_the_grace_and_not_before(pbx: Simulator, bridge: Bridge) -> None:
    add_call(pbx)
    begin = now()
    poll(bridge, CALLS, at=begin)
    assert reconcile(bridge, at=begin + GRACE - timedelta(seconds=1)) == 0
    assert reconcile(bridge, at=begin + LATER) == 3
    assert reconcile(bridge, at=begin + 2 * LATER) == 0
    run_pipeline(bridge)
    assert events(bridge) == [(name, "reconciled") for name in ("CallCompleted", "CallConnected", "CallStarted")]
    story = outcome(bridge)
    assert (story["outcome"], story["talkSeconds"], story["answeredBy"].value) == ("answered", 40, 966)
    assert all("drift" not in row for row in bridge.storage.table("events").list_entities())


@pytest.mark.parametrize(
    ("resource", "fields"),
    [
        (RECORDINGS, {"callID": 7, "direction": "in", "callStarted": "2026-01-05T08:00:00+0000"}),
        (VOICEMAILS, {"sender": "27771153", "length": 9, "callStarted": "2026-01-05T08:00:00+0000"}),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
@pytest.mark.parametrize("came", [True, False], ids=["announced", "not announced"])
def test_recordings_and_voicemails_are_restored_unless_they_were_announced(
    resource: Any, fields: dict[str, Any], came: bool, pbx: Simulator, bridge: Bridge
) -> None:
    number, event = pbx.add(resource.name, **fields), ANNOUNCED[resource.name]
    if came:
        post(bridge, event, **{resource.id_field: number})
        run_pipeline(bridge)
    poll(bridge, resource)
    assert reconcile(bridge, at=now() + LATER) == (0 if came else 1)
    run_pipeline(bridge)
    assert events(bridge) == [(event, "webhook" if came else "reconciled")]
    asked = bridge.storage.queue("media").receive_messages()
    assert len({message.content for message in asked}) == 1


@pytest.mark.parametrize("resource", POLLED, ids=lambda resource: resource.name)
def test_a_webhook_that_comes_after_all_changes_nothing(resource: Any, pbx: Simulator, bridge: Bridge) -> None:
    fields = {"contactID": 966} if resource is not VOICEMAILS else {}
    ended = {"callEnded": now()} if resource is CALLS else {}
    number, event = pbx.add(resource.name, **fields, **ended), ANNOUNCED[resource.name]
    poll(bridge, resource)
    reconcile(bridge, at=now() + LATER)
    before = {message["id"] for message in run_pipeline(bridge)}
    assert post(bridge, event, **{resource.id_field: number}, **fields) in before
    run_pipeline(bridge)
    assert {origin for _, origin in events(bridge)} == {"reconciled"}
    assert len(events(bridge)) == len(before)


def test_a_completed_webhook_that_names_another_employee_is_enough(pbx: Simulator, bridge: Bridge) -> None:
    call = add_call(pbx, contactID=970)
    post(bridge, "CallCompleted", callID=call, contactID=966)
    run_pipeline(bridge)
    poll(bridge, CALLS)
    assert reconcile(bridge, at=now() + LATER) == 0


def test_a_group_call_that_nobody_answered_ends_for_each_one_it_rang(pbx: Simulator, bridge: Bridge) -> None:
    call = add_call(pbx, callConnected=None, connectionTime=0)
    for contact in (966, 967, 968):
        post(bridge, "CallStarted", callID=call, contactID=contact, direction="in")
    run_pipeline(bridge)
    poll(bridge, CALLS)
    assert reconcile(bridge, at=now() + LATER) == 3
    run_pipeline(bridge)
    assert outcome(bridge)["outcome"] == "missed"


def test_a_group_call_that_ended_for_one_of_those_it_rang_ends_for_the_others(pbx: Simulator, bridge: Bridge) -> None:
    call = add_call(pbx, callConnected=None, connectionTime=0)
    for contact in (966, 967):
        post(bridge, "CallStarted", callID=call, contactID=contact, direction="in")
    post(bridge, "CallCompleted", callID=call, contactID=966)
    run_pipeline(bridge)
    poll(bridge, CALLS)
    assert reconcile(bridge, at=now() + LATER) == 1
    run_pipeline(bridge)
    assert outcome(bridge)["outcome"] == "missed"
    assert events(bridge).count(("CallCompleted", "reconciled")) == 1


def test_a_contact_sent_as_text_is_the_same_contact(pbx: Simulator, bridge: Bridge) -> None:
    call = add_call(pbx, callConnected=None, connectionTime=0, contactID="966")
    for contact in (966, 967):
        post(bridge, "CallStarted", callID=call, contactID=contact, direction="in")
    run_pipeline(bridge)
    poll(bridge, CALLS)
    assert reconcile(bridge, at=now() + LATER) == 2


def test_what_led_to_a_call_that_ended_is_counted_as_lost_and_not_reported(pbx: Simulator, bridge: Bridge) -> None:
    post(bridge, "CallCompleted", callID=add_call(pbx), contactID=966)
    run_pipeline(bridge)
    poll(bridge, CALLS)
    assert reconcile(bridge, at=now() + LATER) == 0
    health.flush(bridge.storage)
    assert health.days(bridge.storage, 1)[0]["lost"] == {"CallStarted": 1, "CallConnected": 1}


def test_events_that_nobody_wants_webhooks_for_are_not_restored(
    pbx: Simulator, bridge: Bridge, start: Callable[..., Bridge]
) -> None:
    add_call(pbx)
    poll(bridge, CALLS)
    choosy = start(pbx_events=("CallCompleted",))
    assert reconcile(choosy, at=now() + LATER) == 1


def test_losses_are_signalled_where_webhooks_are_expected(
    pbx: Simulator, bridge: Bridge, start: Callable[..., Bridge], caplog: pytest.LogCaptureFixture
) -> None:
    reachable = start(public_base_url="https://bridge.example/")
    for one in (bridge, reachable):
        add_call(pbx)
        poll(one, CALLS)
        reconcile(one, at=now() + LATER)
    assert [line for line in caplog.messages if "signal" in line] == [
        "signal webhook_loss resource=call_history events=3"
    ]


def test_an_item_with_an_odd_field_is_reconciled_like_any_other(pbx: Simulator, bridge: Bridge) -> None:
    calls = {add_call(pbx, contactID="nobody"), add_call(pbx)}
    poll(bridge, CALLS)
    reconcile(bridge, at=now() + LATER)
    assert {("CallCompleted", number) for number in calls} <= set(submitted(bridge.storage))
    assert not list(bridge.storage.table("deadletters").list_entities())
    assert reconcile(bridge, at=now() + 2 * LATER) == 0


@pytest.mark.slow
def test_a_first_reading_of_everything_hands_calls_on_as_a_backfill(
    pbx: Simulator, start: Callable[..., Bridge], caplog: pytest.LogCaptureFixture
) -> None:
    bridge = start(poll_start="all", public_base_url="https://bridge.example/")
    calls = pbx.bulk("call_history", 30)
    poll(bridge, CALLS)
    assert reconcile(bridge, at=now() + LATER) == 90
    messages = run_pipeline(bridge)
    assert {message["origin"] for message in messages} == {"backfill"}
    assert {message["body"]["data"]["callID"] for message in messages} == set(calls)
    assert not [line for line in caplog.messages if "signal" in line]


@pytest.mark.slow
@pytest.mark.parametrize("after", [False, True], ids=["before the request", "after it took effect"])
def test_a_reconciliation_killed_at_any_step_restores_everything_once(
    after: bool, pbx: Simulator, bridge: Bridge, start: Callable[..., Bridge]
) -> None:
    for step in itertools.count(1):
        call = add_call(pbx)
        poll(bridge, CALLS)
        doomed = start()
        if not is_killed(doomed.storage, step, reconcile, doomed, at=now() + LATER, after=after):
            break
        reconcile(start(), at=now() + LATER)
        assert submitted(bridge.storage) == [(name, call) for name in ("CallCompleted", "CallConnected", "CallStarted")]
    assert step > 6


def test_polled_events_are_dated_by_what_they_tell(pbx: Simulator, bridge: Bridge) -> None:
    call = add_call(pbx)
    poll(bridge, CALLS)
    reconcile(bridge, at=now() + LATER)
    run_pipeline(bridge)
    ended = pbx.item("call_history", call)["callEnded"].replace(microsecond=0)
    rows = {row["type"]: row for row in bridge.storage.table("events").list_entities()}
    assert iso(rows["CallCompleted"]["happened"]) == iso(ended)
    poll(bridge, CONTACTS)


@pytest.mark.slow
@pytest.mark.parametrize("end", [None, "", "1970-01-01T00:00:00+0000", "-0001-11-30T00:00:00+0000", "soon", 0])
def test_a_call_that_goes_on_is_not_ended_and_its_real_end_is_sent(end: Any, pbx: Simulator, bridge: Bridge) -> None:
    call = add_call(pbx, callEnded=end, connectionTime=None)
    begin = now()
    poll(bridge, CALLS, at=begin)
    moment = begin
    for _ in range(4):
        moment += LATER
        reconcile(bridge, at=moment)
    run_pipeline(bridge)
    assert events(bridge) == [("CallConnected", "reconciled"), ("CallStarted", "reconciled")]
    pbx.edit("call_history", call, callEnded=moment, connectionTime=1200)
    asked = len(pbx.calls_seen("GetCallHistoryItemByID"))
    for _ in range(6):
        moment += timedelta(minutes=20)
        reconcile(bridge, at=moment)
    run_pipeline(bridge)
    assert events(bridge).count(("CallCompleted", "reconciled")) == 1
    rows = {row["type"]: row for row in bridge.storage.table("events").list_entities()}
    assert json.loads(rows["CallCompleted"]["body"])["data"]["connectionTime"] == 1200
    assert len(pbx.calls_seen("GetCallHistoryItemByID")) == asked + 1


def test_a_call_that_nobody_foresaw_when_it_is_asked_for_is_a_dead_letter(
    pbx: Simulator, bridge: Bridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = add_call(pbx, callEnded=None, connectionTime=None)
    begin, stored = now(), items.stored
    poll(bridge, CALLS, at=begin)
    reconcile(bridge, at=begin + LATER)

    def broken(*which: Any) -> Any:
        if (item := stored(*which)) and item["callEnded"]:
            raise ZeroDivisionError
        return item

    monkeypatch.setattr(items, "stored", broken)
    pbx.edit("call_history", call, callEnded=begin)
    for minutes in (20, 40, 60):
        reconcile(bridge, at=begin + timedelta(minutes=minutes))
    (dead,) = dead_letters(bridge.storage)
    assert dead["reason"].startswith("ZeroDivisionError")


@pytest.mark.slow
def test_a_call_that_never_ends_is_asked_for_at_growing_distances_for_a_week(pbx: Simulator, bridge: Bridge) -> None:
    add_call(pbx, callEnded=None)
    begin = now()
    poll(bridge, CALLS, at=begin)
    for hour in range(24 * 8):
        reconcile(bridge, at=begin + timedelta(hours=hour, minutes=6))
    assert 24 < len(pbx.calls_seen("GetCallHistoryItemByID")) <= 24 * 7 + 1
    assert not list(bridge.storage.table("resources").query_entities("RowKey ge 'p' and RowKey lt 'q'"))
    run_pipeline(bridge)
    assert "CallCompleted" not in {name for name, _ in events(bridge)}


def test_a_transfer_that_nobody_announced_is_counted(pbx: Simulator, bridge: Bridge) -> None:
    for came in (False, True):
        call = add_call(pbx, contactID=970)
        for name in ("CallStarted", "CallConnected"):
            post(bridge, name, callID=call, contactID=966)
        if came:
            post(bridge, "CallTransfered", callID=call, contactID=970, previous_contactID=966)
        post(bridge, "CallCompleted", callID=call, contactID=970)
        run_pipeline(bridge)
        poll(bridge, CALLS)
        assert reconcile(bridge, at=now() + LATER) == 0
        health.flush(bridge.storage)
        lost = health.days(bridge.storage, 1)[0]["lost"].get("CallTransfered", 0)
        assert lost == (0 if came else 1)


def story(bridge: Bridge, call: int) -> dict[str, Any]:
    row = bridge.storage.table("calls").get_entity("call", row_key(call))
    names = ("caller", "destination", "direction", "started", "connected", "ended", "outcome", "talkSeconds")
    return {name: row.get(name) for name in names}


def look(bridge: Bridge, moment: Any = None) -> int:
    poll(bridge, CALLS)
    count = reconcile(bridge, at=(moment or now()) + LATER)
    run_pipeline(bridge)
    return count


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


def odd_answers(start: datetime) -> dict[str, str]:
    """Times of an answer that the start of the call leaves no room for."""
    early, late = start - timedelta(days=2), start + timedelta(days=30)
    return {
        "days before": iso(early),
        "a clock that was not set": "2001-01-01T00:00:00+0000",
        "a month later": iso(late),
        "an hour before, with its zone": iso(start - timedelta(hours=1)),
        "hours before, without a zone": iso(start - timedelta(hours=3)).removesuffix("Z"),
    }


@pytest.mark.slow
@pytest.mark.parametrize("way", odd_answers(now()))
@pytest.mark.parametrize("said", ["callStarted", "callID"])
@pytest.mark.parametrize("posted", [(), ("CallStarted",), ("CallStarted", "CallCompleted")], ids=str)
def test_an_answer_outside_of_its_call_is_none(
    way: str, said: str, posted: tuple[str, ...], pbx: Simulator, bridge: Bridge
) -> None:
    start = now().replace(microsecond=0) - timedelta(minutes=3)
    id = int(start.timestamp()) * 1_000_000 if said == "callID" else 9001
    times = {"callStarted": start if said == "callStarted" else None, "callConnected": odd_answers(start)[way]}
    call = {"caller": "27771153", "contactID": 966, "connectionTime": 0, "direction": "in", "destination": "67021234"}
    pbx.add("call_history", id, **call, **times, callEnded=start + timedelta(seconds=30))
    for name in posted:
        post(bridge, name, callID=id, **call, **({"callStarted": iso(start)} if said == "callStarted" else {}))
    run_pipeline(bridge)
    look(bridge)
    assert look(bridge, now() + LATER) == 0
    assert {name for name, _ in events(bridge)} == {"CallStarted", "CallCompleted"}
    assert (story(bridge, id)["outcome"], story(bridge, id)["connected"]) == ("missed", None)


@pytest.mark.parametrize("answer", [timedelta(seconds=9), -timedelta(seconds=20), timedelta(minutes=2)], ids=str)
def test_an_answer_in_its_call_is_one(answer: timedelta, pbx: Simulator, bridge: Bridge) -> None:
    start = now().replace(microsecond=0) - timedelta(minutes=3)
    call = add_call(pbx, callStarted=start, callConnected=start + answer, callEnded=start + timedelta(minutes=2.5))
    assert look(bridge) == 3
    assert story(bridge, call)["outcome"] == "answered"


def test_what_webhooks_said_in_full_is_not_said_again(pbx: Simulator, bridge: Bridge) -> None:
    call = add_call(pbx)
    item = {
        name: value
        for name, value in pbx.view("call_history", pbx.item("call_history", call)).items()
        if name != "callEnded"
    }
    for name in ("CallStarted", "CallConnected", "CallCompleted"):
        post(bridge, name, **item)
    run_pipeline(bridge)
    poll(bridge, CALLS)
    assert reconcile(bridge, at=now() + LATER) == 0
    assert run_pipeline(bridge) == []


def test_an_employee_who_declines_ends_nothing_while_the_call_goes_on(pbx: Simulator, bridge: Bridge) -> None:
    call = add_call(pbx, contactID=966, callConnected=None, callEnded=None, connectionTime=None)
    for contact in (966, 970, 971):
        post(bridge, "CallStarted", callID=call, contactID=contact)
    post(bridge, "CallCompleted", callID=call, contactID=966)
    run_pipeline(bridge)
    assert look(bridge) == 0
    assert story(bridge, call)["outcome"] == "ringing"
    ended = pbx.item("call_history", call)["callStarted"] + timedelta(seconds=49)
    pbx.edit("call_history", call, callEnded=ended)
    moment = now()
    for _ in range(3):
        moment += timedelta(minutes=20)
        reconcile(bridge, at=moment)
    run_pipeline(bridge)
    assert events(bridge).count(("CallCompleted", "reconciled")) == 2
    assert story(bridge, call)["outcome"] == "missed"


def test_the_lost_end_of_who_answered_is_found_beside_the_end_of_who_did_not(pbx: Simulator, bridge: Bridge) -> None:
    call = add_call(pbx, contactID=966)
    for contact in (966, 970):
        post(bridge, "CallStarted", callID=call, contactID=contact)
    post(bridge, "CallCompleted", callID=call, contactID=970)
    post(bridge, "CallConnected", callID=call, contactID=966)
    run_pipeline(bridge)
    assert look(bridge) == 1
    assert (story(bridge, call)["outcome"], story(bridge, call)["talkSeconds"]) == ("answered", 40)


def test_a_bare_announcement_gets_what_the_list_knows(pbx: Simulator, bridge: Bridge) -> None:
    call = add_call(pbx)
    post(bridge, "CallStarted", callID=call, contactID=966, caller="27771153")
    recording = pbx.add("call_records", callID=call, recordingURL="http://127.0.0.1:9/x", callStarted=now())
    started = pbx.item("call_history", call)["callStarted"]
    voicemail = pbx.add(
        "voicemails", sender="27771153", callStarted=started, length=3, messageURL="http://127.0.0.1:9/x"
    )
    post(bridge, "CallRecorded", recordingID=recording)
    post(bridge, "VoicemailCreated", voicemailID=voicemail)
    run_pipeline(bridge)
    for resource in (RECORDINGS, VOICEMAILS):
        poll(bridge, resource)
    reconcile(bridge, at=now() + LATER)
    run_pipeline(bridge)
    row = bridge.storage.table("calls").get_entity("call", row_key(call))
    assert json.loads(row["recordings"]) == [recording]
    reconcile(bridge, at=now() + 2 * LATER)
    assert run_pipeline(bridge) == []
