"""Drift of what is listed is counted as it is taken in: once for each version, whether or not it becomes an event."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from shared import health
from shared.polling.lost_calls import poll_lost_calls
from shared.polling.poll import poll
from shared.polling.sweep import sweep
from shared.times import now
from tests.polls import CALLS, CONTACTS, RECORDINGS, VOICEMAILS, bridge_to, run_pipeline

if TYPE_CHECKING:
    from dev.simulator import Simulator
    from shared.bridge import Bridge
    from shared.settings import Settings

ODD_CONTACT: dict[str, Any] = {"firstname": {"a": 1}, "archived": "maybe", "created": "1970-01-01", "pets": 2}


@pytest.fixture
def bridge(pbx: Simulator, settings: Settings) -> Bridge:
    return bridge_to(pbx, settings)


def counted(bridge: Bridge) -> dict[str, int]:
    run_pipeline(bridge)
    health.flush(bridge.storage)
    found: dict[str, int] = health.today(bridge.storage)["driftFields"]
    return found


@pytest.mark.parametrize("polls_before", [0, 1], ids=["there before", "new"])
def test_an_item_counts_once_and_again_only_where_it_changes(polls_before: int, pbx: Simulator, bridge: Bridge) -> None:
    for _ in range(polls_before):
        poll(bridge, CONTACTS)
    contact = pbx.add("contacts", **ODD_CONTACT)
    for _ in range(3):
        poll(bridge, CONTACTS)
    assert counted(bridge) == dict.fromkeys(ODD_CONTACT, 1)
    pbx.edit("contacts", contact, archived=0)
    for _ in range(2):
        poll(bridge, CONTACTS)
    assert counted(bridge) == dict.fromkeys(ODD_CONTACT, 2) | {"archived": 1}
    pbx.remove("contacts", contact)
    for minutes in (1, 2, 62, 63):
        poll(bridge, CONTACTS, at=now() + timedelta(minutes=minutes))
    assert counted(bridge) == dict.fromkeys(ODD_CONTACT, 2) | {"archived": 1}


@pytest.mark.parametrize(
    ("resource", "odd"),
    [(CALLS, {"status": "rang"}), (RECORDINGS, {"callID": "x"}), (VOICEMAILS, {"length": "2:05", "mood": "good"})],
    ids=lambda value: getattr(value, "name", ""),
)
def test_what_stays_as_it_is_counts_too_however_it_is_found(
    resource: Any, odd: dict[str, Any], pbx: Simulator, bridge: Bridge
) -> None:
    poll(bridge, resource)
    pbx.add(resource.name, callStarted=now(), **odd)
    for _ in range(2):
        poll(bridge, resource)
    assert counted(bridge) == dict.fromkeys(odd, 1)
    pbx.add(resource.name, callStarted=now(), **odd)
    for _ in range(2):
        sweep(bridge)
    assert counted(bridge) == dict.fromkeys(odd, 2)


def test_a_listed_lost_caller_counts_as_its_event_is_made(pbx: Simulator, bridge: Bridge) -> None:
    poll_lost_calls(bridge)
    pbx.faults.add(
        "wrapper",
        match="GetLostCalls",
        value={"data": [{"callerid": "26123456", "destination": "67000123", "attempts": "many"}]},
    )
    later = now() + timedelta(hours=1)
    for _ in range(2):
        poll_lost_calls(bridge, at=later)
    assert counted(bridge) == {"attempts": 1}
