"""Polls against a simulated PBX over HTTP: nothing is lost, nothing happens twice, and idle polls cost little."""

from __future__ import annotations

import itertools
import json
import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest

from dev.counting import counted
from dev.simulator import Simulator
from shared.bridge import Bridge
from shared.errors import BudgetExhausted, PbxError, PbxNotUnderstood, PbxUnavailable
from shared.items import store
from shared.pbx.resources import RESOURCES, Resource
from shared.polling.compare import MOST_LOOKUPS
from shared.polling.poll import poll
from shared.polling.run import PAUSE, THOROUGH, Checkpoint, checkpoint_of, checkpoints, forbidden_since
from shared.times import now
from tests.dying import is_killed
from tests.polls import CALLS, CONTACTS, RECORDINGS, arrived_ids, queued, run_pipeline, stored_ids, submitted

IDS = [resource.name for resource in RESOURCES]
EDITABLE = [resource for resource in RESOURCES if resource.editable]
LARGEST = 2**63 - 1


def made(pbx: Simulator, resource: Resource, count: int) -> list[int]:
    """New items, of which those of calls began a moment ago."""
    started = {} if resource.editable else {"callStarted": now(), "callEnded": now()}
    return [pbx.add(resource.name, **started) for _ in range(count)]


def seen(pbx: Simulator, work: Callable[[], Any]) -> int:
    """Return the number of requests that the PBX gets."""
    before = len(pbx.requests)
    work()
    return len(pbx.requests) - before


def checkpoint(bridge: Bridge, resource: Resource) -> Checkpoint:
    found = checkpoint_of(bridge.storage, resource.name)
    assert found is not None
    return found


@pytest.mark.parametrize("resource", RESOURCES, ids=IDS)
def test_after_a_first_silent_reading_each_new_item_is_stored_once(
    resource: Resource, pbx: Simulator, bridge: Bridge
) -> None:
    old = made(pbx, resource, 7)
    poll(bridge, resource)
    assert stored_ids(bridge.storage, resource.name) == old
    assert (submitted(bridge.storage), arrived_ids(bridge.storage, resource.name)) == ([], [])
    new = made(pbx, resource, 3)
    for _ in range(3):
        poll(bridge, resource)
    assert stored_ids(bridge.storage, resource.name) == [*old, *new]
    assert arrived_ids(bridge.storage, resource.name) == new
    assert submitted(bridge.storage) == (
        [(f"{resource.noun}Created", number) for number in new] if resource.editable else []
    )


@pytest.mark.parametrize("resource", RESOURCES, ids=IDS)
@pytest.mark.parametrize("count", [0, 40], ids=["nothing", "forty"])
def test_an_idle_poll_costs_one_call_two_reads_and_one_write(
    resource: Resource, count: int, pbx: Simulator, bridge: Bridge
) -> None:
    made(pbx, resource, count)
    poll(bridge, resource)
    adapter = counted(bridge.storage)
    assert seen(pbx, lambda: poll(bridge, resource)) == 1
    assert adapter.count == 3 if count or resource.editable else 2


@pytest.mark.parametrize("order", ["newest", "oldest", "random", "shuffled-page"])
@pytest.mark.parametrize("resource", [CALLS, CONTACTS], ids=lambda resource: resource.name)
def test_order_and_size_of_pages_do_not_matter(order: str, resource: Resource, pbx: Simulator, bridge: Bridge) -> None:
    pbx.options.order, pbx.options.page_cap, pbx.options.empty = order, 4, "404"
    old = made(pbx, resource, 10)
    poll(bridge, resource)
    new = made(pbx, resource, 7)
    poll(bridge, resource)
    assert stored_ids(bridge.storage, resource.name) == [*old, *new]
    assert arrived_ids(bridge.storage, resource.name) == new


def test_an_odd_id_silences_nothing(pbx: Simulator, bridge: Bridge) -> None:
    poll(bridge, CALLS)
    odd = [pbx.add("call_history", number, callStarted=now(), callEnded=now()) for number in (9, LARGEST)]
    poll(bridge, CALLS)
    new = made(pbx, CALLS, 2)
    poll(bridge, CALLS)
    assert stored_ids(bridge.storage, CALLS.name) == sorted([*odd, *new])
    assert seen(pbx, lambda: poll(bridge, CALLS)) == 1


