"""Lost callers and transfers: which events are new and which are repeats, in any order they are processed."""

from __future__ import annotations

import itertools
import json
import re
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.calls import cases, lost_callers, transfers
from shared.calls.cases import open_cases, settled
from shared.events.event import ReceivedEvent, check_envelope, event_of
from shared.events.receive import submit
from shared.events.table import event_id, event_named
from shared.settings import Settings
from shared.storage.account import Storage
from tests.dying import is_killed

if TYPE_CHECKING:
    from collections.abc import Callable

    from shared.bridge import Bridge

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
ADDED, UPDATED, REMOVED = "LostCallerAdded", "LostCallerUpdated", "LostCallerRemoved"
_number = itertools.count()


def received(name: str, minutes: float, **data: Any) -> ReceivedEvent:
    """An event as it comes off the queue, with the id that it was queued under."""
    row = event_named(name)
    numbers = {"callID": 77} if name == "CallTransfered" else {"callerid": "26123456", "destination": "67000123"}
    envelope, checked = check_envelope(row, {"data": numbers | data})
    occurrence = "" if row.is_known_by_key(checked) else str(next(_number))
    id = event_id(row, checked, "LV", occurrence)
    at = NOON + timedelta(minutes=minutes)
    return ReceivedEvent(type=row, id=id, data=checked, envelope=envelope, origin="webhook", received=at)


def contact(minutes: float) -> str:
    return (NOON + timedelta(minutes=minutes)).isoformat()


def process(storage: Storage, events: list[ReceivedEvent]) -> dict[str, str]:
    """The id that each message's event stands under in the end, what is queued again included."""
    found = {event.id: settled(storage, event, "LV").id for event in events}
    while messages := [*storage.queue("events").receive_messages(messages_per_page=32)]:
        for message in messages:
            event = event_of(json.loads(message.content))
            found[event.id] = settled(storage, event, "LV").id
            storage.queue("events").delete_message(message)
    return found


def count(storage: Storage, events: list[ReceivedEvent]) -> int:
    return len(set(process(storage, events).values()))


@pytest.fixture
def fresh(storage: Storage) -> Storage:
    storage.ready()
    return storage


def forget(storage: Storage) -> None:
    for row in storage.table("cases").list_entities():
        storage.table("cases").delete_entity(row)


def test_added_and_removed_twice_within_minutes_are_four_events_in_any_order(fresh: Storage) -> None:
    events = [received(ADDED, 0), received(REMOVED, 2), received(ADDED, 4), received(REMOVED, 6)]
    for order in itertools.permutations(events):
        forget(fresh)
        assert count(fresh, list(order)) == 4


def test_what_says_when_is_new_or_a_repeat_by_that_however_late(fresh: Storage) -> None:
    first, second = contact(-1), contact(3)
    events = [
        received(ADDED, 0, last_contact=first, attempts=1),
        received(REMOVED, 2),
        received(ADDED, 4, last_contact=second, attempts=1),
        received(REMOVED, 6),
        received(ADDED, 900, last_contact=first, attempts=1),
        received(ADDED, 901, last_contact=second),
        received(UPDATED, 902, last_contact=contact(1), attempts=2),
    ]
    assert count(fresh, events) == 5
    assert not open_cases(fresh)


@pytest.mark.parametrize("extra", [{}, {"attempts": 1}, {"contact_name": "Anna"}])
def test_added_three_times_without_a_time_is_one(fresh: Storage, extra: dict[str, Any]) -> None:
    assert count(fresh, [received(ADDED, minutes, **extra) for minutes in (0, 1, 90)]) == 1


@pytest.mark.parametrize(
    ("names", "events"),
    [
        ([REMOVED], 1),
        ([REMOVED, REMOVED], 1),
        ([ADDED, REMOVED, REMOVED], 2),
        ([ADDED, UPDATED, UPDATED, REMOVED], 3),
        ([ADDED, UPDATED, REMOVED, UPDATED], 3),
        ([UPDATED, ADDED, REMOVED], 3),
        ([ADDED, UPDATED, REMOVED, ADDED, UPDATED, REMOVED], 6),
    ],
)
def test_where_no_event_says_when_the_state_does(fresh: Storage, names: list[str], events: int) -> None:
    assert count(fresh, [received(name, minutes) for minutes, name in enumerate(names)]) == events


DAY = 24 * 60


