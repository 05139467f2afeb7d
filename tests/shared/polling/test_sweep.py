"""The sweep finds what no cursor can: a day of long calls ends complete, where the connector's way loses some."""

from __future__ import annotations

from collections import Counter
from contextlib import nullcontext
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from dev.simulator.day import long_calls
from shared.api.status import status
from shared.calls.store import calls
from shared.errors import PbxError, PbxRefused, PbxUnavailable
from shared.events.receive import accept, submit
from shared.events.table import event_named
from shared.items import reader as items
from shared.pbx.resources import RESOURCES
from shared.polling import checkpoints
from shared.polling.poll import poll
from shared.polling.reconcile import reconcile
from shared.polling.sweep import sweep
from shared.times import iso, now
from tests.polls import CALLS, CONTACTS, RECORDINGS, run_pipeline, stored_ids, submitted

if TYPE_CHECKING:
    from collections.abc import Callable

    from dev.simulator import Simulator
    from shared.bridge import Bridge

STEP = timedelta(minutes=20)


def connectors_way(pbx: Simulator) -> Callable[[], list[int]]:
    """A reader that asks for ids above the first one of its last answer, as the certified connector does."""
    state = {"initial": 0}

    def read() -> list[int]:
        found = pbx.rows["call_history"].page(state["initial"], (), order="newest", offset=0, limit=100)
        if found:
            state["initial"] = found[0]["callID"]
        return [item["callID"] for item in found]

    return read


@pytest.mark.slow
def test_a_day_of_calls_from_seconds_to_hours_ends_with_each_call_once(
    pbx: Simulator, bridge: Bridge, capsys: pytest.CaptureFixture[str]
) -> None:
    begin = now() - timedelta(hours=30)
    pbx.clock.set(begin)
    poll(bridge, CALLS, at=begin)
    calls = long_calls(pbx, 40)
    theirs, read = list[int](), connectors_way(pbx)
    moment = begin
    while moment < begin + timedelta(hours=26):
        moment += STEP
        pbx.clock.set(moment)
        poll(bridge, CALLS, at=moment)
        theirs += read()
        if not (moment - begin) % timedelta(hours=2):
            sweep(bridge, at=moment)
        if not (moment - begin) % timedelta(hours=6):
            reconcile(bridge, at=moment)
            run_pipeline(bridge)
    reconcile(bridge, at=moment + STEP)
    run_pipeline(bridge)
    found = bridge.storage.table("feed").query_entities("RowKey lt 'n0'")
    rows = [row for row in found if row["type"] == "CallCompleted"]
    ours = Counter(row["callID"].value for row in rows)
    with capsys.disabled():
        print(f"\nof {len(calls)} calls: {len(ours)} here, {len(set(theirs))} the connector's way")  # noqa: T201 - the two numbers are what the test shows
    assert ours == Counter(calls)
    assert len(set(theirs)) < len(calls)


@pytest.mark.slow
@pytest.mark.parametrize("resource", RESOURCES, ids=lambda resource: resource.name)
def test_a_sweep_finds_smaller_ids_that_came_later(resource: Any, pbx: Simulator, bridge: Bridge) -> None:
    old = pbx.add(resource.name, 5000, callStarted=now())
    poll(bridge, resource)
    late = pbx.add(resource.name, 4000, callStarted=now() - timedelta(hours=3))
    if not resource.editable:
        poll(bridge, resource)
        assert stored_ids(bridge.storage, resource.name) == [old]
    for _ in range(2):
        sweep(bridge)
    assert stored_ids(bridge.storage, resource.name) == [late, old]
    arrivals = [item[resource.id_field] for _, item in items.arrived_after(bridge.storage, resource.name, "0", 10)]
    assert arrivals == [late]


def test_a_sweep_before_the_first_reading_leaves_it_to_the_poll(pbx: Simulator, bridge: Bridge) -> None:
    pbx.bulk("call_history", 3)
    sweep(bridge)
    assert not stored_ids(bridge.storage, CALLS.name)