@pytest.mark.parametrize("resource", EDITABLE, ids=lambda resource: resource.name)
def test_each_edit_and_removal_is_told_once_and_a_change_back_is_a_change(
    resource: Resource, pbx: Simulator, bridge: Bridge
) -> None:
    field = "boxName" if resource.name == "voicemail_boxes" else "firstname" if resource is CONTACTS else "name"
    first, second = pbx.add(resource.name, **{field: "A"}), pbx.add(resource.name, **{field: "B"})
    poll(bridge, resource)
    happened = []
    for value in ("C", "A", "C"):
        pbx.edit(resource.name, first, **{field: value})
        for _ in range(2):
            poll(bridge, resource)
        happened.append(submitted(bridge.storage))
    assert happened == [[(f"{resource.noun}Updated", first)]] * 3
    for _ in range(2):
        pbx.remove(resource.name, second)
        for _ in range(2):
            poll(bridge, resource)
        assert store.get(bridge.storage, resource.name, second) is None
        pbx.add(resource.name, second, **{field: "B"})
        for _ in range(2):
            poll(bridge, resource)
        happened.append(submitted(bridge.storage))
    assert happened[3:] == [[(f"{resource.noun}Created", second), (f"{resource.noun}Removed", second)]] * 2
    assert len(set(arrived_ids(bridge.storage, resource.name))) == 1


@pytest.mark.parametrize("resource", [CALLS, RECORDINGS], ids=lambda resource: resource.name)
def test_what_happened_and_is_deleted_at_the_pbx_leaves_the_lists_within_an_hour_without_an_event(
    resource: Resource, pbx: Simulator, bridge: Bridge
) -> None:
    gone, kept = made(pbx, resource, 2)
    pbx.edit(resource.name, gone, callStarted=now() - THOROUGH, callEnded=now() - THOROUGH)
    poll(bridge, resource)
    pbx.remove(resource.name, gone)
    poll(bridge, resource)
    assert stored_ids(bridge.storage, resource.name) == [gone, kept]
    asked = seen(pbx, lambda: poll(bridge, resource, at=now() + THOROUGH))
    assert asked == seen(pbx, lambda: poll(bridge, resource, at=now() + 2 * THOROUGH)) + 1
    assert (stored_ids(bridge.storage, resource.name), submitted(bridge.storage)) == ([kept], [])
    assert checkpoint(bridge, resource).items == 1


def test_changes_reach_the_table_of_events_as_the_pbx_has_them(pbx: Simulator, bridge: Bridge) -> None:
    poll(bridge, CONTACTS)
    contact = pbx.add_contact("Līga", "Ozola", "26550103", pets=2)
    poll(bridge, CONTACTS)
    pbx.edit("contacts", contact, lastname="Kalniņa")
    poll(bridge, CONTACTS)
    pbx.remove("contacts", contact)
    poll(bridge, CONTACTS)
    run_pipeline(bridge)
    rows = {row["type"]: row for row in bridge.storage.table("events").list_entities()}
    data = {name: json.loads(row["body"])["data"] for name, row in rows.items()}
    assert {name: one["lastname"] for name, one in data.items()} == {
        "ContactCreated": "Ozola", "ContactUpdated": "Kalniņa", "ContactRemoved": "Kalniņa",
    }  # fmt: skip
    assert {(row["origin"], row["drift"]) for row in rows.values()} == {("poll", "pets")}


def script(pbx: Simulator, operation: str, change: Callable[[Any, Any], Any]) -> None:
    """Have an operation answer with the result of `change` on the request and the simulator's items."""
    lister = pbx._api._handlers[operation]

    def answer(request: Any, part: str) -> Any:
        found = lister(request, part)
        body = json.loads(found.body)
        body["data"] = change(request, body["data"])
        found.body = json.dumps(body).encode()
        return found

    pbx._api._handlers[operation] = answer


@pytest.mark.parametrize("cap", [2, 1000])
def test_the_same_record_twice_in_changing_order_tells_nothing(cap: int, pbx: Simulator, bridge: Bridge) -> None:
    anna = pbx.add_contact("Anna")
    pbx.add_contact("Ieva")
    turn = itertools.count()

    def twice(request: Any, data: Any) -> Any:
        both = [*data, {**data[0], "contactID": anna, "firstname": "Anita"}] if data else []
        return both if next(turn) % 2 else both[::-1]

    script(pbx, "GetContacts", twice)
    pbx.options.page_cap = cap
    for hour in range(6):
        poll(bridge, CONTACTS, at=now() + hour * THOROUGH)
    assert submitted(bridge.storage) == []


