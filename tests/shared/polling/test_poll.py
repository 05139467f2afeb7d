"""Polls against a simulated PBX over HTTP: nothing lost, nothing reported twice, next to nothing spent on silence."""

from __future__ import annotations

import itertools
import json
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from dev.simulator.store import RefusedError
from shared.errors import BudgetExhausted, PbxError, PbxUnavailable
from shared.events.table import EVENTS
from shared.items import reader as items
from shared.pbx.budget import Budget
from shared.pbx.client import Pbx
from shared.pbx.resources import RESOURCES, Resource
from shared.polling import checkpoints
from shared.polling import pages as paging
from shared.polling.checkpoints import HEARTBEAT
from shared.polling.poll import PAUSE, poll
from shared.polling.reconcile import reconcile
from shared.schedules import polls
from shared.times import now
from tests.counting import counted
from tests.dying import is_killed
from tests.polls import (
    CALLS,
    CONTACTS,
    RECORDINGS,
    arrived_ids,
    queued,
    run_pipeline,
    stored_ids,
    submitted,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from dev.simulator import Simulator
    from shared.bridge import Bridge
    from shared.storage.account import Storage

IDS = [resource.name for resource in RESOURCES]
EDITABLE = [resource for resource in RESOURCES if resource.editable]
HISTORY = [resource for resource in RESOURCES if not resource.editable]
LARGEST = 2**63 - 1


def new_arrivals(storage: Storage, name: str, old: Iterable[int]) -> list[int]:
    """What arrived, each as often as it did, beside the old items that were recent enough to arrive."""
    return [number for number in arrived_ids(storage, name) if number not in old]


def seen(pbx: Simulator, work: Callable[[], Any]) -> int:
    """How many requests the PBX gets from this."""
    before = len(pbx.requests)
    work()
    return len(pbx.requests) - before


@pytest.mark.parametrize("resource", RESOURCES, ids=IDS)
def test_after_a_first_silent_reading_each_new_item_is_stored_once(
    resource: Resource, pbx: Simulator, bridge: Bridge
) -> None:
    old = pbx.bulk(resource.name, 7)
    poll(bridge, resource)
    assert stored_ids(bridge.storage, resource.name) == list(old)
    assert not submitted(bridge.storage)
    new = pbx.bulk(resource.name, 3)
    for _ in range(3):
        poll(bridge, resource)
    assert stored_ids(bridge.storage, resource.name) == [*old, *new]
    assert new_arrivals(bridge.storage, resource.name, old) == list(new)
    assert submitted(bridge.storage) == (
        [(f"{resource.noun}Created", number) for number in new] if resource.editable else []
    )


@pytest.mark.parametrize("resource", RESOURCES, ids=IDS)
@pytest.mark.parametrize("count", [0, 40], ids=["nothing", "forty"])
def test_an_idle_poll_costs_one_call_one_read_and_no_write(
    resource: Resource, count: int, pbx: Simulator, bridge: Bridge
) -> None:
    pbx.bulk(resource.name, count)
    poll(bridge, resource)
    adapter = counted(bridge.storage)
    assert seen(pbx, lambda: poll(bridge, resource)) == 1
    assert adapter.count == 1


def test_a_heartbeat_shows_at_most_every_ten_minutes_that_the_poll_runs(pbx: Simulator, bridge: Bridge) -> None:
    begin = now()
    poll(bridge, CALLS, at=begin)
    adapter = counted(bridge.storage)
    for minute in range(1, 31):
        poll(bridge, CALLS, at=begin + timedelta(minutes=minute))
    assert adapter.count == 30 + 3
    checkpoint = checkpoints.read(bridge.storage, CALLS.name)
    assert checkpoint is not None
    assert checkpoint.last_success == begin + timedelta(minutes=30)


@pytest.mark.slow
@pytest.mark.parametrize("order", ["newest", "oldest", "random", "shuffled-page"])
@pytest.mark.parametrize("cap", [1, 4, 1000])
@pytest.mark.parametrize("resource", [CALLS, CONTACTS], ids=lambda resource: resource.name)
def test_order_and_size_of_pages_do_not_matter(
    order: str, cap: int, resource: Resource, pbx: Simulator, bridge: Bridge
) -> None:
    pbx.options.order, pbx.options.page_cap, pbx.options.empty = order, cap, "404"
    old = pbx.bulk(resource.name, 20)
    poll(bridge, resource)
    assert stored_ids(bridge.storage, resource.name) == list(old)
    new = pbx.bulk(resource.name, 11)
    later = now() + HEARTBEAT
    poll(bridge, resource, at=later)
    assert stored_ids(bridge.storage, resource.name) == [*old, *new]
    assert new_arrivals(bridge.storage, resource.name, old) == list(new)
    if resource.editable:
        assert [number for _, number in submitted(bridge.storage)] == list(new)


@pytest.mark.parametrize("ids", ["clock", "small", "huge"])
def test_ids_are_exact_and_sort_as_numbers(ids: str, pbx: Simulator, bridge: Bridge) -> None:
    pbx.options.ids = ids
    poll(bridge, CALLS)
    wanted = sorted({*pbx.bulk("call_history", 5), 9, 10, LARGEST - 1, LARGEST})
    for number in (9, 10, LARGEST - 1, LARGEST):
        pbx.add("call_history", number, contactID=LARGEST)
    poll(bridge, CALLS)
    assert stored_ids(bridge.storage, CALLS.name) == wanted
    assert [item["callID"] for item in items.query(bridge.storage, CALLS.name)] == wanted[::-1]
    newest = items.query(bridge.storage, CALLS.name, limit=1)[0]
    assert (newest["callID"], newest["contactID"]) == (LARGEST, LARGEST)
    checkpoint = checkpoints.read(bridge.storage, CALLS.name)
    assert checkpoint is not None
    assert checkpoint.cursor == LARGEST
    assert seen(pbx, lambda: poll(bridge, CALLS)) == 1


@pytest.mark.slow
@pytest.mark.parametrize("resource", EDITABLE, ids=lambda resource: resource.name)
def test_each_edit_and_removal_is_reported_once_and_a_change_back_is_a_change(
    resource: Resource, pbx: Simulator, bridge: Bridge
) -> None:
    field = "boxName" if resource.name == "voicemail_boxes" else "firstname" if resource is CONTACTS else "name"
    first, second = pbx.add(resource.name, **{field: "A"}), pbx.add(resource.name, **{field: "B"})
    poll(bridge, resource)
    happened = []
    for value in ("C", "A", "C"):
        pbx.edit(resource.name, first, **{field: value})
        poll(bridge, resource)
        poll(bridge, resource)
        happened.append(submitted(bridge.storage))
    assert happened == [[(f"{resource.noun}Updated", first)]] * 3
    moment = now()
    for _ in range(2):
        item = pbx.item(resource.name, second)
        pbx.remove(resource.name, second)
        for _ in range(3):
            moment += timedelta(minutes=1)
            poll(bridge, resource, at=moment)
        assert items.get(bridge.storage, resource.name, second) is None
        pbx.add(resource.name, second, **{name: value for name, value in item.items() if name != resource.id_field})
        for _ in range(2):
            moment += timedelta(minutes=1)
            poll(bridge, resource, at=moment)
        happened.append(submitted(bridge.storage))
    assert happened[3:] == [[(f"{resource.noun}Created", second), (f"{resource.noun}Removed", second)]] * 2


def test_changes_reach_the_table_of_events_as_the_pbx_has_them(pbx: Simulator, bridge: Bridge) -> None:
    poll(bridge, CONTACTS)
    contact = pbx.add_contact("Līga", "Ozola", "26550103", pets=2)
    poll(bridge, CONTACTS)
    pbx.edit("contacts", contact, lastname="Kalniņa")
    poll(bridge, CONTACTS)
    pbx.remove("contacts", contact)
    for minutes in (1, 2, 62):
        poll(bridge, CONTACTS, at=now() + timedelta(minutes=minutes))
    run_pipeline(bridge)
    rows = {row["type"]: row for row in bridge.storage.table("events").list_entities()}
    assert rows.keys() == {"ContactCreated", "ContactUpdated", "ContactRemoved"}
    data = {name: json.loads(row["body"])["data"] for name, row in rows.items()}
    assert [data[name]["lastname"] for name in sorted(data)] == ["Ozola", "Kalniņa", "Kalniņa"]
    assert {row["contactID"].value for row in rows.values()} == {contact}
    assert {(row["origin"], row["drift"]) for row in rows.values()} == {("poll", "pets")}


def test_another_format_or_order_of_the_same_content_is_no_edit(pbx: Simulator, bridge: Bridge) -> None:
    people = [pbx.add_contact(name) for name in ("Anna", "Ieva", "Zane")]
    pbx.add_group("Birojs", people)
    groups = next(resource for resource in RESOURCES if resource.name == "groups")
    for times, absent, order in (("offset", "null", "newest"), ("mixed", "empty", "oldest"), ("z", "omit", "random")):
        pbx.options.times, pbx.options.absent, pbx.options.order = times, absent, order
        pbx.edit("groups", pbx.rows["groups"].largest() or 0, members=[{"contactID": one} for one in people])
        people.reverse()
        for resource in (CONTACTS, groups):
            poll(bridge, resource, whole=True)
    assert not submitted(bridge.storage)


@pytest.mark.slow
@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "status", "status": 503, "after": 1},
        {"kind": "body-status", "status": 500, "after": 1},
        {"kind": "html", "after": 1},
        {"kind": "cut", "after": 1},
        {"kind": "truncated", "after": 1},
        {"kind": "status", "status": 429, "after": 1},
        {"kind": "reset", "after": 1},
        {"kind": "status", "status": 404, "after": 1},
        {"kind": "body-status", "status": 404, "after": 2},
    ],
    ids=lambda fault: f"{fault['kind']} {fault.get('status', '')}",
)
def test_a_failed_or_partial_listing_removes_nothing_and_loses_nothing(
    fault: dict[str, Any], pbx: Simulator, bridge: Bridge
) -> None:
    pbx.options.page_cap = 4
    old = pbx.bulk("contacts", 10)
    poll(bridge, CONTACTS)
    new = pbx.add_contact("Jauna")
    pbx.faults.add(**fault, match="GetContacts")
    try:
        poll(bridge, CONTACTS, whole=True)
    except PbxError:
        checkpoint = checkpoints.read(bridge.storage, CONTACTS.name)
        assert checkpoint is not None
        assert checkpoint.last_error
    pbx.faults.clear()
    poll(bridge, CONTACTS)
    assert submitted(bridge.storage) == [("ContactCreated", new)]
    assert stored_ids(bridge.storage, CONTACTS.name) == [*old, new]


