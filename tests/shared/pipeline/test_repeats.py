"""A repeat has no effect of its own, and completes what is known of the event and its call."""

from __future__ import annotations

import itertools
import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import StorageUnavailable
from shared.events import store
from shared.events.event import ReceivedEvent, check_envelope
from shared.events.receive import accept, submit
from shared.events.store import FEED, PARTITION
from shared.events.table import event_named
from shared.pipeline.process import process
from shared.pipeline.repeats import additions, says_the_same
from shared.storage import messages
from shared.storage.rows import descending
from shared.times import parse_time
from tests.counting import counted
from tests.dying import is_killed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from shared.bridge import Bridge
    from shared.storage.account import Storage

CALL = 1717149600000000
NUMBERS = {"caller": "27771153", "destination": "67000123", "direction": "in"}
STARTED = {"callStarted": "2024-05-31T10:00:00+0000", "callConnected": "2024-05-31T10:00:12+0000"}
FULL = {**NUMBERS, **STARTED, "callEnded": "2024-05-31T10:00:42+0000", "connectionTime": 30}


def take(storage: Storage, queue: str = "events") -> list[bytes]:
    client, bodies = storage.queue(queue), []
    for message in client.receive_messages(messages_per_page=32):
        bodies.append(message.content.encode())
        client.delete_message(message)
    return bodies


def run(
    bridge: Bridge, event: str, origin: str = "webhook", changes: Mapping[str, Any] | None = None, **data: Any
) -> str:
    sent = {"callID": CALL, "contactID": 5} | data
    if origin == "webhook":
        payload = {"type": "Event", "eventType": event, "version": "v1", "data": sent}
        id = accept(bridge.storage, bridge.settings, event_named(event), json.dumps(payload).encode())
    else:
        id = submit(bridge.storage, bridge.settings, event, sent, origin=origin)
    for body in take(bridge.storage):
        process(bridge, messages.read(bridge.storage, body) | (changes or {}))
    return id


def row(bridge: Bridge, id: str) -> dict[str, Any]:
    return dict(bridge.storage.table("events").get_entity(PARTITION, id))


def entry(bridge: Bridge) -> dict[str, Any]:
    """The event's place in the feed; its copies say the same."""
    found = [dict(row) for row in bridge.storage.table(FEED).list_entities()]
    place = found[0]
    assert all({**row, "RowKey": place["RowKey"]} == place for row in found)
    return place


def story(bridge: Bridge) -> dict[str, Any]:
    return dict(bridge.storage.table("calls").get_entity("call", descending(CALL)))


def test_a_repeat_that_brings_the_callers_number_completes_row_feed_and_story(bridge: Bridge) -> None:
    id = run(bridge, "CallStarted")
    first = row(bridge, id)
    assert run(bridge, "CallStarted", **NUMBERS) == id
    after = row(bridge, id)
    assert json.loads(after["added"]) == NUMBERS
    assert after["body"] == first["body"]
    assert {after["callerE164"], entry(bridge)["callerE164"], story(bridge)["callerE164"]} == {"+37127771153"}
    assert entry(bridge)["destination"] == "67000123"


def test_history_completes_a_bare_end_and_a_bare_end_takes_nothing_from_history(bridge: Bridge) -> None:
    id = run(bridge, "CallCompleted", caller="26000000")
    assert run(bridge, "CallCompleted", "reconciled", **FULL) == id
    for _ in range(2):
        assert (story(bridge)["outcome"], story(bridge)["talkSeconds"]) == ("answered", 30)
        assert story(bridge)["callerE164"] == entry(bridge)["callerE164"] == "+37127771153"
        assert run(bridge, "CallCompleted", caller="25000000") == id


def test_a_repeat_that_was_put_back_takes_nothing_out_of_the_feed(bridge: Bridge) -> None:
    id = run(bridge, "CallCompleted", caller="26000000")
    for _ in range(2):
        assert run(bridge, "CallCompleted", "reconciled", {"begun": True}, **FULL) == id
        assert row(bridge, id)["callerE164"] == entry(bridge)["callerE164"] == "+37127771153"


@pytest.mark.parametrize(("owner", "step"), [(store, "_write"), (store.rows, "delete"), (store.rows, "swap")])
def test_additions_whose_writing_was_broken_off_are_completed_by_the_next_try(
    bridge: Bridge, monkeypatch: pytest.MonkeyPatch, owner: Any, step: str
) -> None:
    id = run(bridge, "CallCompleted", caller="26000000")

    whole = getattr(owner, step)

    def dies(of: Any, *rest: Any, **options: Any) -> Any:
        if getattr(of, "table_name", "") == "calls":
            return whole(of, *rest, **options)
        raise StorageUnavailable("gone")

    with monkeypatch.context() as broken:
        broken.setattr(owner, step, dies)
        with pytest.raises(StorageUnavailable):
            run(bridge, "CallCompleted", "reconciled", **FULL)
    assert run(bridge, "CallCompleted", "reconciled", {"begun": True}, **FULL) == id
    assert row(bridge, id)["callerE164"] == entry(bridge)["callerE164"] == "+37127771153"