@pytest.mark.slow
@pytest.mark.parametrize("resource", [CALLS, CONTACTS], ids=lambda resource: resource.name)
def test_a_list_in_random_order_that_grows_while_it_is_paged_loses_nothing(
    resource: Resource, pbx: Simulator, bridge: Bridge
) -> None:
    poll(bridge, resource)
    pbx.options.page_cap, pbx.options.order = 10, "random"
    numbers = made(pbx, resource, 60)

    def growing(request: Any, data: Any) -> Any:
        if len(numbers) < 80:
            numbers.extend(made(pbx, resource, 4))
        return data

    script(pbx, resource.list_operation, growing)
    for _ in range(2):
        poll(bridge, resource)
    assert stored_ids(bridge.storage, resource.name) == numbers
    assert arrived_ids(bridge.storage, resource.name) == numbers


@pytest.mark.parametrize("resource", [CALLS, CONTACTS], ids=lambda resource: resource.name)
def test_a_full_page_that_comes_again_is_an_error_and_what_it_had_is_kept(
    resource: Resource, pbx: Simulator, bridge: Bridge
) -> None:
    poll(bridge, resource)
    pbx.options.page_cap = 20
    numbers = made(pbx, resource, 50)
    first = list[Any]()

    def stubborn(request: Any, data: Any) -> Any:
        first[:] = first or data
        return first

    script(pbx, resource.list_operation, stubborn)
    with pytest.raises(PbxNotUnderstood):
        poll(bridge, resource)
    assert stored_ids(bridge.storage, resource.name) == numbers[30:]
    assert "another offset" in checkpoint(bridge, resource).last_error


def test_the_whole_list_of_a_pbx_without_offsets_is_taken(pbx: Simulator, bridge: Bridge) -> None:
    numbers = made(pbx, CONTACTS, 3)
    script(pbx, "GetContacts", lambda request, data: [{"contactID": number} for number in numbers])
    poll(bridge, CONTACTS)
    assert stored_ids(bridge.storage, CONTACTS.name) == numbers


@pytest.mark.slow
@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "status", "status": 503, "after": 1},
        {"kind": "truncated", "after": 1},
        {"kind": "body-status", "status": 404, "after": 1},
    ],
    ids=lambda fault: f"{fault['kind']} {fault.get('status', '')}",
)
def test_a_failed_or_partial_listing_removes_nothing_and_loses_nothing(
    fault: dict[str, Any], pbx: Simulator, bridge: Bridge
) -> None:
    pbx.options.page_cap = 4
    old = made(pbx, CONTACTS, 10)
    poll(bridge, CONTACTS)
    new = pbx.add_contact("Jauna")
    pbx.faults.add(**fault, match="GetContacts")
    try:
        poll(bridge, CONTACTS)
    except PbxError:
        assert checkpoint(bridge, CONTACTS).last_error
    pbx.faults.clear()
    poll(bridge, CONTACTS)
    assert submitted(bridge.storage) == [("ContactCreated", new)]
    assert stored_ids(bridge.storage, CONTACTS.name) == [*old, new]


def test_an_answer_that_is_not_the_pbxs_own_removes_nothing_and_hides_none_that_is_gone(
    pbx: Simulator, bridge: Bridge
) -> None:
    from dev.server import Answer

    numbers = made(pbx, CONTACTS, 6)
    poll(bridge, CONTACTS)
    odd = [(404, b'{"message": "no Route matched"}'), (200, b""), (200, b"{}"), (422, b"{}"), (500, b"")]
    answers = {str(number): Answer(*answer) for number, answer in zip(numbers, odd, strict=False)}
    ask = pbx._api._handlers["GetContactsByID"]
    pbx._api._handlers["GetContactsByID"] = lambda request, part: answers.get(part) or ask(request, part)
    script(pbx, "GetContacts", lambda request, data: [])
    pbx.remove("contacts", numbers[5])
    poll(bridge, CONTACTS)
    assert stored_ids(bridge.storage, CONTACTS.name) == numbers[:5]
    assert submitted(bridge.storage) == [("ContactRemoved", numbers[5])]
    assert not checkpoint(bridge, CONTACTS).last_error