@pytest.mark.parametrize("status", [429, 500, 502])
def test_a_storm_that_passes_within_the_retries_is_not_noticed(status: int, pbx: Simulator, bridge: Bridge) -> None:
    poll(bridge, CALLS)
    new = pbx.bulk("call_history", 5)
    pbx.faults.add("status", status=status, times=3, retry_after="1")
    poll(bridge, CALLS)
    assert arrived_ids(bridge.storage, CALLS.name) == list(new)


def test_a_list_that_grows_and_shrinks_while_it_is_paged_loses_nothing(
    pbx: Simulator, start: Callable[..., Bridge]
) -> None:
    bridge = start(poll_start="all")
    pbx.options.page_cap = 10
    old = pbx.bulk("call_history", 60)
    lister = pbx._api._handlers["GetCallHistory"]
    added: list[int] = []

    def moving(request: Any, part: str) -> Any:
        answer = lister(request, part)
        if len(added) < 15:
            added.extend(pbx.bulk("call_history", 3))
            pbx.remove("call_history", added.pop(0))
        return answer

    pbx._api._handlers["GetCallHistory"] = moving
    for _ in range(2):
        poll(bridge, CALLS)
    assert set(old) | set(added) <= set(arrived_ids(bridge.storage, CALLS.name))
    assert len(set(arrived_ids(bridge.storage, CALLS.name))) == len(arrived_ids(bridge.storage, CALLS.name))


