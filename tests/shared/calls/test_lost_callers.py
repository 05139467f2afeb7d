"""Lost callers: new events and repeats, the time of waiting, and its end."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from dev.counting import counted
from shared import people
from shared.bridge import Bridge
from shared.calls.lost_callers import (
    ADDED,
    REMOVED,
    TABLE,
    UPDATED,
    LostCaller,
    close,
    close_answered,
    get,
    identified,
    listed,
)
from shared.calls.store import add_to_story, pointers
from shared.events.event import ReceivedEvent
from tests import events
from tests.breaking import break_requests
from tests.dying import is_killed

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
DAY = 24 * 60
_number = itertools.count()


def received(name: str, minutes: float, **data: Any) -> ReceivedEvent:
    """Return an event as a message of the queue, with its id."""
    id = None if "last_contact" in data else f"queued{next(_number)}"
    numbers = {"callerid": "26123456", "destination": "67000123"}
    return events.received(name, at=NOON + timedelta(minutes=minutes), id=id, **numbers | data)


def contact(minutes: float) -> str:
    return (NOON + timedelta(minutes=minutes)).isoformat()


def count(bridge: Bridge, sent: list[ReceivedEvent]) -> int:
    """Return the number of different events; each is processed twice, as after a death."""
    found = [{identified(bridge, event).id for _ in range(2)} for event in sent]
    assert all(len(ids) == 1 for ids in found)
    return len(set.union(*found))


def forget(bridge: Bridge) -> None:
    table = bridge.storage.table("lostcallers")
    for row in table.list_entities():
        table.delete_entity(row)


def only(bridge: Bridge) -> LostCaller:
    (one,) = listed(bridge.storage, all=True)
    return one


@pytest.mark.slow
def test_with_their_times_added_and_removed_twice_are_four_events_in_any_order(bridge: Bridge) -> None:
    added = [received(ADDED, minutes, last_contact=contact(minutes - 1), attempts=1) for minutes in (0, 4)]
    sent = [added[0], received(REMOVED, 2), added[1], received(REMOVED, 6)]
    for order in itertools.permutations(sent):
        forget(bridge)
        # A removal without a time is the next one where an addition between the two is known.
        is_known = order.index(sent[2]) < max(order.index(sent[1]), order.index(sent[3]))
        assert count(bridge, list(order)) == (4 if is_known else 3)
        assert not only(bridge).open


def test_an_event_with_its_own_time_is_known_by_it_however_late(bridge: Bridge) -> None:
    first, second = contact(-1), contact(3)
    sent = [
        received(ADDED, 0, last_contact=first, attempts=1),
        received(REMOVED, 2),
        received(ADDED, 4, last_contact=second, attempts=1),
        received(REMOVED, 6),
        received(ADDED, 900, last_contact=first, attempts=1),
        received(UPDATED, 902, last_contact=contact(1), attempts=2),
    ]
    assert count(bridge, sent) == 5
    assert (only(bridge).open, only(bridge).openings) == (False, 2)


@pytest.mark.parametrize(
    ("names", "number"),
    [
        ([REMOVED, REMOVED], 1),
        ([ADDED, ADDED, REMOVED, REMOVED], 2),
        ([ADDED, UPDATED, UPDATED, REMOVED], 3),
        ([ADDED, UPDATED, REMOVED, UPDATED], 3),
        ([UPDATED, ADDED, REMOVED], 3),
        ([ADDED, UPDATED, REMOVED, ADDED, UPDATED, REMOVED], 6),
        ([ADDED, REMOVED] * 10, 20),
    ],
)
def test_without_times_the_events_between_tell_a_repeat_from_the_next(
    bridge: Bridge, names: list[str], number: int
) -> None:
    assert count(bridge, [received(name, minutes) for minutes, name in enumerate(names)]) == number


@pytest.mark.parametrize(
    ("sent", "number"),
    [
        ([(ADDED, 0), (ADDED, DAY), (ADDED, 2 * DAY)], 3),
        ([(ADDED, 0), (UPDATED, 1), (ADDED, DAY), (UPDATED, DAY + 1), (REMOVED, DAY + 2)], 5),
        ([(ADDED, 0), (REMOVED, 1), (REMOVED, DAY), (REMOVED, DAY + 1)], 3),
        ([(UPDATED, 0), (UPDATED, DAY), (UPDATED, DAY + 1)], 2),
        ([(ADDED, 0), (ADDED, 60), (ADDED, 9 * 60 - 1)], 1),
    ],
    ids=str,
)
def test_each_day_begins_with_nobody_waiting(bridge: Bridge, sent: list[tuple[str, int]], number: int) -> None:
    messages = [received(name, minutes) for name, minutes in sent]
    for order in (messages, messages[::-1]):
        forget(bridge)
        assert count(bridge, order) == number


def test_a_row_has_attempts_last_try_since_when_and_how_often(bridge: Bridge) -> None:
    sent = [
        received(ADDED, 0, last_contact=contact(-1), attempts=1, contact_name="Anna"),
        received(UPDATED, 5, last_contact=contact(4), attempts=2),
    ]
    assert count(bridge, sent) == 2
    one = only(bridge)
    assert (one.callerid, one.destination, one.name, one.open) == ("26123456", "67000123", "Anna", True)
    assert (one.attempts, one.openings) == (2, 1)
    assert (one.since, one.last) == (NOON - timedelta(minutes=1), NOON + timedelta(minutes=4))
    count(bridge, [received(ADDED, DAY)])
    assert (only(bridge).since, only(bridge).attempts, only(bridge).openings) == (NOON + timedelta(days=1), None, 1)


@pytest.mark.parametrize("order", [*itertools.permutations((ADDED, UPDATED, REMOVED))], ids=" ".join)
def test_a_caller_waits_since_the_earliest_try_in_any_order(bridge: Bridge, order: tuple[str, ...]) -> None:
    tries = {ADDED: {"last_contact": contact(-9)}, UPDATED: {"last_contact": contact(-8), "attempts": 2}}
    count(bridge, [received(name, minutes, **tries.get(name, {})) for minutes, name in enumerate(order)])
    assert only(bridge).since == NOON - timedelta(minutes=9)
    # The next wait has a time of its own, which a late try of the wait before it does not change.
    count(bridge, [received(REMOVED, 5), received(ADDED, 20, last_contact=contact(19))])
    count(bridge, [received(UPDATED, 21, last_contact=contact(-8.5)), received(REMOVED, 22)])
    count(bridge, [received(UPDATED, 23, last_contact=contact(-8.2))])
    assert only(bridge).since == NOON + timedelta(minutes=19)


def test_a_caller_who_tries_a_hundred_times_waits_since_the_first(bridge: Bridge) -> None:
    sent = [received(ADDED, minutes, last_contact=contact(minutes)) for minutes in (-9, 0)]
    sent.insert(1, received(REMOVED, -5))
    sent += [received(UPDATED, minutes, last_contact=contact(minutes), attempts=minutes) for minutes in range(1, 100)]
    assert count(bridge, sent) == 102
    assert (only(bridge).since, only(bridge).openings, only(bridge).attempts) == (NOON, 2, 99)
    assert count(bridge, [received(REMOVED, 101), received(REMOVED, 102)]) == 1


def test_late_webhooks_of_a_wait_that_a_poll_announced_add_no_second_caller(bridge: Bridge) -> None:
    polled = received(ADDED, 5, last_contact=contact(1), attempts=2)
    added = received(ADDED, 6, last_contact=contact(0), attempts=1)
    sent = [polled, added, received(UPDATED, 7, last_contact=contact(1), attempts=2)]
    assert count(bridge, sent) == 2
    assert identified(bridge, added).id == polled.id
    assert (only(bridge).since, only(bridge).openings, only(bridge).attempts) == (NOON, 1, 2)
    # An addition after the last try is the next wait, though the removal between the two is missing.
    assert count(bridge, [received(ADDED, 9, last_contact=contact(8)), added]) == 2


def test_a_name_that_no_column_holds_is_left_out(bridge: Bridge) -> None:
    count(bridge, [received(ADDED, 0, contact_name="x" * 40_000)])
    assert (only(bridge).open, only(bridge).name) == (True, None)


def test_a_row_has_the_employees_whom_the_try_rang(bridge: Bridge) -> None:
    sent = {"callID": 77, "callStarted": contact(-1), "caller": "+371 26123456", "contactID": 966}
    call = events.received("CallStarted", at=NOON, **sent)
    people.add(bridge.storage, pointers(call, "LV"))
    add_to_story(bridge, call)
    count(bridge, [received(ADDED, 0, last_contact=contact(-1))])
    assert only(bridge).rung == (966,)


def test_late_events_do_not_undo_newer_ones(bridge: Bridge) -> None:
    added = [received(ADDED, minutes, last_contact=contact(minutes - 1)) for minutes in (0, 4)]
    count(bridge, [*added, received(REMOVED, 2)])
    assert only(bridge).open
    late = received(UPDATED, 7, last_contact=contact(5), attempts=2)
    assert count(bridge, [received(REMOVED, 6), late, received(REMOVED, 8)]) == 2
    assert not listed(bridge.storage)


def test_a_clock_behind_ours_hides_no_new_caller(bridge: Bridge) -> None:
    sent = [
        received(ADDED, 0, last_contact=contact(-11), attempts=1),
        received(REMOVED, 2),
        received(ADDED, 4, last_contact=contact(-7), attempts=1),
    ]
    assert count(bridge, sent) == 3
    assert only(bridge).open


def test_numbers_in_any_spelling_are_one_pair_and_withheld_ones_another(bridge: Bridge) -> None:
    count(bridge, [received(ADDED, 0, callerid=one) for one in ("26123456", "+371 26 123 456", "", None, "anonymous")])
    assert sorted(one.callerid for one in listed(bridge.storage)) == ["", "+371 26 123 456", "anonymous"]
    assert not [row for row in bridge.storage.table(TABLE).list_entities() if "26123456" in row["RowKey"]]


@pytest.mark.parametrize("direction", ["in", "out"])
def test_an_answered_call_in_either_direction_closes_and_the_removal_is_told_all_the_same(
    bridge: Bridge, direction: str
) -> None:
    count(bridge, [received(ADDED, 0), received(ADDED, 0, callerid="29999999")])
    sides = ("caller", "destination") if direction == "in" else ("destination", "caller")
    sent = dict(zip(sides, ("26123456", "67000123"), strict=True)) | {"direction": direction}
    close_answered(bridge, events.received("CallCompleted", callID=1, **sent, callConnected=contact(9)))
    assert [one.callerid for one in listed(bridge.storage)] == ["29999999"]
    removed = received(REMOVED, 10)
    assert identified(bridge, removed).id == removed.id


def test_one_that_is_closed_by_hand_keeps_the_note_until_the_next_try(bridge: Bridge) -> None:
    count(bridge, [received(ADDED, 0)])
    id = only(bridge).id
    assert close(bridge.storage, id, NOON + timedelta(minutes=1), "Anna: called from a mobile")
    assert not close(bridge.storage, id, NOON + timedelta(minutes=2))
    found = get(bridge.storage, id)
    assert found
    assert (found.open, found.note, found.closed) == (False, "Anna: called from a mobile", NOON + timedelta(minutes=1))
    count(bridge, [received(ADDED, 5)])
    assert (only(bridge).open, only(bridge).note) == (True, None)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("after", [False, True], ids=["before the request", "after it took effect"])
def test_a_message_whose_run_was_killed_gets_the_same_id_again(
    bridge: Bridge, after: bool, start_bridge: Callable[..., Bridge]
) -> None:
    sent = [received(ADDED, 0), received(REMOVED, 2), received(ADDED, 4)]
    last = received(REMOVED, 6)
    for step in itertools.count(1):
        forget(bridge)
        count(bridge, sent)
        doomed = start_bridge()
        if not is_killed(doomed.storage, step, identified, doomed, last, after=after):
            break
        assert identified(bridge, last).id == last.id
        assert (only(bridge).open, only(bridge).openings) == (False, 2)
    assert step > 2


def test_the_same_event_at_once_has_one_id(bridge: Bridge) -> None:
    count(bridge, [received(ADDED, 0), received(REMOVED, 1)])
    sent = [received(ADDED, 2), received(ADDED, 2)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda number: identified(bridge, sent[number % 2]).id, range(16)))
    assert len(set(found)) == 1


def test_those_who_wait_are_listed_by_one_request_without_those_who_were_called_back(bridge: Bridge) -> None:
    for number in range(6):
        count(bridge, [received(ADDED, 0, callerid=f"2999999{number}")])
    everybody = listed(bridge.storage)
    for one in everybody[3:]:
        assert close(bridge.storage, one.id, NOON)
        assert not close(bridge.storage, one.id, NOON + timedelta(seconds=1))
    requests = counted(bridge.storage)
    assert listed(bridge.storage) == everybody[:3]
    assert requests.count == 1
    assert len(listed(bridge.storage, all=True)) == 6
    count(bridge, [received(REMOVED, 2, callerid=everybody[0].callerid)])
    assert listed(bridge.storage) == everybody[1:3]
    count(bridge, [received(ADDED, 5, callerid="29999990")])
    assert "29999990" in {one.callerid for one in listed(bridge.storage)}


@pytest.mark.parametrize("after", [False, True], ids=["before the request", "after it took effect"])
def test_a_caller_is_closed_once_where_the_answer_is_lost(after: bool, bridge: Bridge) -> None:
    count(bridge, [received(ADDED, 0)])
    id = only(bridge).id
    break_requests(bridge.storage, lambda request: str(request.url).endswith("/$batch"), 1, after=after)
    assert close(bridge.storage, id, NOON, "key: called back")
    assert listed(bridge.storage) == []
    assert (only(bridge).closed, only(bridge).note) == (NOON, "key: called back")