def test_what_left_the_list_and_is_still_known_stays_and_hides_none_that_is_gone(
    pbx: Simulator, bridge: Bridge
) -> None:
    numbers = made(pbx, CONTACTS, 50)
    poll(bridge, CONTACTS)
    pbx.remove("contacts", numbers[46])
    script(pbx, "GetContacts", lambda request, data: [one for one in data if one["contactID"] not in numbers[:45]])
    for _ in range(40):
        assert seen(pbx, lambda: poll(bridge, CONTACTS)) <= MOST_LOOKUPS + 1
        if found := submitted(bridge.storage):
            break
    assert found == [("ContactRemoved", numbers[46])]


def test_where_the_key_may_not_ask_by_id_nothing_is_removed(pbx: Simulator, bridge: Bridge) -> None:
    numbers = made(pbx, CONTACTS, 3)
    poll(bridge, CONTACTS)
    pbx.options.refused = {"GetContactsByID"}
    pbx.remove("contacts", numbers[0])
    poll(bridge, CONTACTS)
    assert (submitted(bridge.storage), stored_ids(bridge.storage, CONTACTS.name)) == ([], numbers)


@pytest.mark.parametrize(
    ("poll_start", "handed_on"), [("now", 0), ("all", 3), ("2026-01-02T00:00:00Z", 2)], ids=["now", "all", "a date"]
)
def test_the_first_reading_hands_on_what_poll_start_says(
    poll_start: str, handed_on: int, pbx: Simulator, start: Callable[..., Bridge]
) -> None:
    days = ["2026-01-01T10:00:00+0000", "2026-01-02T10:00:00+0000", "2026-01-03T10:00:00+0000"]
    people = [pbx.add("contacts", created=day) for day in days]
    bridge = start(poll_start=poll_start)
    for _ in range(2):
        poll(bridge, CONTACTS)
    assert stored_ids(bridge.storage, CONTACTS.name) == people
    wanted = people[3 - handed_on :]
    assert submitted(bridge.storage) == [("ContactCreated", number) for number in wanted]
    assert arrived_ids(bridge.storage, CONTACTS.name) == wanted


def test_a_first_reading_without_budget_goes_on_later_and_a_poll_says_so(
    pbx: Simulator, bridge: Bridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broke(*args: Any, **options: Any) -> Any:
        raise BudgetExhausted

    with monkeypatch.context() as patched:
        patched.setattr(bridge.pbx, "call", broke)
        poll(bridge, CALLS)
    poll(bridge, CALLS)
    monkeypatch.setattr(bridge.pbx, "call", broke)
    with pytest.raises(BudgetExhausted):
        poll(bridge, CALLS)


@pytest.mark.slow
@pytest.mark.parametrize("after", [False, True], ids=["before the request", "after it took effect"])
@pytest.mark.parametrize("side", ["storage", "pbx"])
@pytest.mark.parametrize("resource", [CALLS, CONTACTS], ids=lambda resource: resource.name)
def test_a_poll_killed_at_any_step_loses_nothing_and_tells_nothing_twice(
    resource: Resource, side: str, after: bool, pbx: Simulator, start: Callable[..., Bridge]
) -> None:
    calm = start(reconcile_grace_seconds=1)
    calm.storage.ready()
    poll(calm, resource)
    there, moment = list[int](), now()
    for step in itertools.count(1):
        new = made(pbx, resource, 2)
        there += new
        moment += timedelta(minutes=5)
        expected = [(f"{resource.noun}Created", number) for number in new]
        if resource.editable and len(there) > 4:
            pbx.remove(resource.name, there[1])
            pbx.edit(resource.name, there[0], firstname=f"Anna {step}")
            expected += [("ContactRemoved", there.pop(1)), ("ContactUpdated", there[0])]
        if not resource.editable:
            expected = [(name, number) for name in ("CallCompleted", "CallStarted") for number in new]
            poll(calm, resource, at=moment - timedelta(minutes=1))
        doomed = start(reconcile_grace_seconds=1)
        if not is_killed(getattr(doomed, side), step, poll, doomed, resource, at=moment, after=after):
            break
        for _ in range(2):
            poll(calm, resource, at=moment)
        assert stored_ids(calm.storage, resource.name) == there
        assert submitted(calm.storage) == sorted(expected)
    assert step > (4 if side == "storage" else 1)
    assert len(set(arrived_ids(calm.storage, resource.name))) == len(arrived_ids(calm.storage, resource.name))


@pytest.mark.slow
@pytest.mark.parametrize("resource", [CALLS, CONTACTS], ids=lambda resource: resource.name)
def test_polls_at_the_same_time_store_and_tell_everything_once(
    resource: Resource, pbx: Simulator, start: Callable[..., Bridge]
) -> None:
    bridges = [start() for _ in range(4)]
    poll(bridges[0], resource)
    pbx.options.page_cap = 50
    new = made(pbx, resource, 130)
    gate = threading.Barrier(4)

    def run(bridge: Bridge) -> None:
        gate.wait()
        poll(bridge, resource)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(run, bridges))
    storage = bridges[0].storage
    assert arrived_ids(storage, resource.name) == new
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
    assert [message["body"]["data"]["firstname"] for message in queued(slow.storage)] == ["Zane"]
    stored = store.get(slow.storage, "contacts", contact)
    assert stored is not None and stored["firstname"] == "Zane"