def test_a_server_that_knows_neither_offset_nor_cursor_ends_the_poll(pbx: Simulator, bridge: Bridge) -> None:
    poll(bridge, CALLS)
    lister = pbx._api._handlers["GetCallHistory"]

    def stubborn(request: Any, part: str) -> Any:
        query = request.arguments
        for name in ("offset", "initial_call_id"):
            query.pop(name, None)
        return lister(request, part)

    pbx._api._handlers["GetCallHistory"] = stubborn
    old = pbx.bulk("call_history", 30)
    for _ in range(2):
        assert seen(pbx, lambda: poll(bridge, CALLS)) <= 3
    assert arrived_ids(bridge.storage, CALLS.name) == list(old)


@pytest.mark.parametrize("fault", ["status", "oversize"])
def test_a_large_page_that_is_refused_is_asked_for_smaller(fault: str, pbx: Simulator, bridge: Bridge) -> None:
    new = pbx.bulk("call_history", 150)
    pbx.options.page_cap = 100
    pbx.faults.add(fault, status=422, times=1)
    poll(bridge, CALLS)
    assert stored_ids(bridge.storage, CALLS.name) == list(new)


@pytest.mark.parametrize("largest", [100, 50])
def test_what_the_pbx_refuses_as_too_large_is_not_asked_for_again(largest: int, pbx: Simulator, bridge: Bridge) -> None:
    lister = pbx._api._handlers["GetCallHistory"]

    def strict(request: Any, part: str) -> Any:
        if int(request.arguments.get("limit", 0)) > largest:
            raise RefusedError("limit is too large")
        return lister(request, part)

    pbx._api._handlers["GetCallHistory"] = strict
    new = pbx.bulk("call_history", 150)
    poll(bridge, CALLS)
    assert stored_ids(bridge.storage, CALLS.name) == list(new)
    assert seen(pbx, lambda: poll(bridge, CALLS)) == 1