def test_a_long_repeat_leaves_the_first_body_alone(bridge: Bridge) -> None:
    id = run(bridge, "CallCompleted", note="a" * 40_000)
    run(bridge, "CallCompleted", note="b" * 60_000, **NUMBERS)
    body = messages.get_payload(bridge.storage, row(bridge, id)["payload"])
    assert json.loads(body)["data"]["note"] == "a" * 40_000
    assert row(bridge, id)["callerE164"] == "+37127771153"


def test_an_end_that_comes_later_than_the_item_that_had_none_is_reported(bridge: Bridge) -> None:
    run(bridge, "CallStarted")
    id = run(bridge, "CallCompleted", "reconciled", callEnded=None)
    assert story(bridge)["outcome"] == "ringing"
    assert run(bridge, "CallCompleted", "reconciled", callEnded="2024-05-31T10:00:42+0000") == id
    assert story(bridge)["outcome"] == "missed"


@pytest.mark.parametrize("more", [{}, {"caller": ""}, {"callConnected": "1970-01-01T00:00:00Z"}, {"status": "x"}])
def test_a_repeat_that_says_no_more_changes_nothing_and_costs_little(bridge: Bridge, more: dict[str, Any]) -> None:
    bridge.storage.create_all()
    id = run(bridge, "CallCompleted", **FULL)
    before = row(bridge, id), entry(bridge), story(bridge)
    accept_id = accept(
        bridge.storage,
        bridge.settings,
        event_named("CallCompleted"),
        json.dumps({"data": {"callID": CALL, "contactID": 5, **FULL, **more}}).encode(),
    )
    assert accept_id == id
    (body,) = take(bridge.storage)
    requests = counted(bridge.storage)
    process(bridge, messages.read(bridge.storage, body))
    assert requests.count <= 4
    assert (row(bridge, id), entry(bridge), story(bridge)) == before


W = {"caller": "27779999"}
W2 = {"caller": "27771111", "direction": "in"}
H = {"caller": "27779999", "callEnded": "2024-05-31T10:00:42+0000"}
ENDED = {"callEnded": "2024-05-31T10:00:42+0000"}


@pytest.mark.slow
@pytest.mark.parametrize("ended", [{}, ENDED], ids=["only history says the end", "all say the end"])
@pytest.mark.parametrize("again", [0, 1, 2], ids=["once", "two times", "also in another process"])
def test_row_feed_and_story_do_not_depend_on_the_order_of_repeats(
    ended: dict[str, str], again: int, bridge: Bridge, start_bridge: Callable[..., Bridge]
) -> None:
    sent = [("webhook", W | ended), ("reconciled", H), ("webhook", W2 | ended)]
    for number, order in enumerate(itertools.permutations(sent)):
        call = CALL + 1_000_000 * number
        for one, (origin, data) in enumerate([*order, *(order if again else ())]):
            taken = start_bridge() if again == 2 and one % 2 else bridge
            id = run(taken, "CallCompleted", origin, **{"callID": call, **data})
        known = bridge.storage.table("calls").get_entity("call", descending(call))
        feed = [row for row in bridge.storage.table(FEED).list_entities() if row["id"] == id]
        assert {known["caller"], row(bridge, id)["caller"], *(one["caller"] for one in feed)} == {"27779999"}
        assert row(bridge, id)["direction"] == known["direction"] == "in"
        assert len(feed) == 3


@pytest.mark.parametrize("origin", ["webhook", "reconciled"])
def test_a_number_that_is_none_leaves_no_number_of_before(origin: str, bridge: Bridge) -> None:
    for callers in (("27779999", "*31"), ("*31", "27779999")):
        for caller in callers:
            id = run(bridge, "CallCompleted", origin, callID=CALL + len(callers[0]), caller=caller)
        found = row(bridge, id)
        feed = [row for row in bridge.storage.table(FEED).list_entities() if row["id"] == id]
        assert (found["caller"], found.get("callerE164")) == ("*31", None)
        assert {(one["caller"], one.get("callerE164")) for one in feed} == {("*31", None)}


@pytest.mark.parametrize("note", ["x" * 31_000, ["x" * 100] * 400], ids=["text", "list"])
def test_a_repeat_with_a_field_that_is_too_long_brings_all_others(note: Any, bridge: Bridge) -> None:
    id = run(bridge, "CallCompleted")
    run(bridge, "CallCompleted", **NUMBERS, notes=note, mood="good")
    assert json.loads(row(bridge, id)["added"]) == {**NUMBERS, "mood": "good"}
    assert story(bridge)["callerE164"] == row(bridge, id)["callerE164"] == entry(bridge)["callerE164"] == "+37127771153"