def test_a_poll_that_keeps_failing_is_signalled_as_stale(
    pbx: Simulator, bridge: Bridge, caplog: pytest.LogCaptureFixture
) -> None:
    begin = now()
    poll(bridge, CALLS, at=begin)
    pbx.faults.add("status", status=500)
    for minute in (10, 60):
        with pytest.raises(PbxUnavailable):
            poll(bridge, CALLS, at=begin + timedelta(minutes=minute))
    assert [line for line in caplog.messages if "signal" in line] == [
        "signal poll_stale resource=call_history seconds=3600"
    ]


def test_a_resource_that_the_key_may_not_read_is_asked_for_each_five_minutes(
    pbx: Simulator, bridge: Bridge, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    pbx.options.refused = {"GetCallRecordings"}
    begin = now()
    calls = seen(pbx, lambda: [poll(bridge, RECORDINGS, at=begin + timedelta(minutes=one)) for one in range(50)])
    assert calls == 10
    assert "call_records is paused for 5 minutes" in caplog.messages[0]
    assert checkpoint(bridge, RECORDINGS).paused_until == begin + timedelta(minutes=45) + PAUSE
    pbx.options.refused = set()
    new = made(pbx, RECORDINGS, 2)
    poll(bridge, RECORDINGS, at=begin + timedelta(hours=1))
    assert stored_ids(bridge.storage, RECORDINGS.name) == new


def poll_all(bridge: Bridge, minutes: int = 0, *, but: str = "") -> None:
    for row in RESOURCES:
        if row.name != but:
            poll(bridge, row, at=now() + timedelta(minutes=minutes))


def shown(bridge: Bridge) -> str:
    return "forbidden" if forbidden_since(checkpoints(bridge.storage)) else "allowed"


def test_a_key_that_opens_nothing_is_signalled_shown_and_all_goes_on_by_itself(
    pbx: Simulator, bridge: Bridge, caplog: pytest.LogCaptureFixture
) -> None:
    poll_all(bridge)
    pbx.faults.add("status", status=403)
    poll_all(bridge, 1)
    (line, *_) = [line for line in caplog.messages if "signal pbx_forbidden" in line]
    assert all(word in line for word in ("IP addresses", "key", "methods"))
    assert shown(bridge) == "forbidden"
    pbx.faults.clear()
    new = pbx.add_contact("Jauna")
    poll_all(bridge, 7)
    assert submitted(bridge.storage) == [("ContactCreated", new)]
    assert shown(bridge) == "allowed"


def test_neither_one_method_that_is_not_granted_nor_a_list_polled_rarely_hides_the_others(
    pbx: Simulator, bridge: Bridge
) -> None:
    poll_all(bridge)
    pbx.options.refused = {"GetGroups"}
    poll_all(bridge, 60)
    assert shown(bridge) == "allowed"
    pbx.faults.add("status", status=403)
    poll_all(bridge, 120, but="voip_endpoints")
    assert shown(bridge) == "forbidden"
    pbx.faults.clear()
    poll(bridge, CONTACTS, at=now() + timedelta(minutes=126))
    assert shown(bridge) == "allowed"