@pytest.mark.parametrize("resource", [CALLS, CONTACTS], ids=lambda resource: resource.name)
def test_what_comes_between_two_first_readings_at_once_is_new(
    resource: Resource, pbx: Simulator, start: Callable[..., Bridge]
) -> None:
    old = pbx.add(resource.name, callEnded=now() - timedelta(hours=1))
    lister, new = pbx._api._handlers[resource.list_operation], list[int]()

    def overtaken(request: Any, part: str) -> Any:
        if not new:
            new.append(old)
            poll(start(), resource)
            new.append(pbx.add(resource.name, callEnded=None))
        return lister(request, part)

    pbx._api._handlers[resource.list_operation] = overtaken
    bridge = start()
    poll(bridge, resource)
    reconcile(bridge, at=now() + timedelta(minutes=6))
    assert {number for _, number in submitted(bridge.storage)} == {new[1]}


def test_a_list_that_brings_the_cursors_own_item_again_is_idle(pbx: Simulator, bridge: Bridge) -> None:
    lister = pbx._api._handlers["GetCallHistory"]

    def inclusive(request: Any, part: str) -> Any:
        request.arguments["initial_call_id"] = str(int(request.arguments["initial_call_id"]) - 1)
        return lister(request, part)

    old = pbx.bulk("call_history", 5)
    poll(bridge, CALLS)
    pbx._api._handlers["GetCallHistory"] = inclusive
    adapter = counted(bridge.storage)
    assert seen(pbx, lambda: poll(bridge, CALLS)) == 1
    assert adapter.count == 1
    new = pbx.bulk("call_history", 2)
    poll(bridge, CALLS)
    assert stored_ids(bridge.storage, CALLS.name) == [*old, *new]
    assert new_arrivals(bridge.storage, CALLS.name, old) == list(new)


def test_a_page_that_is_missing_once_does_not_end_the_list(pbx: Simulator, start: Callable[..., Bridge]) -> None:
    pbx.options.page_cap = 10
    old = pbx.bulk("call_history", 40)
    pbx.faults.add("status", match="GetCallHistory", status=404, after=2, times=1)
    bridge = start(poll_start="all")
    poll(bridge, CALLS)
    assert stored_ids(bridge.storage, CALLS.name) == list(old)


