"""News does not wait for history: a list that cannot be read to its end stops nothing and loses nothing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from shared.errors import PbxError, PbxRefused
from shared.pbx.resources import RESOURCES
from shared.polling import checkpoints
from shared.polling.poll import poll
from shared.polling.reconcile import reconcile
from shared.polling.sweep import sweep
from shared.times import now
from tests.polls import CALLS, CONTACTS, arrived_ids, stored_ids, submitted

if TYPE_CHECKING:
    from dev.simulator import Simulator
    from shared.bridge import Bridge
    from shared.polling.checkpoints import Checkpoint

DATED = [resource for resource in RESOURCES if resource.dated]
ORDERS = ["newest", "oldest", "random", "shuffled-page"]


@pytest.fixture(autouse=True)
def _short_pages(pbx: Simulator) -> None:
    pbx.options.page_cap = 10


def checkpoint(bridge: Bridge, resource: Any = CALLS) -> Checkpoint:
    found = checkpoints.read(bridge.storage, resource.name)
    assert found is not None
    return found


def long_ago(pbx: Simulator, name: str, count: int, first: int = 1) -> list[int]:
    """Items whose times are in the order of their ids, an hour apart, from years ago."""
    begin = datetime(2020, 1, 1, tzinfo=UTC)
    ids = range(first, first + count)
    return [pbx.add(name, number, callStarted=begin + timedelta(hours=number)) for number in ids]


@pytest.mark.slow
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("resource", DATED, ids=lambda resource: resource.name)
def test_a_list_refused_past_an_offset_is_read_by_dates(
    resource: Any, order: str, pbx: Simulator, bridge: Bridge
) -> None:
    pbx.options.offset_cap, pbx.options.order = 25, order
    old = long_ago(pbx, resource.name, 90)
    poll(bridge, resource)
    assert stored_ids(bridge.storage, resource.name) == old
    assert checkpoint(bridge, resource).started
    new = long_ago(pbx, resource.name, 3, first=5000)
    poll(bridge, resource)
    assert stored_ids(bridge.storage, resource.name) == [*old, *new]


@pytest.mark.slow
@pytest.mark.parametrize("order", ORDERS)
def test_a_burst_past_the_window_is_read_once(order: str, pbx: Simulator, bridge: Bridge) -> None:
    pbx.options.offset_cap, pbx.options.order = 25, order
    long_ago(pbx, CALLS.name, 5)
    poll(bridge, CALLS)
    burst = long_ago(pbx, CALLS.name, 80, first=1000)
    poll(bridge, CALLS)
    assert stored_ids(bridge.storage, CALLS.name)[5:] == burst
    before = len(pbx.requests)
    poll(bridge, CALLS)
    assert len(pbx.requests) == before + 1


def test_a_burst_that_ends_in_a_failure_is_not_read_again(pbx: Simulator, bridge: Bridge) -> None:
    long_ago(pbx, CALLS.name, 5)
    poll(bridge, CALLS)
    burst = long_ago(pbx, CALLS.name, 80, first=1000)
    pbx.faults.add("status", match="GetCallHistory", status=500, after=5)
    with pytest.raises(PbxError):
        poll(bridge, CALLS)
    pbx.faults.clear()
    late = long_ago(pbx, CALLS.name, 2, first=5000)
    before = len(pbx.requests)
    poll(bridge, CALLS)
    assert len(pbx.requests) - before <= 10
    assert arrived_ids(bridge.storage, CALLS.name) == [*burst, *late]


@pytest.mark.slow
@pytest.mark.parametrize("dates", ["the same for all", "none"])
def test_history_that_no_date_narrows_stops_neither_news_nor_sweep_nor_reconciliation(
    dates: str, pbx: Simulator, bridge: Bridge
) -> None:
    pbx.options.offset_cap = 25
    moment = now() - timedelta(days=400)
    for number in range(1, 60):
        pbx.add(CALLS.name, number, callStarted=moment if dates == "the same for all" else None, callEnded=moment)
    with pytest.raises(PbxRefused):
        poll(bridge, CALLS)
    begin = now()
    for minute in range(1, 4):
        at = begin + timedelta(minutes=minute)
        call = pbx.add(CALLS.name, callStarted=at, callEnded=at, contactID=5)
        poll(bridge, CALLS, at=at)
        assert call in stored_ids(bridge.storage, CALLS.name)
    seen = checkpoint(bridge)
    assert (seen.started, bool(seen.left)) == (False, True)
    assert "PbxRefused" in seen.last_error
    assert seen.last_success
    assert checkpoints.describe(seen, begin)["complete"] is False
    before = len(pbx.requests)
    poll(bridge, CALLS, at=begin + timedelta(minutes=5))
    assert len(pbx.requests) - before <= 2
    late = pbx.add(CALLS.name, 7000, callStarted=begin - timedelta(hours=2), callEnded=begin, contactID=5)
    with pytest.raises(PbxError):
        # Other lists of this account are refused, too.
        pbx.bulk("contacts", 60)
        sweep(bridge, at=begin + timedelta(minutes=6))
    assert late in stored_ids(bridge.storage, CALLS.name)
    reconcile(bridge, at=begin + timedelta(minutes=20))
    assert ("CallCompleted", call) in submitted(bridge.storage)


@pytest.mark.parametrize("order", ["newest", "oldest"])
def test_a_list_without_dates_and_end_shows_what_comes_and_changes_and_no_removal(
    order: str, pbx: Simulator, bridge: Bridge
) -> None:
    pbx.options.order = order
    old = pbx.bulk("contacts", 40)
    poll(bridge, CONTACTS)
    pbx.options.offset_cap = 25
    pbx.edit("contacts", old[20], firstname="Ieva")
    new = pbx.add_contact("Jauna") if order == "newest" else None
    for number in old[:5]:
        pbx.remove("contacts", number)
    for minutes in (1, 2, 70, 140):
        with pytest.raises(PbxRefused):
            poll(bridge, CONTACTS, at=now() + timedelta(minutes=minutes), whole=True)
    expected = [("ContactUpdated", old[20])] + ([("ContactCreated", new)] if new else [])
    assert submitted(bridge.storage) == sorted(expected)
    seen = checkpoint(bridge, CONTACTS)
    assert (seen.partial, "PbxRefused" in seen.last_error) == (True, True)
    pbx.options.offset_cap = None
    for minutes in (200, 201):
        poll(bridge, CONTACTS, at=now() + timedelta(minutes=minutes), whole=True)
    assert {name for name, _ in submitted(bridge.storage)} == {"ContactRemoved"}
    assert not checkpoint(bridge, CONTACTS).partial


def test_old_items_that_come_into_view_of_a_list_without_end_are_not_new(pbx: Simulator, bridge: Bridge) -> None:
    prompts = next(resource for resource in RESOURCES if resource.name == "audio_prompts")
    old = pbx.bulk(prompts.name, 60)
    pbx.options.offset_cap = 25
    with pytest.raises(PbxRefused):
        poll(bridge, prompts)
    for number in old[-10:]:
        pbx.remove(prompts.name, number)
    new = pbx.add(prompts.name, old[-1] + 5, name="Jauns")
    with pytest.raises(PbxRefused):
        poll(bridge, prompts)
    assert submitted(bridge.storage) == [("AudioPromptCreated", new)]


@pytest.mark.slow
def test_while_history_is_read_news_comes_each_minute(
    pbx: Simulator, bridge: Bridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.polling.news._LONGEST_CATCHING_UP", 0.0)
    old = long_ago(pbx, CALLS.name, 60)
    poll(bridge, CALLS)
    assert 0 < len(stored_ids(bridge.storage, CALLS.name)) < 30
    new = []
    for _ in range(20):
        new.append(pbx.add(CALLS.name, callStarted=now(), callEnded=now()))
        poll(bridge, CALLS)
        assert new[-1] in stored_ids(bridge.storage, CALLS.name)
    for _ in range(3):
        poll(bridge, CALLS)
    assert stored_ids(bridge.storage, CALLS.name) == [*old, *new]
    # Times on the wire are whole seconds: those of the first one may have been before the poll began.
    assert set(new[-5:]) <= set(arrived_ids(bridge.storage, CALLS.name)) <= set(new)
    assert checkpoint(bridge).started
