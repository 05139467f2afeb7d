"""The story of a call does not depend on the order in which its events arrive."""

from __future__ import annotations

import itertools
import json
import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.calls import stories
from shared.calls.stories import MOST_PARTS, Gathered, Story, join, part_of
from shared.calls.stories import story_of as story_of_call
from shared.events.event import ReceivedEvent
from tests.events import received
from tests.stored import stored_audio

CALL = 1524664459097344
START = datetime(2018, 4, 25, 13, 54, 19, tzinfo=UTC)
ANSWER = START + timedelta(seconds=12)
NUMBERS = {"callID": CALL, "caller": "27771153", "destination": "67000123", "direction": "in"}


def moment(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%S+0000")


def gathered(events: list[ReceivedEvent]) -> Gathered:
    found = Gathered()
    for event in events:
        found = found.with_event(event)
    return found


def story_of(events: list[ReceivedEvent]) -> Story:
    return story_of_call(CALL, gathered(events), "LV")


def answered_and_transferred() -> list[ReceivedEvent]:
    start = {**NUMBERS, "callStarted": moment(START)}
    moved = {**start, "contactID": 971, "previous_contactID": 966}
    recording = {"recordingID": 150818921852, "callID": CALL}
    stored = stored_audio("https://store/recordings/2018/04/25/150818921852.mp3")
    handed_over = moment(ANSWER + timedelta(seconds=60))
    return [
        received("CallStarted", **start, contactID=966),
        received("CallConnected", **start, contactID=966, callConnected=moment(ANSWER)),
        received("CallTransfered", **moved, callConnected=moment(ANSWER), connectionTime=60),
        received("CallCompleted", **moved, callConnected=handed_over, connectionTime=125),
        received("CallRecorded", **recording, callStarted=moment(START), connectionTime=185),
        received("RecordingStored", **recording, **stored),
    ]


def test_every_order_of_a_calls_events_makes_the_same_story() -> None:
    events = answered_and_transferred()
    first = story_of(events)
    assert all(story_of(list(order)) == first for order in itertools.permutations(events))


def test_an_answered_and_transferred_call_says_who_when_and_how_long() -> None:
    assert story_of(answered_and_transferred()) == Story(
        caller="27771153",
        callerE164="+37127771153",
        destination="67000123",
        destinationE164="+37167000123",
        direction="in",
        started=START,
        connected=ANSWER,
        ended=ANSWER + timedelta(seconds=185),
        talkSeconds=185,
        outcome="answered",
        answeredBy=966,
        contacts=[966, 971],
        transfers=[[966, 971]],
        recordings=[150818921852],
        recordingUrls=["https://store/recordings/2018/04/25/150818921852.mp3"],
        voicemails=[],
        voicemailUrls=[],
        revision=6,
        truncated=False,
    )


def test_a_group_call_is_missed_once_every_phone_stopped_and_answered_once_one_who_talked_hung_up() -> None:
    ringing = [received("CallStarted", **NUMBERS, contactID=contact) for contact in (1, 2, 3)]
    ended = [received("CallCompleted", **NUMBERS, contactID=contact, callConnected="") for contact in (1, 2, 3)]
    assert story_of(ringing)["outcome"] == story_of([*ringing, *ended[:2]])["outcome"] == "ringing"
    missed = story_of([*ringing, *ended])
    assert (missed["outcome"], missed["talkSeconds"]) == ("missed", 0)
    answered = [*ringing, received("CallConnected", **NUMBERS, contactID=2, callConnected=moment(ANSWER)), *ended[::2]]
    assert story_of(answered)["outcome"] == "talking"
    end = received("CallCompleted", **NUMBERS, contactID=2, callConnected=moment(ANSWER), connectionTime=30)
    story = story_of([*answered, end])
    assert (story["outcome"], story["answeredBy"], story["talkSeconds"]) == ("answered", 2, 30)


@pytest.mark.parametrize(
    ("status", "outcome"),
    [("BUSY", "busy"), (486, "busy"), ("Declined", "declined"), (603, "declined"), ("failed", "failed"),
     (503, "failed"), (3, "missed"), ("NO ANSWER", "missed"), (487, "missed"), (None, "missed")],
)  # fmt: skip
def test_an_end_that_nobody_answered_has_the_outcome_that_its_status_names(status: Any, outcome: str) -> None:
    events = [received("CallStarted", **NUMBERS, contactID=1), received("CallCompleted", **NUMBERS, status=status)]
    assert story_of(events)["outcome"] == outcome
    answered = received("CallConnected", **NUMBERS, callConnected=moment(ANSWER))
    assert story_of([*events, answered])["outcome"] == "answered"


def test_a_group_call_that_one_declined_and_another_let_ring_is_missed() -> None:
    events = [received("CallStarted", **NUMBERS, contactID=contact) for contact in (1, 2)]
    events += [received("CallCompleted", **NUMBERS, contactID=n, status=status) for n, status in ((1, 603), (2, 3))]
    assert story_of(events)["outcome"] == "missed"


def test_two_ends_of_one_employee_are_one_story_in_any_order() -> None:
    first = received("CallCompleted", **NUMBERS, contactID=1, connectionTime=0)
    second = received("CallCompleted", **NUMBERS, contactID=1, connectionTime=100, callConnected=moment(ANSWER))
    ends = [first, replace(second, id="second")]
    one, other = (story_of([received("CallStarted", **NUMBERS, contactID=1), *order]) for order in (ends, ends[::-1]))
    assert one == other
    assert (one["outcome"], one["talkSeconds"]) == ("answered", 100)


@pytest.mark.parametrize("contact", [{"contactID": 2}, {}], ids=["of the contact", "of the call"])
def test_an_end_without_the_answer_ends_the_call_all_the_same(contact: dict[str, int]) -> None:
    events = [
        received("CallStarted", **NUMBERS, contactID=2),
        received("CallConnected", **NUMBERS, contactID=2, callConnected=moment(ANSWER)),
        received("CallCompleted", **NUMBERS, **contact, connectionTime=30),
    ]
    story = story_of(events)
    assert (story["outcome"], story["talkSeconds"]) == ("answered", 30)
    assert story["ended"] == ANSWER + timedelta(seconds=30)


def test_a_missed_call_with_a_voicemail_ends_in_voicemail() -> None:
    events = [
        received("CallStarted", **NUMBERS, contactID=1, callStarted=moment(START)),
        received("CallCompleted", **NUMBERS, contactID=1, callConnected=None),
        received("VoicemailCreated", voicemailID=7, sender="27771153", callStarted=moment(START)),
    ]
    story = story_of(events)
    assert (story["outcome"], story["voicemails"]) == ("voicemail", [7])


@pytest.mark.parametrize(
    ("rung", "ended", "outcome"),
    [
        *(([1], [0], "missed"), ([0], [7], "missed"), ([1, 2], [0], "missed"), ([1], [["x"]], "missed")),
        *(([[1]], [7], "missed"), ([0, 1], [1], "missed"), ([1], [7], "ringing"), ([1, 2], [1], "ringing")),
    ],
    ids=str,
)
def test_an_unknown_employee_keeps_no_call_ringing(rung: list[Any], ended: list[Any], outcome: str) -> None:
    events = [received("CallStarted", **NUMBERS, contactID=contact) for contact in rung]
    events += [received("CallCompleted", **NUMBERS, contactID=contact) for contact in ended]
    assert story_of(events)["outcome"] == story_of(events[::-1])["outcome"] == outcome


@pytest.mark.parametrize(
    ("talking", "ended", "outcome"),
    [(1, 0, "answered"), (1, ["x"], "answered"), (["x"], 7, "answered"), (0, 7, "answered"), (1, 7, "talking")],
    ids=str,
)
def test_an_unknown_employee_keeps_no_call_talking(talking: Any, ended: Any, outcome: str) -> None:
    events = [
        received("CallStarted", **NUMBERS, contactID=talking),
        received("CallConnected", **NUMBERS, contactID=talking, callConnected=moment(ANSWER)),
        received("CallCompleted", **NUMBERS, contactID=ended),
    ]
    assert story_of(events)["outcome"] == outcome


@pytest.mark.parametrize("connected", [None, "1970-01-01T00:00:00+0000", "soon"])
def test_a_connected_employee_has_answered_even_without_a_time(connected: Any) -> None:
    events = [
        received("CallStarted", **NUMBERS, contactID=2),
        received("CallConnected", **NUMBERS, contactID=2, callConnected=connected),
    ]
    assert (story_of(events)["outcome"], story_of(events)["answeredBy"]) == ("talking", 2)
    story = story_of([*events, received("CallCompleted", **NUMBERS, contactID=2)])
    assert (story["outcome"], story["connected"], story["talkSeconds"]) == ("answered", None, None)


def test_a_transferred_call_ends_with_whom_it_was_handed_to() -> None:
    events = [
        received("CallConnected", **NUMBERS, contactID=966, callConnected=moment(ANSWER)),
        received("CallTransfered", **NUMBERS, contactID=971, previous_contactID=966),
    ]
    assert story_of(events)["outcome"] == "talking"
    assert story_of([*events, received("CallCompleted", **NUMBERS, contactID=970)])["outcome"] == "talking"
    assert story_of([*events, received("CallCompleted", **NUMBERS, contactID=971)])["outcome"] == "answered"


def test_history_knows_better_than_a_webhook_and_both_better_than_nobody() -> None:
    bare = received("CallCompleted", callID=CALL, contactID=2, caller="27771153", connectionTime=5)
    times = {"callStarted": START, "callConnected": ANSWER, "callEnded": ANSWER + timedelta(seconds=30)}
    known = NUMBERS | {"caller": "+37126000000"} | {name: moment(at) for name, at in times.items()}
    full = received("CallCompleted", origin="reconciled", **known, contactID=2, connectionTime=30)
    assert bare.id == full.id
    for events in ([bare, full], [full, bare], [bare, full, bare]):
        story = story_of(events)
        assert (story["caller"], story["outcome"], story["talkSeconds"]) == ("+37126000000", "answered", 30)
        assert (story["destination"], story["ended"], story["revision"]) == ("67000123", times["callEnded"], 1)


def test_an_item_that_history_edits_has_its_newest_values_in_any_order() -> None:
    def edited(hour: int, seconds: int, destination: str) -> ReceivedEvent:
        times = {"callConnected": moment(ANSWER), "callEnded": moment(ANSWER + timedelta(seconds=seconds))}
        at = START + timedelta(hours=hour)
        return received("CallCompleted", origin="poll", at=at, **NUMBERS | {"destination": destination} | times)

    edits = [(1, 300, "67000123"), (2, 400, "67000123"), (3, 200, "67000999"), (4, 300, "67000100")]
    start = received("CallStarted", origin="reconciled", at=START, **NUMBERS)
    for number in range(1, len(edits) + 1):
        _, seconds, destination = edits[number - 1]
        for events in itertools.permutations([start, *itertools.starmap(edited, edits[:number])]):
            story = story_of(list(events))
            assert (story["talkSeconds"], story["destination"]) == (seconds, destination)


def test_history_does_not_end_a_running_call() -> None:
    going_on = received("CallCompleted", origin="reconciled", **NUMBERS, contactID=2, callEnded=None)
    ringing = received("CallStarted", **NUMBERS, contactID=2)
    assert story_of([ringing, going_on])["outcome"] == "ringing"
    ended = received("CallCompleted", origin="reconciled", **NUMBERS, contactID=2, callEnded=moment(ANSWER))
    assert ended.id == going_on.id
    assert story_of([ringing, going_on, ended])["outcome"] == "missed"
    assert story_of([ringing, going_on, received("CallCompleted", **NUMBERS, contactID=2)])["outcome"] == "missed"


@pytest.mark.parametrize("names", [["CallStarted"], ["CallStarted", "CallConnected"]], ids=["ringing", "talking"])
def test_an_end_that_was_given_up_is_unknown_until_it_comes(names: list[str]) -> None:
    events = [received(name, **NUMBERS, contactID=2, callConnected=moment(ANSWER)) for name in names]
    events = events if len(names) > 1 else [received("CallStarted", **NUMBERS, contactID=2)]
    given_up = replace(gathered(events), given_up=True)
    assert story_of_call(CALL, given_up, "LV")["outcome"] == "unknown"
    end = received("CallCompleted", **NUMBERS, contactID=2, connectionTime=3)
    outcome = story_of_call(CALL, given_up.with_event(end), "LV")["outcome"]
    assert outcome == ("answered" if len(names) > 1 else "missed")


def test_transfers_there_and_back_and_there_again_differ_by_their_times() -> None:
    def handed(giver: int, taker: int, minutes: int) -> ReceivedEvent:
        moved = {**NUMBERS, "contactID": taker, "previous_contactID": giver, "callConnected": moment(ANSWER)}
        return received("CallTransfered", **moved, connectionTime=minutes * 60)

    events = [handed(1, 2, 1), handed(2, 1, 2), handed(1, 2, 3)]
    assert len({event.id for event in events}) == 3
    assert handed(1, 2, 1).id == events[0].id
    # The end of a leg shows a transfer without an event, so the legs are still in order.
    for at, pair in ((3, (1, 2)), (4, (2, 9))):
        taken = {"callConnected": moment(ANSWER + timedelta(minutes=at)), "connectionTime": 5}
        events.append(received("CallCompleted", **NUMBERS, previous_contactID=pair[0], contactID=pair[1], **taken))
    for order in itertools.permutations(events):
        assert story_of(list(order))["transfers"] == [[1, 2], [2, 1], [1, 2], [2, 9]]


@pytest.mark.slow
def test_a_call_that_rings_a_thousand_is_cut_and_says_so() -> None:
    events = [received("CallStarted", **NUMBERS, contactID=contact) for contact in range(900)]
    events += [received("CallConnected", **NUMBERS, contactID=700, callConnected=moment(ANSWER))]
    events += [received("CallCompleted", **NUMBERS, contactID=contact) for contact in range(900) if contact != 700]
    events += [received("CallCompleted", **NUMBERS, contactID=700, callConnected=moment(ANSWER), connectionTime=9)]
    random.Random(7).shuffle(events)
    whole = gathered(events)
    assert len(whole.parts) == MOST_PARTS
    story = story_of_call(CALL, whole, "LV")
    assert story["truncated"]
    assert (story["outcome"], story["answeredBy"], story["talkSeconds"]) == ("answered", 700, 9)
    assert whole.with_event(events[0]) == whole


CONTACTS = st.sampled_from([None, 1, 2, 3, "anna"])
ODD_TIMES = ["1970-01-01T00:00:00Z", "2018-04-25T13:04:31Z", "2018-04-25T13:04:31"]
TIMES = st.sampled_from(
    [None, moment(START), moment(ANSWER), "2018-04-25T13:54:31.5Z", "2018-04-25T13:54:31", *ODD_TIMES]
)
FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "contactID": CONTACTS,
        "previous_contactID": CONTACTS,
        "caller": st.sampled_from([None, "27771153", "+37127771153", "anonymous", ["x"]]),
        "destination": st.sampled_from([None, "67000123", "67000999"]),
        "callStarted": TIMES,
        "callConnected": TIMES,
        "callEnded": TIMES,
        "connectionTime": st.sampled_from([None, 0, 5, 60, -1]),
    },
)
CALLS_EVENTS = st.builds(
    lambda name, origin, hour, data: received(
        name, origin=origin, at=START + timedelta(hours=hour), callID=CALL, **data
    ),
    st.sampled_from(["CallStarted", "CallConnected", "CallTransfered", "CallCompleted"]),
    st.sampled_from(["webhook", "reconciled"]),
    st.integers(0, 2),
    FIELDS,
)


@given(events=st.lists(CALLS_EVENTS, min_size=1, max_size=12), bound=st.sampled_from([3, 6, 256]), chance=st.randoms())
def test_any_events_in_any_order_any_number_of_times_make_one_story(
    events: list[ReceivedEvent], bound: int, chance: random.Random
) -> None:
    again = events + chance.choices(events, k=len(events))
    chance.shuffle(again)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stories, "MOST_PARTS", bound)
        one, other = gathered(events), gathered(again)
    assert one == other
    assert story_of_call(CALL, one, "LV") == story_of_call(CALL, other, "LV")
    assert json.loads(json.dumps(list(one.parts.values()))) == list(one.parts.values())


@given(events=st.lists(CALLS_EVENTS, min_size=3, max_size=3))
def test_variants_of_one_event_join_in_any_order(events: list[ReceivedEvent]) -> None:
    one, two, three = (part_of(event) | {"event": "CallCompleted", "id": "x"} for event in events)
    assert join(one, two) == join(two, one)
    assert join(join(one, two), three) == join(one, join(two, three))
    assert join(join(one, two), two) == join(one, two)