def test_many_that_left_the_list_and_are_still_known_hide_none_that_is_gone(pbx: Simulator, bridge: Bridge) -> None:
    *archived, gone = pbx.bulk("contacts", 61)
    stays = pbx.add_contact("Anna")
    poll(bridge, CONTACTS)
    reader = pbx._api._handlers["GetContactsByID"]
    request: Any = None
    kept = {str(number): reader(request, str(number)) for number in archived}
    pbx._api._handlers["GetContactsByID"] = lambda request, part: kept.get(part) or reader(request, part)
    for number in (*archived, gone):
        pbx.remove("contacts", number)
    moments = [now() + timedelta(minutes=minutes) for minutes in (0, 1, 61, 62, 63, 64)]
    calls = [seen(pbx, partial(poll, bridge, CONTACTS, at=moment)) for moment in moments]
    assert submitted(bridge.storage) == [("ContactRemoved", gone)]
    assert stored_ids(bridge.storage, CONTACTS.name) == [*archived, stays]
    assert calls[:2] == [2, 2]
    assert calls[2:] == [27, 27, 13, 1]
    assert 1 < seen(pbx, lambda: poll(bridge, CONTACTS, at=moments[-1] + timedelta(hours=2), whole=True)) <= 27


def test_a_resource_that_the_key_may_not_read_is_asked_for_each_five_minutes(
    pbx: Simulator, bridge: Bridge, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    pbx.options.refused = {"GetCallRecordings"}
    begin = now()
    calls = seen(pbx, lambda: [poll(bridge, RECORDINGS, at=begin + timedelta(minutes=one)) for one in range(50)])
    assert calls == 10
    line = caplog.messages[0]
    assert "call_records is paused for 5 minutes" in line
    assert "trigger/call_records" in line
    checkpoint = checkpoints.read(bridge.storage, RECORDINGS.name)
    assert checkpoint is not None
    assert checkpoint.paused_until == begin + timedelta(minutes=45) + PAUSE
    poll(bridge, CALLS)
    pbx.options.refused = set()
    new = pbx.bulk("call_records", 2)
    poll(bridge, RECORDINGS, at=begin + timedelta(hours=1))
    assert stored_ids(bridge.storage, RECORDINGS.name) == list(new)


def test_a_poll_that_keeps_failing_is_signalled_as_stale(
    pbx: Simulator, bridge: Bridge, caplog: pytest.LogCaptureFixture
) -> None:
    begin = now()
    poll(bridge, CALLS, at=begin)
    pbx.faults.add("status", status=500)
    for minute in (10, 30):
        with pytest.raises(PbxUnavailable):
            poll(bridge, CALLS, at=begin + timedelta(minutes=minute))
    assert [line for line in caplog.messages if "signal" in line] == [
        "signal poll_stale resource=call_history seconds=1800"
    ]


@pytest.mark.parametrize(
    ("poll_start", "handed_on"), [("now", 0), ("all", 3), ("2026-01-02T00:00:00Z", 2)], ids=["now", "all", "a date"]
)
def test_the_first_reading_hands_on_what_poll_start_says_and_stores_everything(
    poll_start: str, handed_on: int, pbx: Simulator, start: Callable[..., Bridge]
) -> None:
    days = ["2026-01-01T10:00:00+0000", "2026-01-02T10:00:00+0000", "2026-01-03T10:00:00+0000"]
    people = [pbx.add("contacts", created=day) for day in days]
    calls = [pbx.add("call_history", callStarted=day, callEnded=day) for day in days]
    bridge = start(poll_start=poll_start)
    for resource in (CONTACTS, CALLS):
        poll(bridge, resource)
        poll(bridge, resource)
    assert stored_ids(bridge.storage, CALLS.name) == sorted(calls)
    assert stored_ids(bridge.storage, CONTACTS.name) == people
    wanted = people[3 - handed_on :]
    assert submitted(bridge.storage) == [("ContactCreated", number) for number in wanted]
    pending = bridge.storage.table("resources").query_entities("RowKey ge 'p' and RowKey lt 'q'")
    assert sum(len(json.loads(row["ids"])) for row in pending) == handed_on


@pytest.mark.parametrize("resource", [CALLS, CONTACTS], ids=lambda resource: resource.name)
def test_the_baseline_of_a_first_reading_arrives_for_nobody(
    resource: Resource, pbx: Simulator, start: Callable[..., Bridge]
) -> None:
    pbx.options.page_cap = 10
    day = "2026-01-01T10:00:00+0000"
    old = [pbx.add(resource.name, callStarted=day, callEnded=day, created=day) for _ in range(45)]
    bridge = start()
    states = [items.present(bridge.storage, resource.name), "0"]
    pbx.faults.add("status", status=503, after=2)
    with pytest.raises(PbxUnavailable):
        poll(bridge, resource)
    states.append(items.present(bridge.storage, resource.name))
    pbx.faults.clear()
    poll(bridge, resource)
    states.append(items.present(bridge.storage, resource.name))
    assert stored_ids(bridge.storage, resource.name) == sorted(old)
    for state in states:
        assert items.arrived_after(bridge.storage, resource.name, state, 100) == []
    new = pbx.add(resource.name, callStarted=day, callEnded=day, created=day)
    poll(bridge, resource)
    for state in states:
        found = items.arrived_after(bridge.storage, resource.name, state, 100)
        assert [item[resource.id_field] for _, item in found] == [new]


@pytest.mark.parametrize("resource", [CALLS, CONTACTS], ids=lambda resource: resource.name)
def test_what_is_wanted_of_a_first_reading_arrives(
    resource: Resource, pbx: Simulator, start: Callable[..., Bridge]
) -> None:
    days = [f"2026-01-0{day}T10:00:00+0000" for day in range(1, 6)]
    added = [pbx.add(resource.name, callStarted=day, callEnded=day, created=day) for day in days]
    bridge = start(poll_start="2026-01-03T00:00:00Z")
    state = items.present(bridge.storage, resource.name)
    poll(bridge, resource)
    found = items.arrived_after(bridge.storage, resource.name, state, 100)
    assert sorted(item[resource.id_field] for _, item in found) == sorted(added[2:])


def limited(bridge: Bridge, scale: float = 0.05) -> Bridge:
    """With a budget as it is in earnest, in a part of its time."""
    budget = Budget(bridge.storage, "limited", window=60 * scale)
    return replace(bridge, pbx=Pbx(bridge.settings, budget, pause=lambda seconds: None))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("resource", "begun", "count"), [(CALLS, True, 700), (CONTACTS, False, 500)], ids=["calls", "first contacts"]
)
def test_a_list_that_needs_more_calls_than_there_are_is_read_to_its_end(
    resource: Resource, begun: bool, count: int, pbx: Simulator, bridge: Bridge
) -> None:
    pbx.options.page_cap = 10
    if begun:
        poll(bridge, resource)
    numbers = pbx.bulk(resource.name, count)
    poll(limited(bridge), resource)
    assert stored_ids(bridge.storage, resource.name) == list(numbers)


