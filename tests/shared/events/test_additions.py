"""A row says the same of its event in any order that the event and its repeats come in."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.events.additions import additions, says_the_same
from shared.events.event import ReceivedEvent, check_envelope
from shared.events.table import event_named
from shared.times import parse_time

if TYPE_CHECKING:
    from collections.abc import Iterable

NOWHERE: Any = None
HEARD = parse_time("2024-05-31T11:00:00Z")
CALL = 1717149600000000
NAMES = ("CallCompleted", "CallRecorded", "VoicemailCreated")
KEYS = {
    "CallCompleted": {"callID": CALL, "contactID": 5},
    "CallRecorded": {"recordingID": 7},
    "VoicemailCreated": {"voicemailID": 7},
}
TIMES = st.sampled_from(
    [None, "1970-01-01T00:00:00Z", "2024-05-31T10:00:12Z", "2024-05-31T10:00:40+0000", "2024-05-31T09:20:00", "x"]
)
NUMBERS = st.sampled_from([None, "", "27771111", "27779999", "+37127779999", "*31", 27770000, ["x"], "anonymous"])
IDS = st.sampled_from([None, 7, "008", "x", -1])
FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "caller": NUMBERS,
        "sender": NUMBERS,
        "destination": NUMBERS,
        "direction": st.sampled_from([None, "in", "out", 5, {}]),
        "callStarted": st.sampled_from([None, "2024-05-31T10:00:00Z", "1970-01-01T00:00:00Z"]),
        "callConnected": TIMES,
        "callEnded": TIMES,
        "connectionTime": st.sampled_from([None, 0, 5, "60", -1]),
        "length": st.sampled_from([None, 5, "7", "x"]),
        "previous_contactID": IDS,
        "voicemailBoxID": IDS,
        "mood": st.sampled_from([None, "good"]),
    },
)
ORIGINS = st.sampled_from(["webhook", "reconciled", "backfill"])


def received(name: str, origin: str, data: dict[str, Any]) -> ReceivedEvent:
    envelope, checked = check_envelope(event_named(name), {"data": {**KEYS[name], **data}})
    return ReceivedEvent(type=event_named(name), id="x", data=checked, envelope=envelope, origin=origin, received=HEARD)


def row_after(events: Iterable[ReceivedEvent]) -> dict[str, Any]:
    """The row of an event that came with these repeats, in this order."""
    first, *repeats = events
    row = first.row(NOWHERE, "LV")
    for event in repeats:
        if not says_the_same(event, row):
            row = {**row, **additions(NOWHERE, event, row, "LV")}
            row = {name: value for name, value in row.items() if value is not None}
    return row


def said(row: dict[str, Any]) -> dict[str, Any]:
    """What a row says, however it came to it."""
    body = json.loads(row["body"])
    whole = {**body["data"], **json.loads(row.get("added", "{}"))}
    data = check_envelope(event_named(row["type"]), {"data": whole})[1]
    kept = {
        name: value for name, value in row.items() if name not in ("body", "added", "addedByHistory", "drift", "origin")
    }
    return kept | {"fields": {name: getattr(data, name, None) for name in type(data).model_fields}}


@pytest.mark.parametrize("name", NAMES)
@given(sent=st.lists(st.tuples(ORIGINS, FIELDS), min_size=2, max_size=4), again=st.integers(0, 3))
def test_any_order_of_any_repeats_makes_one_row(name: str, sent: list[tuple[str, dict[str, Any]]], again: int) -> None:
    events = [received(name, origin, data) for origin, data in sent]
    first, *others = [said(row_after([*order, *order[:again]])) for order in itertools.permutations(events)]
    assert all(other == first for other in others)


@pytest.mark.parametrize("name", NAMES)
@given(sent=st.lists(st.tuples(ORIGINS, FIELDS), min_size=1, max_size=4))
def test_what_was_said_already_adds_nothing(name: str, sent: list[tuple[str, dict[str, Any]]]) -> None:
    events = [received(name, origin, data) for origin, data in sent]
    row = row_after(events)
    for event in events:
        assert says_the_same(event, row) or additions(NOWHERE, event, row, "LV") == {}


def test_history_that_says_the_same_as_a_webhook_stands_against_the_next_webhook() -> None:
    sent = {"caller": "27779999"}
    row = row_after([received("CallCompleted", origin, sent) for origin in ("webhook", "reconciled")])
    assert set(row["addedByHistory"].split(",")) >= {"caller", "callID"}
    assert additions(NOWHERE, received("CallCompleted", "webhook", {"caller": "27771111"}), row, "LV") == {}