@pytest.mark.parametrize(
    ("sent", "events"),
    [
        ([(ADDED, 0), (ADDED, DAY), (ADDED, 2 * DAY)], 3),
        ([(ADDED, 0), (ADDED, 1), (ADDED, DAY), (ADDED, DAY + 1)], 2),
        ([(ADDED, 0), (UPDATED, 1), (ADDED, DAY), (UPDATED, DAY + 1), (REMOVED, DAY + 2)], 5),
        ([(ADDED, 0), (REMOVED, 1), (REMOVED, DAY), (REMOVED, DAY + 1)], 3),
        ([(UPDATED, 0), (UPDATED, DAY), (UPDATED, DAY + 1)], 2),
        ([(ADDED, 0), (UPDATED, DAY), (ADDED, DAY + 5)], 3),
        ([(ADDED, 0), (ADDED, 60), (ADDED, 9 * 60 - 1)], 1),
    ],
    ids=str,
)
def test_each_day_begins_with_nobody_waiting(fresh: Storage, sent: list[tuple[str, int]], events: int) -> None:
    messages = [received(name, minutes) for name, minutes in sent]
    for order in (messages, messages[::-1]):
        forget(fresh)
        assert count(fresh, order) == events


@pytest.mark.parametrize(
    ("first", "second", "events"),
    [({}, {"last_contact": DAY - 1}, 2), ({"last_contact": -1}, {}, 2), ({}, {"last_contact": 1}, 1)],
    ids=["without, with", "with, without", "the same day's, heard of a day late"],
)
def test_a_day_is_that_of_the_try_where_the_event_says_when(
    fresh: Storage, first: dict[str, float], second: dict[str, float], events: int
) -> None:
    sent = [
        received(ADDED, minutes, **{name: contact(value) for name, value in fields.items()})
        for minutes, fields in ((0, first), (DAY, second))
    ]
    assert count(fresh, sent) == events


def test_a_caller_of_today_waits_since_today(fresh: Storage) -> None:
    process(fresh, [received(ADDED, 0, last_contact=contact(-1), attempts=3), received(ADDED, DAY)])
    (case,) = open_cases(fresh)
    assert (case.since, case.last_contact, case.attempts) == (NOON + timedelta(days=1), None, None)


