"""The rows of an outbox: what is asked of them while others write is done, or refused."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from requests.adapters import HTTPAdapter

from shared.deliveries.outbox import Outbox, State
from shared.errors import Conflict
from shared.times import now
from tests.breaking import break_connections

if TYPE_CHECKING:
    from collections.abc import Callable

    import requests

    from shared.bridge import Bridge

ID = "sub-a"


class Racing(HTTPAdapter):
    """Has somebody else write first, so many times."""

    def __init__(self, work: Callable[[], object], times: int) -> None:
        super().__init__()
        self.work, self.left = work, times

    def send(self, request: requests.PreparedRequest, *args: Any, **options: Any) -> requests.Response:
        if request.method == "PUT" and self.left > 0:
            self.left -= 1
            self.work()
        return super().send(request, *args, **options)


def failing(bridge: Bridge) -> Outbox:
    """An outbox that is left alone for an hour."""
    outbox = Outbox(bridge.storage, ID)
    row = State(rounds=9, resume=now() + timedelta(hours=1)).row(ID)
    bridge.storage.table("deliveries").create_entity(row)
    return outbox


@pytest.mark.slow
@pytest.mark.parametrize(("times", "rounds"), [(5, 0), (10_000, 9)], ids=["a few", "for ever"])
def test_a_change_goes_on_while_others_write_or_is_refused(
    times: int, rounds: int, bridge: Bridge, start_bridge: Callable[..., Bridge]
) -> None:
    outbox, other = failing(bridge), Outbox(start_bridge().storage, ID)
    bridge.storage._session.mount("http://", Racing(lambda: other.take(other.state()), times))
    try:
        outbox.hurry()
    except Conflict:
        assert times > 100
    assert outbox.state().rounds == rounds


def test_an_outbox_without_a_state_has_nothing_to_change(bridge: Bridge) -> None:
    outbox = Outbox(bridge.storage, ID)
    outbox.hurry()
    assert outbox.state().etag is None


def test_a_state_that_was_changed_meanwhile_is_not_overwritten(bridge: Bridge) -> None:
    outbox = failing(bridge)
    outbox.put([(now(), "a")])
    state, places = outbox.due(now() + timedelta(hours=2), 8)
    assert outbox.take(state)
    outbox.hurry()
    finished = [(place, "200") for place in places]
    assert not outbox.complete(state, finished)
    newer = outbox.state()
    assert (newer.rounds, newer.holder) == (0, state.holder)
    assert outbox.complete(newer, finished)
    assert outbox.due(now(), 8)[1] == []


def test_a_place_that_is_gone_keeps_no_other_from_being_completed(bridge: Bridge) -> None:
    outbox = failing(bridge)
    outbox.put([(now(), "a"), (now(), "b"), (now(), "c")])
    moment = now() + timedelta(hours=2)
    state, places = outbox.due(moment, 8)
    assert outbox.take(state)
    for gone in places[:2]:
        bridge.storage.table("deliveries").delete_entity(ID, gone.key)
    assert outbox.complete(state, [(place, "200") for place in places[1:]], [replace(places[0], tries=1)])
    assert outbox.due(moment, 8)[1] == []


@pytest.mark.parametrize("after", [True, False], ids=["answer lost", "request lost"])
def test_a_connection_that_breaks_leaves_one_place_and_nothing_half_written(bridge: Bridge, after: bool) -> None:
    outbox, moment = failing(bridge), now()
    break_connections(bridge.storage, "POST", "$batch", times=2, after=after)
    outbox.put([(moment, "a"), (moment, "b")])
    assert [place.event for place in outbox.due(moment + timedelta(hours=2), 8)[1]] == ["a", "b"]
