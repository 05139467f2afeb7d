"""The PBX's list restores lost callers without webhooks, and midnight removes nobody."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

import pytest

from dev.simulator import Simulator
from shared import health
from shared.bridge import Bridge
from shared.calls.lost_callers import listed
from shared.errors import PbxError
from shared.events.event import accept
from shared.events.table import event_named
from shared.polling.poll import poll_lost_calls
from shared.polling.run import checkpoint_of
from shared.settings import Settings
from shared.times import now
from tests.polls import bridge_to, run_pipeline
from tests.stored import dead_letters

NOON = now().replace(hour=12, minute=0, second=0, microsecond=0)
LINE = "67021234"


class Clock:
    """Return the time at which events are received."""

    at = NOON


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    Clock.at = NOON
    monkeypatch.setattr("shared.events.event.now", lambda: Clock.at)


@pytest.fixture
def bridge(pbx: Simulator, settings: Settings) -> Bridge:
    bridge = bridge_to(pbx, settings)
    poll_lost_calls(bridge, at=NOON - timedelta(hours=6))
    return bridge


def lose(pbx: Simulator, caller: str, moment: datetime = NOON, attempts: int = 1, **fields: Any) -> dict[str, Any]:
    item = {"callerid": caller, "destination": LINE, "attempts": attempts, "last_contact": moment, "contact_name": ""}
    pbx.lost[caller, LINE] = item | fields
    return pbx.lost[caller, LINE]


def post(bridge: Bridge, event: str, **data: Any) -> None:
    Clock.at += timedelta(seconds=1)
    accept(bridge, event_named(event), json.dumps({"data": data}).encode())
    run_pipeline(bridge)


def polled(bridge: Bridge, *minutes: float, start: datetime = NOON) -> list[tuple[str, str]]:
    """The events that polls at these minutes after the start bring about, with their callers."""
    before = {row["RowKey"] for row in bridge.storage.table("events").list_entities()}
    for minute in minutes:
        Clock.at = start + timedelta(minutes=minute)
        poll_lost_calls(bridge, at=Clock.at)
        run_pipeline(bridge)
    rows = [row for row in bridge.storage.table("events").list_entities() if row["RowKey"] not in before]
    return sorted((row["type"], row.get("caller", "")) for row in rows)


def test_a_caller_whose_webhooks_were_lost_is_added_updated_and_removed_once(pbx: Simulator, bridge: Bridge) -> None:
    lose(pbx, "27771153")
    others = [lose(pbx, f"2000000{number}") for number in range(4)]
    assert polled(bridge, 1, 4) == []
    assert len(polled(bridge, 6, 11, 16)) == 1 + len(others)
    lose(pbx, "27771153", NOON + timedelta(minutes=20), attempts=2)
    assert polled(bridge, 21) == []
    assert polled(bridge, 26, 31, 36) == [("LostCallerUpdated", "27771153")]
    pbx.lost.pop(("27771153", LINE))
    assert polled(bridge, 41) == []
    assert polled(bridge, 47, 52, 57) == [("LostCallerRemoved", "27771153")]
    assert len(listed(bridge.storage)) == len(others)
    health.flush(bridge.storage)
    assert health.of_kind(next(iter(health.days(bridge.storage, 1).values())), health.LOST) == {
        "LostCallerAdded": 5,
        "LostCallerUpdated": 1,
        "LostCallerRemoved": 1,
    }


def test_events_of_webhooks_are_not_repeated(pbx: Simulator, bridge: Bridge) -> None:
    for number in range(3):
        caller = f"2000000{number}"
        moment = NOON + timedelta(seconds=number)
        lose(pbx, caller, moment)
        post(bridge, "LostCallerAdded", callerid=caller, destination=LINE, attempts=1, last_contact=moment.isoformat())
    assert polled(bridge, 6, 11, 70) == []
    pbx.lost.pop(("20000000", LINE))
    post(bridge, "LostCallerRemoved", callerid="20000000", destination=LINE)
    assert polled(bridge, 76, 81, 90) == []


def test_a_caller_whom_the_list_lacks_once_is_asked_for_by_the_destination(pbx: Simulator, bridge: Bridge) -> None:
    for number in range(3):
        lose(pbx, f"2000000{number}")
    assert len(polled(bridge, 6)) == 3
    pbx.faults.add("wrapper", match="GetLostCalls", value={"data": []}, times=1)
    poll_lost_calls(bridge, at=NOON + timedelta(minutes=10))
    pbx.faults.add("wrapper", match="GetLostCalls", value={"data": []}, times=1)
    assert polled(bridge, 16) == []
    pbx.lost.clear()
    assert {name for name, _ in polled(bridge, 21, 27)} == {"LostCallerRemoved"}


@pytest.mark.slow
@pytest.mark.parametrize("hour", [23, 22, 21], ids=["UTC", "UTC+1", "UTC+2"])
def test_a_midnight_that_empties_the_list_removes_nobody(hour: int, pbx: Simulator, settings: Settings) -> None:
    bridge, evening = bridge_to(pbx, settings), NOON.replace(hour=hour)
    poll_lost_calls(bridge, at=evening - timedelta(hours=3))
    for number in range(3):
        lose(pbx, f"2000000{number}", evening)
    assert len(polled(bridge, 6, start=evening)) == 3
    pbx.lost.clear()
    assert polled(bridge, *range(61, 400, 20), start=evening) == []


def test_a_failure_is_shown_and_the_next_poll_goes_on(pbx: Simulator, bridge: Bridge) -> None:
    lose(pbx, "27771153")
    pbx.faults.add("wrapper", value={"status": "error"})
    with pytest.raises(PbxError):
        poll_lost_calls(bridge, at=NOON + timedelta(minutes=6))
    checkpoint = checkpoint_of(bridge.storage, "lost_calls")
    assert checkpoint
    assert "PbxRefused" in checkpoint.last_error
    pbx.faults.clear()
    assert polled(bridge, 7) == [("LostCallerAdded", "27771153")]


def test_a_list_that_lags_behind_a_removal_adds_nobody_again(pbx: Simulator, bridge: Bridge) -> None:
    last = NOON + timedelta(minutes=2)
    lose(pbx, "27771153", last, attempts=2)
    numbers = {"callerid": "+371 27771153", "destination": LINE}
    post(bridge, "LostCallerAdded", **numbers, attempts=1, last_contact=NOON.isoformat())
    Clock.at = last + timedelta(minutes=1)
    post(bridge, "LostCallerUpdated", **numbers, attempts=2, last_contact=last.isoformat())
    post(bridge, "LostCallerRemoved", **numbers)
    assert polled(bridge, 8, 13, 18) == []
    # A caller who calls again is lost again.
    lose(pbx, "27771153", NOON + timedelta(minutes=20))
    assert polled(bridge, 26, 31) == [("LostCallerAdded", "27771153")]


@pytest.mark.parametrize("caller", ["27771153", ""], ids=["a number", "withheld"])
def test_a_removal_without_times_outweighs_a_list_from_before_it(caller: str, pbx: Simulator, bridge: Bridge) -> None:
    lose(pbx, caller, NOON - timedelta(hours=1))
    for event in ("LostCallerAdded", "LostCallerRemoved"):
        post(bridge, event, callerid=caller, destination=LINE)
    assert polled(bridge, 6, 11) == []
    lose(pbx, caller, NOON + timedelta(minutes=20))
    assert polled(bridge, 26, 31) == [("LostCallerAdded", caller)]


@pytest.mark.parametrize("said", [{}, {"last_contact": NOON.isoformat()}], ids=["without a time", "with one"])
def test_a_caller_of_yesterday_is_added_today(said: dict[str, Any], pbx: Simulator, bridge: Bridge) -> None:
    post(bridge, "LostCallerAdded", callerid="27771153", destination=LINE, attempts=1, **said)
    day = timedelta(days=1)
    lose(pbx, "27771153", NOON + 2 * day)
    assert polled(bridge, 6, 11, start=NOON + 2 * day) == [("LostCallerAdded", "27771153")]


@pytest.mark.parametrize("said", [{}, {"last_contact": True}], ids=["without a time", "with one"])
def test_midnight_adds_no_listed_caller(said: dict[str, Any], pbx: Simulator, settings: Settings) -> None:
    bridge, evening = bridge_to(pbx, settings), NOON.replace(hour=20, minute=50)
    poll_lost_calls(bridge, at=evening - timedelta(hours=3))
    lose(pbx, "27771153", evening, **({} if said else {"last_contact": None}))
    assert polled(bridge, 6, start=evening) == [("LostCallerAdded", "27771153")]
    assert polled(bridge, *range(15, 180, 20), start=evening) == []


def test_an_entry_that_cannot_be_read_is_shown_hides_no_other_and_removes_nobody(
    pbx: Simulator, bridge: Bridge
) -> None:
    lose(pbx, "27771153")
    assert polled(bridge, 6) == [("LostCallerAdded", "27771153")]
    pbx.lost.clear()
    lose(pbx, "20000000")
    pbx.lost["odd", LINE] = {"callerid": [1], "destination": LINE, "last_contact": NOON}
    assert polled(bridge, 12, 18, 24) == [("LostCallerAdded", "20000000")]
    assert [dead["kind"] for dead in dead_letters(bridge.storage)] == ["polled"]
    checkpoint = checkpoint_of(bridge.storage, "lost_calls")
    assert checkpoint and checkpoint.unreadable == 1
    pbx.lost.pop(("odd", LINE))
    assert polled(bridge, 30, 90, 100) == [("LostCallerRemoved", "27771153")]


@pytest.mark.parametrize("written", [27771153.0, "+371 27771153", None], ids=repr)
def test_a_number_is_the_same_caller_however_the_list_writes_it(written: Any, pbx: Simulator, bridge: Bridge) -> None:
    numbers = {"callerid": "27771153" if written else "", "destination": LINE}
    post(bridge, "LostCallerAdded", **numbers, attempts=1, last_contact=NOON.isoformat())
    post(bridge, "LostCallerAdded", callerid="20000001", destination=LINE, attempts=1, last_contact=NOON.isoformat())
    lose(pbx, "27771153", callerid=written)
    # A caller who is not listed was called back; a caller listed in another spelling was not.
    assert polled(bridge, 6, 12, 18) == [("LostCallerRemoved", "20000001")]