def test_one_list_at_a_time_waits_for_calls(pbx: Simulator, bridge: Bridge, monkeypatch: pytest.MonkeyPatch) -> None:
    pbx.options.page_cap = 10
    poll(bridge, CALLS)
    pbx.bulk("call_history", 700)
    bridge = limited(bridge, scale=1)
    with paging._patient, pytest.raises(BudgetExhausted):
        poll(bridge, CALLS)
    monkeypatch.setattr(paging, "_LONGEST_WAIT", 0.0)
    with pytest.raises(BudgetExhausted):
        poll(bridge, CALLS)
    assert not paging._patient.locked()


def test_a_first_reading_goes_on_where_it_ended(pbx: Simulator, start: Callable[..., Bridge]) -> None:
    pbx.options.page_cap = 20
    old = pbx.bulk("call_history", 100)
    bridge = start()
    pbx.faults.add("status", status=503, after=3)
    with pytest.raises(PbxUnavailable):
        poll(bridge, CALLS)
    checkpoint = checkpoints.read(bridge.storage, CALLS.name)
    assert checkpoint is not None
    assert (checkpoint.started, checkpoint.items) == (False, 50)
    pbx.faults.clear()
    new = pbx.bulk("call_history", 2)
    assert seen(pbx, lambda: poll(start(), CALLS)) <= 14
    poll(bridge, CALLS)
    assert stored_ids(bridge.storage, CALLS.name) == [*old, *new]
    assert new_arrivals(bridge.storage, CALLS.name, old) == list(new)


def test_a_first_reading_without_budget_goes_on_later_and_a_poll_says_so(
    pbx: Simulator, bridge: Bridge, caplog: pytest.LogCaptureFixture
) -> None:
    pbx.bulk("call_history", 3)
    ask = bridge.pbx.call

    def broke(*args: Any, **options: Any) -> Any:
        raise BudgetExhausted

    bridge.pbx.call = broke  # type: ignore[method-assign]
    poll(bridge, CALLS)
    bridge.pbx.call = ask  # type: ignore[method-assign]
    poll(bridge, CALLS)
    bridge.pbx.call = broke  # type: ignore[method-assign]
    with pytest.raises(BudgetExhausted):
        poll(bridge, CALLS)
    lanes = [line.rpartition("=")[2] for line in caplog.messages if "budget_exhausted" in line]
    assert lanes == ["backfill", "poll"]


