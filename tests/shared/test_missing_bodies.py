"""Answers survive a missing stored body: its item is marked and has no body, the others are complete."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from typing import Any

import pytest

from dev.stored import put
from shared import people
from shared.api import calls
from shared.api.lists import find_items, list_items
from shared.api.operations import GET_CALL, GET_EVENTS, LIST_ACTIONS, LISTS
from shared.api.parameters import Request
from shared.bridge import Bridge
from shared.calls.store import Calls
from shared.events import store
from shared.events.event import row_of
from shared.privacy.retention import export
from shared.storage.messages import PAYLOADS
from shared.times import parse_time
from tests.events import received

STARTED = parse_time("2026-05-31T12:00:00Z")
CALL = int(STARTED.timestamp()) * 1_000_000
LONG = "".join(random.Random(1).choices("abcdefghijklmnopqrstuvwxyz0123456789", k=150_000))
LIST = next(row for row in LISTS if row.path == "trigger/contacts")
FIND = next(row for row in LIST_ACTIONS if row.path == "contacts")


@pytest.fixture
def bridge(bridge: Bridge) -> Bridge:
    """Two events of a call and two contacts, of which the bodies of one each are gone."""
    for name, note in (("CallStarted", LONG[:40_000]), ("CallConnected", "short")):
        data = {"callID": CALL, "contactID": 7, "caller": "27771153", "note": note}
        event = received(name, at=STARTED, id=name, **data)
        people.add(bridge.storage, store.pointers(event, "LV"))
        store.insert(bridge.storage, row_of(bridge.storage, event), "mark")
        store.publish(bridge, replace(event, row=row_of(bridge.storage, event)))
        Calls(bridge.storage, "LV").merge(CALL, event)
    put(bridge.storage, "contacts", {"contactID": 1, "name": "Anna", "note": LONG}, {"contactID": 2, "name": "Zane"})
    gone = bridge.storage.container(PAYLOADS)
    names = [blob.name for blob in gone.list_blobs()]
    assert len(names) == 2
    for name in names:
        gone.delete_blob(name)
    return bridge


def marked(items: list[dict[str, Any]], key: str) -> dict[Any, bool]:
    return {item[key]: item.get("bodyMissing", False) for item in items}


EVENTS = {"CallStarted": True, "CallConnected": False}


def test_events_in_the_feed_a_call_and_a_month_s_export(bridge: Bridge) -> None:
    for query in ({}, {"number": "27771153"}, {"call_id": str(CALL)}):
        assert marked(calls.read_events(bridge, GET_EVENTS, Request(query=query))["data"], "type") == EVENTS
    whole = calls.read_one(bridge, GET_CALL, Request(path={"call_id": str(CALL)}))["data"]
    assert marked(whole["events"], "type") == EVENTS
    lines = [json.loads(line) for line in export(bridge.storage, "2026-05")[0].splitlines()]
    assert marked([line for line in lines if line["kind"] == "event"], "type") == EVENTS


@pytest.mark.parametrize("query", [{}, {"state": "0"}, {"limit": "9", "initial_contact_id": "0"}])
def test_contacts_in_lists(query: dict[str, str], bridge: Bridge) -> None:
    assert marked(list_items(bridge, LIST, Request(query=query)).body["data"], "contactID") == {
        1: True,
        2: False,
    }


def test_contacts_that_makers_pick_from_and_a_poll_by_location(bridge: Bridge) -> None:
    assert marked(find_items(bridge, FIND, Request())["data"], "contactID") == {1: True, 2: False}  # type: ignore[index]
    assert marked(find_items(bridge, FIND, Request(query={"name": "zan"}))["data"], "contactID") == {2: False}  # type: ignore[index]
    page = list_items(bridge, LIST, Request(query={"triggerState": "0"}))
    assert marked(page.body["data"], "contactID") == {1: True}