def test_what_history_learns_later_is_stored_without_an_event(pbx: Simulator, bridge: Bridge) -> None:
    call = pbx.add("call_history", callStarted=now())
    poll(bridge, CALLS)
    pbx.edit("call_history", call, recordingID=77)
    sweep(bridge)
    stored = items.get(bridge.storage, CALLS.name, call)
    assert stored is not None
    assert stored["recordingID"] == 77
    assert not submitted(bridge.storage)


@pytest.mark.parametrize("call_id", [None, 4242], ids=["an id that is the start", "a plain counter"])
def test_a_call_that_began_and_never_ended_is_looked_up_by_id(
    call_id: int | None, pbx: Simulator, bridge: Bridge
) -> None:
    poll(bridge, CALLS)
    began = now() - timedelta(days=2)
    call = call_id or int(began.timestamp()) * 1_000_000
    data = {"callID": call, "callStarted": iso(began), "contactID": 966}
    submit(bridge.storage, bridge.settings, "CallStarted", data, origin="webhook")
    run_pipeline(bridge)
    poll(bridge, CALLS)
    pbx.add("call_history", call, callStarted=began, callEnded=began + timedelta(hours=1), contactID=966)
    pbx.add("call_history", call + 10**12, callStarted=now())
    poll(bridge, CALLS)
    sweep(bridge)
    assert call in stored_ids(bridge.storage, CALLS.name)
    reconcile(bridge, at=now() + timedelta(minutes=6))
    assert ("CallCompleted", call) in submitted(bridge.storage)


def test_a_call_that_still_goes_on_is_not_taken_for_one_that_ended(pbx: Simulator, bridge: Bridge) -> None:
    poll(bridge, CALLS)
    began = now() - timedelta(days=2)
    call = int(began.timestamp()) * 1_000_000
    data = {"callID": call, "callStarted": iso(began), "contactID": 966}
    submit(bridge.storage, bridge.settings, "CallStarted", data, origin="webhook")
    run_pipeline(bridge)
    pbx.add("call_history", call, callStarted=began, callEnded=None, contactID=966)
    sweep(bridge)
    assert not stored_ids(bridge.storage, CALLS.name)


def test_a_call_that_the_pbx_has_no_good_answer_for_hides_no_other(pbx: Simulator, bridge: Bridge) -> None:
    poll(bridge, CALLS)
    began = now() - timedelta(hours=30)
    first = int(began.timestamp()) * 1_000_000
    for number in (first, first + 1):
        data = {"callID": number, "callStarted": iso(began), "contactID": 1}
        calls(bridge.storage, bridge.settings.default_region).merge(number, _fact(bridge, data))
    pbx.add("call_history", first + 1, callStarted=began, callEnded=began + timedelta(minutes=1), contactID=1)
    pbx.faults.add("status", path=f"*/call_history/{first}", status=422)
    with pytest.raises(PbxRefused):
        sweep(bridge)
    assert first + 1 in stored_ids(bridge.storage, CALLS.name)


@pytest.mark.parametrize("fault", [{"status": 403}, {"status": 422}, {"status": 500}], ids=str)
def test_what_cannot_be_looked_up_by_id_is_shown_and_holds_up_no_list(
    fault: dict[str, int], pbx: Simulator, bridge: Bridge
) -> None:
    poll(bridge, CALLS)
    begin = now()
    began = begin - timedelta(hours=1)
    call = int(began.timestamp()) * 1_000_000
    calls(bridge.storage, bridge.settings.default_region).merge(call, _fact(bridge, {"callID": call, "contactID": 1}))
    pbx.faults.add("status", match="GetCallHistoryItemByID", **fault)
    late = pbx.add("call_history", 1, callStarted=begin - timedelta(hours=3))
    refused = fault["status"] == 403
    for hour in (1, 2):
        with nullcontext() if refused else pytest.raises(PbxError):
            sweep(bridge, at=begin + timedelta(hours=hour))
        checkpoint = checkpoints.read(bridge.storage, CALLS.name)
        assert checkpoint
        assert checkpoint.swept == begin + timedelta(hours=hour)
        assert checkpoint.last_error == ""
    assert late in stored_ids(bridge.storage, CALLS.name)
    (problem,) = status(bridge)["problems"]
    assert "by id" in problem
    assert "GetCallHistoryItemByID" in problem
    pbx.faults.clear()
    sweep(bridge, at=begin + timedelta(hours=3))
    assert status(bridge)["problems"] == []


