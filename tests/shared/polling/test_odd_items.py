"""Ids are numbers however they are written, and an item that nobody can use stops no other."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from shared.api.lists import list_items
from shared.api.parameters import Request
from shared.items import reader as items
from shared.pbx.operations import operation
from shared.pbx.resources import RESOURCES
from shared.polling import changes, checkpoints
from shared.polling.poll import poll
from shared.polling.reconcile import reconcile
from shared.polling.sweep import sweep
from shared.times import now
from tests.polls import CALLS, CONTACTS, RECORDINGS, VOICEMAILS, stored_ids, submitted
from tests.stored import dead_letters

if TYPE_CHECKING:
    from dev.simulator import Simulator
    from shared.bridge import Bridge

LATER = timedelta(minutes=6)


def written(pbx: Simulator, **ways: Any) -> None:
    """Have the PBX write fields another way: a function of the true value each."""
    view = pbx.view

    def odd(resource: str, item: dict[str, Any]) -> dict[str, Any]:
        shown = view(resource, item)
        return shown | {name: way(shown[name]) for name, way in ways.items() if name in shown}

    pbx.view = odd  # type: ignore[method-assign]


WAYS: dict[str, Any] = {"text": str, "padded": lambda number: f" 000{number} ", "float": float}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_ids_are_read_alike_and_answered_as_numbers(way: Any, pbx: Simulator, bridge: Bridge) -> None:
    for resource in (CALLS, CONTACTS):
        poll(bridge, resource)
    written(pbx, callID=way, contactID=way)
    pbx.options.ids = "small"
    contact = pbx.add_contact("Anna")
    calls = [pbx.add("call_history", contactID=contact, callStarted=now(), callEnded=now()) for _ in range(3)]
    for resource in (CALLS, CONTACTS):
        poll(bridge, resource)
        sweep(bridge)
    assert stored_ids(bridge.storage, CALLS.name) == calls
    assert submitted(bridge.storage) == [("ContactCreated", contact)]

    def listed(id: str, **query: Any) -> list[dict[str, Any]]:
        given = Request(query={name: str(value) for name, value in query.items()})
        found: list[dict[str, Any]] = list_items(bridge, operation(id), given, "http://x").body["data"]
        return found

    numbers = [(item["callID"], item["contactID"]) for item in listed("GetCallHistory", contact_id=contact)]
    assert numbers == [(call, contact) for call in calls[::-1]]
    assert [item["callID"] for item in listed("GetCallHistory", initial_call_id=calls[0])] == calls[:0:-1]
    assert [item["callID"] for item in listed("GetCallHistory", call_id=calls[1])] == [calls[1]]
    assert all(type(item["contactID"]) is int for item in listed("GetContacts"))


@pytest.mark.slow
@pytest.mark.parametrize("odd", [None, "", "x", -1, 1.5, True, [1], {"id": 1}, 2**63], ids=repr)
@pytest.mark.parametrize("resource", RESOURCES, ids=lambda resource: resource.name)
def test_what_has_no_id_is_a_dead_letter_and_shows_while_the_others_are_stored(
    odd: Any, resource: Any, pbx: Simulator, bridge: Bridge
) -> None:
    poll(bridge, resource)
    new = list(pbx.bulk(resource.name, 3))
    written(pbx, **{resource.id_field: lambda number: odd if number == new[1] else number})
    for _ in range(3):
        poll(bridge, resource)
    assert stored_ids(bridge.storage, resource.name) == [new[0], new[2]]
    (dead,) = dead_letters(bridge.storage)
    assert (dead["kind"], dead["attempts"]) == ("polled", 1)
    assert resource.id_field in dead["reason"]
    checkpoint = checkpoints.read(bridge.storage, resource.name)
    assert checkpoint
    assert checkpoints.describe(checkpoint, now())["unreadable"] == 1


ODD: list[dict[str, Any]] = [
    {"contactID": [1, 2]},
    {"contactID": {"id": 5}},
    {"contactID": "nobody"},
    {"callStarted": 5, "caller": ["27771153"]},
    {"callConnected": {"at": 1}, "direction": []},
    {"recordingID": {}, "connectionTime": "long"},
]


@pytest.mark.slow
@pytest.mark.parametrize("fields", ODD, ids=str)
def test_an_odd_item_keeps_nothing_from_being_reconciled(
    fields: dict[str, Any], pbx: Simulator, bridge: Bridge
) -> None:
    for resource in (CALLS, RECORDINGS, VOICEMAILS):
        poll(bridge, resource)
    ended = {"callStarted": now() - timedelta(minutes=2), "callEnded": now()}
    pbx.add("call_history", **{"contactID": 5, **ended, **fields})
    good = pbx.add("call_history", contactID=5, **ended)
    recording = pbx.add("call_records", callID=good)
    pbx.add("voicemails", sender="27771153")
    for resource in (CALLS, RECORDINGS, VOICEMAILS):
        poll(bridge, resource)
    reconcile(bridge, at=now() + LATER)
    found = submitted(bridge.storage)
    assert ("CallCompleted", good) in found
    assert ("CallRecorded", recording) in found
    assert "VoicemailCreated" in {name for name, _ in found}
    assert reconcile(bridge, at=now() + 2 * LATER) == 0


def test_an_error_that_nobody_foresaw_is_a_dead_letter_with_its_place(
    pbx: Simulator, bridge: Bridge, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    poll(bridge, CALLS)
    bad, good = (pbx.add("call_history", contactID=5, callEnded=now()) for _ in range(2))
    poll(bridge, CALLS)
    stored = items.stored

    def broken(storage: Any, name: str, number: int) -> Any:
        if number == bad:
            raise ZeroDivisionError("27771153")
        return stored(storage, name, number)

    monkeypatch.setattr(items, "stored", broken)
    reconcile(bridge, at=now() + LATER)
    assert ("CallCompleted", good) in submitted(bridge.storage)
    (dead,) = dead_letters(bridge.storage)
    assert dead["reason"].startswith("ZeroDivisionError at test_odd_items.py")
    assert "signal dead_letter kind=polled" in caplog.text
    assert "27771153" not in caplog.text


def test_an_event_that_nobody_can_make_keeps_no_other_from_being_submitted(
    pbx: Simulator, bridge: Bridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    poll(bridge, CONTACTS)
    bad, *good = pbx.bulk("contacts", 12)
    submit = changes.submit

    def broken(storage: Any, settings: Any, event: str, data: Any, **options: Any) -> str:
        if data["contactID"] == bad:
            raise ZeroDivisionError
        return submit(storage, settings, event, data, **options)

    monkeypatch.setattr(changes, "submit", broken)
    poll(bridge, CONTACTS)
    assert submitted(bridge.storage) == [("ContactCreated", number) for number in good]
    assert stored_ids(bridge.storage, CONTACTS.name) == [bad, *good]
    (dead,) = dead_letters(bridge.storage)
    assert dead["reason"].startswith("ZeroDivisionError")