def test_repeats_at_the_same_time_lose_nothing_of_each_other(
    bridge: Bridge, start_bridge: Callable[..., Bridge]
) -> None:
    id = run(bridge, "CallCompleted")
    sent = [{name: value} for name, value in FULL.items()]
    bodies = []
    for data in sent:
        value = {"data": {"callID": CALL, "contactID": 5, **data}}
        accept(bridge.storage, bridge.settings, event_named("CallCompleted"), json.dumps(value).encode())
        bodies += take(bridge.storage)
    with ThreadPoolExecutor(len(bodies)) as pool:
        bridges = [start_bridge() for _ in bodies]
        taken = [(one, messages.read(one.storage, body)) for one, body in zip(bridges, bodies, strict=True)]
        list(pool.map(lambda pair: process(*pair), taken))
    assert json.loads(row(bridge, id)["added"]) == FULL
    assert {name: value for name, value in row(bridge, id).items() if name in ("caller", "direction")} == {
        name: entry(bridge)[name] for name in ("caller", "direction")
    }
    assert story(bridge)["talkSeconds"] == 30


@pytest.mark.parametrize(("first", "second"), [("webhook", "reconciled"), ("reconciled", "webhook")])
def test_a_repeat_that_another_process_gets_costs_little(
    first: str, second: str, bridge: Bridge, start_bridge: Callable[..., Bridge]
) -> None:
    bridge.storage.create_all()
    for origin in (first, second):
        run(bridge, "CallCompleted", origin, **FULL)
    value = json.dumps({"data": {"callID": CALL, "contactID": 5, **FULL}}).encode()
    for data in (value, value.replace(b'"27771153"', b'"29999999"')):
        accept(bridge.storage, bridge.settings, event_named("CallCompleted"), data)
        (body,) = take(bridge.storage)
        other = start_bridge()
        message = messages.read(other.storage, body)
        requests = counted(other.storage)
        process(other, message)
        assert requests.count <= 4


def test_nothing_is_asked_for_or_delivered_again(bridge: Bridge) -> None:
    run(bridge, "CallRecorded", recordingID=7)
    assert len(take(bridge.storage, "media")) == 1
    run(bridge, "CallRecorded", recordingID=7, caller="27771153", recordingURL="https://pbx.example/files/7")
    assert not take(bridge.storage, "media")
    assert not take(bridge.storage, "deliveries")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("after", [False, True], ids=["before the request", "after it took effect"])
def test_what_a_repeat_adds_is_there_whoever_dies(
    bridge: Bridge, after: bool, start_bridge: Callable[..., Bridge]
) -> None:
    bridge.storage.create_all()
    run(bridge, "CallStarted")
    accept(
        bridge.storage,
        bridge.settings,
        event_named("CallStarted"),
        json.dumps({"data": {"callID": CALL, "contactID": 5, **NUMBERS}}).encode(),
    )
    (body,) = take(bridge.storage)
    message = messages.read(bridge.storage, body)
    for step in itertools.count(1):
        doomed = start_bridge()
        if not is_killed(doomed.storage, step, process, doomed, message, after=after):
            break
        process(start_bridge(), message)
        assert story(bridge)["callerE164"] == "+37127771153"
    assert step > 2


def test_a_removal_that_comes_twice_is_one_event(bridge: Bridge) -> None:
    numbers = {"callerid": "26123456", "destination": "67000123", "callID": None, "contactID": None}
    for event in ("LostCallerAdded", "LostCallerRemoved", "LostCallerRemoved", "LostCallerAdded", "LostCallerRemoved"):
        run(bridge, event, **numbers)
    places = [row for row in bridge.storage.table(FEED).list_entities() if row["RowKey"][0].isdigit()]
    found = sorted(row["type"] for row in places)
    assert found == ["LostCallerAdded"] * 2 + ["LostCallerRemoved"] * 2


def test_the_very_same_body_again_is_not_read(bridge: Bridge) -> None:
    run(bridge, "CallCompleted", **NUMBERS)
    adapter = counted(bridge.storage)
    run(bridge, "CallCompleted", **NUMBERS)
    same = adapter.count
    run(bridge, "CallCompleted", **FULL)
    assert adapter.count - same > same
    assert story(bridge)["talkSeconds"] == 30


NOWHERE: Any = None
HEARD = parse_time("2024-05-31T11:00:00Z")
NAMES = ("CallCompleted", "CallRecorded", "VoicemailCreated")
KEYS = {
    "CallCompleted": {"callID": CALL, "contactID": 5},
    "CallRecorded": {"recordingID": 7},
    "VoicemailCreated": {"voicemailID": 7},
}
TIMES = st.sampled_from(
    [None, "1970-01-01T00:00:00Z", "2024-05-31T10:00:12Z", "2024-05-31T10:00:40+0000", "2024-05-31T09:20:00", "x"]
)
ANY_NUMBER = st.sampled_from([None, "", "27771111", "27779999", "+37127779999", "*31", 27770000, ["x"], "anonymous"])
IDS = st.sampled_from([None, 7, "008", "x", -1])
FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "caller": ANY_NUMBER,
        "sender": ANY_NUMBER,
        "destination": ANY_NUMBER,
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