@pytest.mark.slow
@pytest.mark.parametrize("after", [False, True], ids=["before the request", "after it took effect"])
@pytest.mark.parametrize("side", ["storage", "pbx"])
@pytest.mark.parametrize("resource", [CALLS, CONTACTS], ids=lambda resource: resource.name)
def test_a_poll_killed_at_any_step_loses_nothing_and_reports_nothing_twice(
    resource: Resource, side: str, after: bool, pbx: Simulator, start: Callable[..., Bridge]
) -> None:
    calm = start()
    calm.storage.ready()
    poll(calm, resource)
    expected: list[tuple[str, int]] = []
    arrived: list[int] = []
    moment = now()
    for step in itertools.count(1):
        new = pbx.bulk(resource.name, 2)
        arrived += new
        expected = [(f"{resource.noun}Created", number) for number in new]
        moment += timedelta(minutes=5)
        if resource.editable and len(arrived) > 4:
            pbx.remove(resource.name, arrived[1])
            poll(start(), resource, at=moment - timedelta(minutes=2))
            submitted(calm.storage)
            pbx.edit(resource.name, arrived[0], firstname=f"Anna {step}")
            expected = [("ContactRemoved", arrived.pop(1)), ("ContactUpdated", arrived[0])]
        doomed = start()
        if not is_killed(getattr(doomed, side), step, poll, doomed, resource, at=moment, after=after):
            break
        poll(start(), resource, at=moment)
        poll(start(), resource, at=moment)
        assert stored_ids(calm.storage, resource.name) == arrived
        assert submitted(calm.storage) == (sorted(expected) if resource.editable else [])
    assert step > (4 if side == "storage" else 2)
    everything = arrived_ids(calm.storage, resource.name)
    assert len(everything) == len(set(everything))


@pytest.mark.slow
@pytest.mark.parametrize("resource", [CALLS, CONTACTS], ids=lambda resource: resource.name)
def test_polls_at_the_same_time_store_and_report_everything_once(
    resource: Resource, pbx: Simulator, start: Callable[..., Bridge]
) -> None:
    bridges = [start() for _ in range(4)]
    poll(bridges[0], resource)
    pbx.options.page_cap = 50
    new = pbx.bulk(resource.name, 130)
    gate = threading.Barrier(4)

    def run(bridge: Bridge) -> None:
        gate.wait()
        poll(bridge, resource)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(run, bridges))
    storage = bridges[0].storage
    assert arrived_ids(storage, resource.name) == list(new)
    assert submitted(storage) == ([("ContactCreated", number) for number in new] if resource.editable else [])


def test_an_older_listing_does_not_undo_what_a_newer_one_showed(pbx: Simulator, start: Callable[..., Bridge]) -> None:
    contact = pbx.add_contact("Anna")
    slow, quick = start(), start()
    poll(slow, CONTACTS)
    pbx.edit("contacts", contact, firstname="Ieva")
    ask = slow.pbx.call

    def dawdle(*args: Any, **options: Any) -> Any:
        found = ask(*args, **options)
        slow.pbx.call = ask  # type: ignore[method-assign]
        pbx.edit("contacts", contact, firstname="Zane")
        poll(quick, CONTACTS)
        return found

    slow.pbx.call = dawdle  # type: ignore[method-assign]
    poll(slow, CONTACTS)
    names = [message["body"]["data"]["firstname"] for message in queued(slow.storage)]
    assert names == ["Zane"]
    stored = items.get(slow.storage, "contacts", contact)
    assert stored is not None
    assert stored["firstname"] == "Zane"


def test_every_editable_resource_has_its_three_events() -> None:
    names = {event.name for event in EVENTS if event.source == "poll"}
    assert names == {f"{row.noun}{what}" for row in EDITABLE for what in ("Created", "Updated", "Removed")}