def test_a_list_that_may_not_be_read_is_not_swept(pbx: Simulator, bridge: Bridge) -> None:
    for resource in RESOURCES:
        poll(bridge, resource)
    pbx.options.refused = {"GetCallHistory"}
    sweep(bridge, at=now() + timedelta(hours=1))
    swept = {one.resource: one.swept for one in checkpoints.read_all(bridge.storage)}
    assert swept[CALLS.name] is None
    assert swept[RECORDINGS.name]


def test_a_call_without_an_end_after_a_week_is_unknown_also_while_the_pbx_is_gone(
    pbx: Simulator, bridge: Bridge
) -> None:
    stories = calls(bridge.storage, bridge.settings.default_region)
    ids = [int((now() - timedelta(days=days)).timestamp()) * 1_000_000 for days in (6, 8)]
    for call in ids:
        stories.merge(call, _fact(bridge, {"callID": call, "contactID": 1}))
    pbx.faults.add("status", match="GetAudioPrompts", status=500)
    with pytest.raises(PbxUnavailable):
        sweep(bridge)
    outcomes = {row["callID"].value: row["outcome"] for row in bridge.storage.table("calls").list_entities()}
    assert outcomes == {ids[0]: "ringing", ids[1]: "unknown"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("call", "started", "days"),
    [
        (1_524_664_459_097_344, "2018-04-25T13:54:19+0000", 0),
        (1_524_664_459_097_344, "", 0),
        (77, "2018-04-25T13:54:19+0000", 0),
        (77, "", 7.1),
        (77, "0000-00-00", 8),
        (1_717_149_600_000_000_123, "", 7.1),
        (1_717_149_600_000_000_123, "2018-04-25T13:54:19+0000", 0),
    ],
)
def test_a_call_is_given_up_after_a_week_however_late_it_came_and_whatever_it_says(
    call: int, started: str, days: float, bridge: Bridge, pbx: Simulator
) -> None:
    for event in ("CallStarted", "CallConnected"):
        data = {"callID": call, "callStarted": started, "callConnected": "", "contactID": 966}
        submit(bridge.storage, bridge.settings, event, data, origin="webhook")
    submit(bridge.storage, bridge.settings, "CallCompleted", data | {"callID": call + 1}, origin="webhook")
    run_pipeline(bridge)

    def outcomes() -> list[str]:
        rows = bridge.storage.table("calls").list_entities()
        return [row["outcome"] for row in sorted(rows, key=lambda row: row["RowKey"])]

    if days:
        sweep(bridge, at=now() + timedelta(days=days - 1.5))
    before, _ = outcomes()
    assert before in {"ringing", "talking"}
    sweep(bridge, at=now() + timedelta(days=days))
    assert outcomes()[0] == "unknown"
    assert outcomes()[1] == "missed"


@pytest.mark.slow
def test_a_sweep_asks_for_a_bounded_number_of_calls(pbx: Simulator, bridge: Bridge) -> None:
    poll(bridge, CALLS)
    began = now() - timedelta(hours=2)
    for number in range(120):
        data = {"callID": int(began.timestamp()) * 1_000_000 + number, "callStarted": iso(began), "contactID": 1}
        calls(bridge.storage, bridge.settings.default_region).merge(data["callID"], _fact(bridge, data))
    asked: set[str] = set()
    for hour in range(4):
        before = len(pbx.calls_seen("GetCallHistoryItemByID"))
        sweep(bridge, at=now() + timedelta(hours=hour))
        lookups = pbx.calls_seen("GetCallHistoryItemByID")[before:]
        assert len(lookups) <= 50
        asked |= {seen.path for seen in lookups}
    assert len(asked) == 120


