"""An event is read from its envelope, which a text or a list may hold, and from nothing deeper."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import Invalid
from shared.events.event import ReceivedEvent, check_envelope
from shared.events.table import event_named
from shared.times import now

EVENT = event_named("CallStarted")
DATA = {"callID": 1717149600000000, "caller": "27771153"}
ENVELOPE = {"type": "Event", "eventType": "CallStarted", "version": "v1", "data": DATA}
NAMES = st.sampled_from(["data", "callID", "eventType", "type", "version"]) | st.text()
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["data", "callID", "eventType", "type", "version"]) | st.text(), inner, max_size=4
        )
    ),
    max_leaves=12,
)


@pytest.mark.parametrize(
    "value",
    [
        ENVELOPE,
        [ENVELOPE],
        json.dumps(ENVELOPE),
        {**DATA, "type": "Event", "eventType": "CallStarted", "version": "v1"},
        ENVELOPE | {"data": {**DATA, "callID": "1717149600000000"}},
    ],
    ids=["plain", "list", "text", "flat", "id as text"],
)
def test_the_same_event_is_read_however_it_is_wrapped(value: Any) -> None:
    envelope, data = check_envelope(EVENT, value)
    assert envelope == ENVELOPE
    assert data.callID == DATA["callID"]  # type: ignore[attr-defined]


@pytest.mark.parametrize("field", ["type", "eventType", "version"])
@pytest.mark.parametrize("odd", [[], ["CallConnected"], {"name": "CallConnected"}, True, None, "", " "])
def test_an_odd_word_around_the_data_says_nothing(field: str, odd: Any) -> None:
    envelope, data = check_envelope(EVENT, ENVELOPE | {field: odd})
    assert envelope == ENVELOPE | ({} if field == "eventType" else {field: odd})
    event = ReceivedEvent(type=EVENT, id="x", data=data, envelope=envelope, origin="webhook", received=now())
    assert event.drift == ([field] if isinstance(odd, list | dict) and field != "eventType" else [])


@pytest.mark.parametrize(
    "value",
    [
        [ENVELOPE, ENVELOPE],
        [[ENVELOPE]],
        [json.dumps(ENVELOPE)],
        json.dumps([ENVELOPE]),
        ENVELOPE | {"data": [DATA]},
        ENVELOPE | {"data": json.dumps(DATA)},
        {"data": ENVELOPE},
        ENVELOPE | {"data": {"call": DATA}},
        "CallStarted",
        [],
    ],
    ids=ascii,
)
def test_several_events_none_and_deeper_wrapping_are_refused(value: Any) -> None:
    with pytest.raises(Invalid):
        check_envelope(EVENT, value)


@given(ANYTHING)
def test_anything_is_an_event_with_its_identifier_or_refused(value: Any) -> None:
    try:
        envelope, data = check_envelope(EVENT, value)
    except Invalid:
        return
    assert envelope["data"]["callID"] == data.callID  # type: ignore[attr-defined]
    assert envelope["eventType"] == "CallStarted"
    json.dumps(envelope)