def test_a_key_that_opens_nothing_is_signalled_shown_and_all_goes_on_by_itself(
    pbx: Simulator, bridge: Bridge, caplog: pytest.LogCaptureFixture
) -> None:
    begin = now()
    for resource in RESOURCES:
        poll(bridge, resource, at=begin)
    pbx.faults.add("status", status=403)
    for minute in range(1, 12):
        for resource in RESOURCES:
            poll(bridge, resource, at=begin + timedelta(minutes=minute))
    (line, *_) = [line for line in caplog.messages if "signal pbx_forbidden" in line]
    assert "IP addresses" in line
    assert "key" in line
    assert "methods" in line
    shown = checkpoints.describe_pbx(checkpoints.read_all(bridge.storage))
    assert shown["state"] == "forbidden"
    assert "IP addresses" in shown["problem"]
    pbx.faults.clear()
    new = pbx.add_contact("Jauna")
    for resource in RESOURCES:
        poll(bridge, resource, at=begin + timedelta(minutes=17))
    assert submitted(bridge.storage) == [("ContactCreated", new)]
    assert checkpoints.describe_pbx(checkpoints.read_all(bridge.storage))["state"] == "allowed"


def test_one_method_that_is_not_granted_is_not_all_of_them(
    pbx: Simulator, bridge: Bridge, caplog: pytest.LogCaptureFixture
) -> None:
    pbx.options.refused = {"GetGroups"}
    for resource in RESOURCES:
        poll(bridge, resource)
    assert not [line for line in caplog.messages if "pbx_forbidden" in line]


NEVER = "0 0 0 29 2 *"


def poll_all(bridge: Bridge, *, but: str = "") -> None:
    for resource in RESOURCES:
        if resource.name != but:
            poll(bridge, resource)


def shown(bridge: Bridge) -> str:
    state: str = checkpoints.describe_pbx(checkpoints.read_all(bridge.storage))["state"]
    return state


def test_a_list_that_is_polled_rarely_hides_no_403_to_everything(
    pbx: Simulator, bridge: Bridge, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("POLL_VOIP_ENDPOINTS_SCHEDULE", NEVER)
    poll_all(bridge)
    pbx.faults.add("status", status=403)
    poll_all(bridge, but="voip_endpoints")
    assert shown(bridge) == "forbidden"
    assert [line for line in caplog.messages if "signal pbx_forbidden" in line]
    pbx.faults.clear()
    poll(bridge, CONTACTS, at=now() + timedelta(minutes=6))
    assert shown(bridge) == "allowed"


def test_lists_that_are_due_soon_are_waited_for(
    pbx: Simulator, bridge: Bridge, caplog: pytest.LogCaptureFixture
) -> None:
    poll_all(bridge)
    pbx.faults.add("status", status=403)
    poll_all(bridge, but="voip_endpoints")
    assert shown(bridge) == "allowed"
    assert not [line for line in caplog.messages if "pbx_forbidden" in line]


def test_one_method_that_is_not_granted_is_told_from_all_however_rarely_lists_are_polled(
    pbx: Simulator, bridge: Bridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    for resource in RESOURCES:
        monkeypatch.setenv(polls(resource.name), NEVER)
    poll_all(bridge)
    pbx.options.refused = {"GetGroups"}
    # Nothing is new: what is let in says so all the same.
    poll_all(bridge)
    assert shown(bridge) == "allowed"


def test_a_picture_under_another_signature_is_no_edit_and_another_picture_is(pbx: Simulator, bridge: Bridge) -> None:
    picture = "https://files.example/a.png?Expires={}&Signature={}&Key-Pair-Id=K"
    people = [pbx.add_contact("Anna", avatar=picture.format(1, "x")) for _ in range(3)]
    poll(bridge, CONTACTS)
    for turn in range(2, 5):
        for number in people:
            pbx.edit("contacts", number, avatar=picture.format(turn, "y" * turn))
        poll(bridge, CONTACTS, at=now() + timedelta(hours=turn), whole=turn == 4)
    assert submitted(bridge.storage) == []
    pbx.edit("contacts", people[0], avatar=picture.format(9, "z").replace("a.png", "b.png"))
    poll(bridge, CONTACTS)
    assert submitted(bridge.storage) == [("ContactUpdated", people[0])]