def _fact(bridge: Bridge, data: dict[str, Any]) -> Any:
    from shared.events.event import ReceivedEvent, check_envelope

    envelope, checked = check_envelope(event_named("CallStarted"), {"eventType": "CallStarted", "data": data})
    return ReceivedEvent(
        type=event_named("CallStarted"), id=str(data["callID"]), data=checked, envelope=envelope, origin="webhook",
        received=now(),
    )  # fmt: skip


def test_a_daily_listing_notes_that_items_are_still_there_and_reports_those_that_are_not(
    pbx: Simulator, bridge: Bridge
) -> None:
    stays, goes = pbx.add_contact("Anna"), pbx.add_contact("Ieva")
    poll(bridge, CONTACTS)
    pbx.remove("contacts", goes)
    tomorrow = now() + timedelta(days=1)
    for minutes in (0, 0, 1):
        assert submitted(bridge.storage) == []
        sweep(bridge, at=tomorrow + timedelta(minutes=minutes))
    assert submitted(bridge.storage) == [("ContactRemoved", goes)]
    seen = items.known(bridge.storage, CONTACTS.name)
    assert seen[stays].seen[:10] == iso(tomorrow)[:10]


def test_one_resource_that_fails_does_not_keep_the_others_from_being_swept(pbx: Simulator, bridge: Bridge) -> None:
    for resource in RESOURCES:
        poll(bridge, resource)
    pbx.faults.add("status", match="GetAudioPrompts", status=500)
    late = pbx.add("call_records", 1, callStarted=now())
    pbx.add("call_records", 10**15, callStarted=now())
    poll(bridge, RECORDINGS)
    with pytest.raises(PbxUnavailable):
        sweep(bridge)
    assert late in stored_ids(bridge.storage, RECORDINGS.name)


def test_a_webhook_posted_twice_still_counts_once_beside_a_sweep(pbx: Simulator, bridge: Bridge) -> None:
    poll(bridge, CALLS)
    call = pbx.add("call_history", callStarted=now(), contactID=7)
    body = b'{"eventType": "CallCompleted", "data": {"callID": %d, "contactID": 7}}' % call
    for _ in range(2):
        accept(bridge.storage, bridge.settings, event_named("CallCompleted"), body)
    run_pipeline(bridge)
    sweep(bridge)
    assert not reconcile(bridge, at=now() + timedelta(minutes=6))


@pytest.mark.parametrize("outage", [timedelta(hours=70), timedelta(days=9)], ids=["a weekend", "a holiday"])
def test_a_sweep_looks_back_to_its_last_success(outage: timedelta, pbx: Simulator, bridge: Bridge) -> None:
    begin = now() - timedelta(days=20)
    poll(bridge, CALLS, at=begin)
    sweep(bridge, at=begin)
    later = begin + outage
    pbx.add("call_history", callStarted=later)
    poll(bridge, CALLS, at=later)
    late = pbx.add("call_history", 4000, callStarted=begin - timedelta(hours=2), callEnded=begin, contactID=5)
    pbx.faults.add("status", match="GetCallHistory", status=500, times=4)
    with pytest.raises(PbxUnavailable):
        sweep(bridge, at=later)
    assert late not in stored_ids(bridge.storage, CALLS.name)
    sweep(bridge, at=later + timedelta(hours=1))
    assert late in stored_ids(bridge.storage, CALLS.name)
    before = len(pbx.requests)
    sweep(bridge, at=later + timedelta(hours=2))
    query = next(seen.query for seen in pbx.requests[before:] if seen.operation == "GetCallHistory")
    assert iso((later - timedelta(hours=23)).replace(microsecond=0))[:13] in query.replace("%3A", ":")
