"""The story of a call does not depend on the order in which its events are heard."""

from __future__ import annotations

import itertools
import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from shared.calls.stories import Story, part_of, tell
from shared.events.event import ReceivedEvent, check_envelope
from shared.events.table import EVENTS, event_id, event_named
from tests.stored import stored_audio

CALL = 1524664459097344
START = datetime(2018, 4, 25, 13, 54, 19, tzinfo=UTC)
ANSWER = START + timedelta(seconds=12)
NUMBERS = {"callID": CALL, "caller": "27771153", "destination": "67000123", "direction": "in"}


def moment(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%S+0000")


def told(event: str, **data: Any) -> ReceivedEvent:
    row = event_named(event)
    envelope, checked = check_envelope(row, {"eventType": event, "data": {**data}})
    id = event_id(row, checked, "LV")
    return ReceivedEvent(type=row, id=id, data=checked, envelope=envelope, origin="webhook", received=START)


def story_of(facts: list[ReceivedEvent]) -> Story:
    parts: dict[str, Any] = {}
    for event in facts:
        parts[event.id] = part_of(event)
    return tell(CALL, parts, "LV")


def answered_and_transferred() -> list[ReceivedEvent]:
    start = {**NUMBERS, "callStarted": moment(START)}
    handed_over = moment(ANSWER + timedelta(seconds=60))
    return [
        told("CallStarted", **start, contactID=966),
        told("CallConnected", **start, contactID=966, callConnected=moment(ANSWER)),
        told(
            "CallTransfered",
            **start,
            contactID=971,
            previous_contactID=966,
            callConnected=moment(ANSWER),
            connectionTime=60,
        ),
        told(
            "CallCompleted",
            **start,
            contactID=971,
            previous_contactID=966,
            callConnected=handed_over,
            connectionTime=125,
        ),
        told("CallRecorded", recordingID=150818921852, callID=CALL, callStarted=moment(START), connectionTime=185),
        told(
            "RecordingStored",
            recordingID=150818921852,
            callID=CALL,
            **stored_audio("https://store/recordings/2018/04/25/150818921852.mp3"),
        ),
    ]


def test_every_order_of_a_calls_events_tells_the_same_story() -> None:
    facts = answered_and_transferred()
    first = story_of(facts)
    assert all(story_of(list(order)) == first for order in itertools.permutations(facts))


def test_an_answered_and_transferred_call_tells_who_when_and_how_long() -> None:
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
    )


def test_a_group_call_is_missed_only_when_every_contact_stopped_ringing() -> None:
    ringing = [told("CallStarted", **NUMBERS, contactID=contact) for contact in (1, 2)]
    ended = [told("CallCompleted", **NUMBERS, contactID=contact, callConnected="") for contact in (1, 2)]
    assert story_of(ringing)["outcome"] == "ringing"
    assert story_of([*ringing, ended[0]])["outcome"] == "ringing"
    assert story_of([*ringing, *ended])["outcome"] == "missed"
    assert story_of([*ringing, *ended])["talkSeconds"] == 0


def test_a_group_call_answered_by_one_is_answered_whatever_the_others_tell() -> None:
    facts = [told("CallStarted", **NUMBERS, contactID=contact) for contact in (1, 2, 3)]
    facts.append(told("CallConnected", **NUMBERS, contactID=2, callConnected=moment(ANSWER)))
    facts += [told("CallCompleted", **NUMBERS, contactID=contact) for contact in (1, 3)]
    assert story_of(facts)["outcome"] == "talking"
    facts.append(told("CallCompleted", **NUMBERS, contactID=2, callConnected=moment(ANSWER), connectionTime=30))
    story = story_of(facts)
    assert (story["outcome"], story["answeredBy"], story["talkSeconds"]) == ("answered", 2, 30)


@pytest.mark.parametrize("contact", [{"contactID": 2}, {}], ids=["of the contact", "of the call"])
def test_an_end_that_does_not_tell_the_answer_ends_the_call_all_the_same(contact: dict[str, int]) -> None:
    facts = [
        told("CallStarted", **NUMBERS, contactID=2),
        told("CallConnected", **NUMBERS, contactID=2, callConnected=moment(ANSWER)),
        told("CallCompleted", **NUMBERS, **contact, connectionTime=30),
    ]
    story = story_of(facts)
    assert (story["outcome"], story["talkSeconds"]) == ("answered", 30)
    assert story["ended"] == ANSWER + timedelta(seconds=30)


@pytest.mark.parametrize(
    ("steps", "chain"),
    [
        ([(3, 4), (1, 2), (2, 3)], [[1, 2], [2, 3], [3, 4]]),
        ([(2, 1), (1, 2)], [[1, 2], [2, 1]]),
        ([(5, 6), (1, 2)], [[1, 2], [5, 6]]),
    ],
    ids=["in a row", "there and back", "two legs"],
)
def test_transfers_form_a_chain(steps: list[tuple[int, int]], chain: list[list[int]]) -> None:
    facts = [told("CallTransfered", **NUMBERS, contactID=after, previous_contactID=before) for before, after in steps]
    assert all(story_of(list(order))["transfers"] == chain for order in itertools.permutations(facts))


def test_a_missed_call_with_a_voicemail_ends_in_voicemail() -> None:
    facts = [
        told("CallStarted", **NUMBERS, contactID=1, callStarted=moment(START)),
        told("CallCompleted", **NUMBERS, contactID=1, callConnected=None),
        told("VoicemailCreated", voicemailID=7, sender="27771153", callStarted=moment(START)),
    ]
    story = story_of(facts)
    assert (story["outcome"], story["voicemails"]) == ("voicemail", [7])


def test_random_subsets_in_random_order_never_depend_on_the_order() -> None:
    chance = random.Random(7)
    facts = answered_and_transferred() + [
        told("CallStarted", **NUMBERS, contactID=contact, status=contact % 4) for contact in range(1, 8)
    ]
    for _ in range(200):
        chosen = chance.sample(facts, chance.randint(1, len(facts)))
        assert story_of(chosen) == story_of(chance.sample(chosen, len(chosen)))


def test_the_start_comes_from_the_callid_when_no_event_tells_it() -> None:
    story = story_of([told("CallCompleted", callID=CALL, contactID=1)])
    assert story["started"] == START + timedelta(microseconds=97344)


def test_every_event_has_a_place_in_a_story() -> None:
    for event in EVENTS:
        assert tell(CALL, {"x": {"event": event.name}}, "LV")["revision"] == 1