def test_every_further_attempt_is_an_event(fresh: Storage) -> None:
    events = [received(UPDATED, minutes, attempts=minutes // 2) for minutes in range(2, 8)]
    assert count(fresh, [received(ADDED, 0), *events]) == 4


def test_a_late_update_after_a_removal_counts_and_leaves_nobody_waiting(fresh: Storage) -> None:
    events = [
        received(ADDED, 0, last_contact=contact(-1), attempts=1),
        received(REMOVED, 5),
        received(UPDATED, 6, last_contact=contact(3), attempts=2),
        received(REMOVED, 7),
    ]
    assert count(fresh, events) == 3
    assert not open_cases(fresh)


def test_open_cases_say_who_waits_since_when(fresh: Storage) -> None:
    process(
        fresh,
        [
            received(ADDED, 0, last_contact=contact(-1), attempts=1),
            received(UPDATED, 5, last_contact=contact(4), attempts=2),
            received(ADDED, 6, callerid="", last_contact=contact(5), attempts=1),
            received(ADDED, 7, callerid="26999999"),
            received(REMOVED, 8, callerid="+37126999999"),
        ],
    )
    found = {case.callerid: case for case in open_cases(fresh)}
    assert found.keys() == {"26123456", ""}
    case = found["26123456"]
    assert (case.destination, case.attempts, case.since) == ("67000123", 2, NOON)
    assert case.last_contact == NOON + timedelta(minutes=4)


def test_a_clock_behind_ours_hides_no_new_caller(fresh: Storage) -> None:
    events = [
        received(ADDED, 0, last_contact=contact(-11), attempts=1),
        received(REMOVED, 2),
        received(ADDED, 4, last_contact=contact(-7), attempts=1),
        received(REMOVED, 6),
    ]
    assert count(fresh, events) == 4


def test_numbers_stand_in_no_key(fresh: Storage) -> None:
    process(fresh, [received(ADDED, 0)])
    (row,) = fresh.table("cases").list_entities()
    assert "26123456" not in row["PartitionKey"] + row["RowKey"]


def test_transfers_there_and_back_and_there_again_are_three(fresh: Storage) -> None:
    def handed(giver: Any, taker: Any, minutes: float, **more: Any) -> ReceivedEvent:
        return received("CallTransfered", minutes, contactID=taker, previous_contactID=giver, **more)

    events = [handed(1, 2, 0), handed(1, 2, 0.1), handed(2, 1, 1), handed(1, 2, 2), handed(1, 2, 2.1)]
    for order in (events, events[::-1], [events[index] for index in (3, 0, 4, 2, 1)]):
        forget(fresh)
        assert count(fresh, order) == 3
    forget(fresh)
    timed = {"callConnected": NOON.isoformat(), "callStarted": NOON.isoformat(), "connectionTime": 60}
    first, bare = handed(1, 2, 0, **timed), handed(1, 2, 0.1)
    assert count(fresh, [first, bare, handed(1, 2, 5, **timed | {"connectionTime": 300})]) == 2
    for silent in (timed | {"connectionTime": 0}, timed | {"connectionTime": "0"}, {"connectionTime": 0}):
        forget(fresh)
        there, again = handed(1, 2, 0, **silent), handed(1, 2, 0.1, **silent)
        assert count(fresh, [there, again, handed(2, 1, 1, **silent), handed(1, 2, 2, **silent)]) == 3
    forget(fresh)
    assert count(fresh, [handed("anna", 2, 0), handed(["x"], 2, 1), handed("anna", 2, 2)]) == 3


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("after", [False, True], ids=["before the request", "after it took effect"])
def test_whoever_is_killed_is_answered_the_same_again(
    fresh: Storage, after: bool, start_bridge: Callable[..., Bridge]
) -> None:
    events = [received(ADDED, 0), received(ADDED, 4), received(REMOVED, 6)]
    late = received(REMOVED, 2)
    for step in itertools.count(1):
        forget(fresh)
        process(fresh, events)
        doomed = start_bridge().storage
        if not is_killed(doomed, step, settled, doomed, late, "LV", after=after):
            break
        assert count(fresh, [late, *events]) == 4
    assert step > 2


def test_the_same_message_at_once_has_one_answer(fresh: Storage) -> None:
    process(fresh, [received(ADDED, 0), received(REMOVED, 1)])
    events = [received(ADDED, 2), received(ADDED, 2)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda number: settled(fresh, events[number % 2], "LV").id, range(16)))
    assert len(set(found)) == 1


def test_more_events_than_a_case_remembers_lose_none(fresh: Storage) -> None:
    names = [ADDED, REMOVED] * 40
    assert count(fresh, [received(name, minutes) for minutes, name in enumerate(names)]) == 80


def test_an_odd_number_is_a_case_of_its_own(fresh: Storage) -> None:
    events = [received(ADDED, 0, callerid=odd) for odd in ("", "x", "anonymous", None)]
    assert count(fresh, events) == 3


def test_without_tables_a_removal_is_queued_all_the_same(environment: dict[str, str], fresh: Storage) -> None:
    nowhere = re.sub(r"TableEndpoint=[^;]*", "TableEndpoint=http://127.0.0.1:9/a", environment["DataStorage"])
    settings = Settings.from_env(environment | {"DataStorage": nowhere})
    numbers = {"callerid": "26123456", "destination": "67000123"}
    id = submit(Storage(settings.storage), settings, REMOVED, numbers, origin="webhook")
    (message,) = fresh.queue("events").receive_messages()
    assert json.loads(message.content)["id"] == id


def judged(entries: list[dict[str, Any]], order: list[int], kind: Any) -> dict[str, str]:
    case: dict[str, Any] = {"before": {}, "log": []}
    for place in order:
        if any(entry["id"] == entries[place]["id"] for entry in case["log"]):
            continue
        case["log"].append({**entries[place], "message": {"id": entries[place]["id"]}})
        case["log"].sort(key=lambda entry: (entry["at"], entry["id"]))
        cases._judge(kind, case)
    return {entry["id"]: entry["as"] for entry in case["log"]}


def new(verdicts: dict[str, str]) -> int:
    return len(set(verdicts.values()))


UNTIMED = st.tuples(st.sampled_from([ADDED, UPDATED, REMOVED]), st.sampled_from([None, 1, 2]))
PAIRS = st.sampled_from([["1", "2"], ["2", "1"], ["2", "3"]])


@given(sent=st.lists(UNTIMED, min_size=1, max_size=10), chance=st.randoms())
def test_no_lost_caller_is_lost_in_any_order(sent: list[tuple[str, int | None]], chance: Any) -> None:
    entries = [
        {"id": f"{place:02d}", "at": f"{place:02d}", "event": name, "contact": "", "attempts": attempts}
        for place, (name, attempts) in enumerate(sent)
    ]
    order = list(range(len(entries)))
    # What came late may have had its effect before it was known to be a repeat; nothing new is ever lost.
    shuffled = judged(entries, chance.sample(order, len(order)), lost_callers)
    assert new(judged(entries, order, lost_callers)) <= new(shuffled)


@given(pairs=st.lists(PAIRS, min_size=1, max_size=8), chance=st.randoms())
def test_no_transfer_is_lost_in_any_order(pairs: list[list[str]], chance: Any) -> None:
    entries = [
        {"id": f"{place:02d}", "at": f"{place:02d}", "event": "CallTransfered", "pair": pair, "moment": ""}
        for place, pair in enumerate(pairs)
    ]
    order = list(range(len(entries)))
    shuffled = judged(entries, chance.sample(order, len(order)), transfers)
    assert new(judged(entries, order, transfers)) <= new(shuffled)
