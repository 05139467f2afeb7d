"""The state of an outbox: what is asked of it while others write is done, or said not to be."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from requests.adapters import HTTPAdapter

from shared.deliveries.entries import RESTORED
from shared.deliveries.outbox import Outbox
from shared.errors import Conflict
from shared.times import now
from tests.breaking import break_connections

if TYPE_CHECKING:
    from collections.abc import Callable

    import requests

    from shared.bridge import Bridge

ID = "0" * 32


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
    state = outbox.state()
    state.rounds, state.resume, state.failing = 9, now() + timedelta(hours=1), now()
    outbox.note(state)
    return outbox


def race(bridge: Bridge, other: Outbox, times: int) -> None:
    bridge.storage._session.mount("http://", Racing(lambda: other.note(other.state()), times))


def test_an_outbox_without_a_state_has_nothing_to_restore(bridge: Bridge) -> None:
    outbox = Outbox(bridge.storage, ID)
    outbox.restore()
    assert outbox.state().etag is None


def test_restoring_goes_on_while_others_write(bridge: Bridge, start_bridge: Callable[..., Bridge]) -> None:
    outbox = failing(bridge)
    race(bridge, Outbox(start_bridge().storage, ID), 5)
    outbox.restore()
    state = outbox.state()
    assert (state.rounds, state.failing, state.resume < now()) == (0, None, True)


def test_restoring_in_vain_is_said(bridge: Bridge, start_bridge: Callable[..., Bridge]) -> None:
    outbox = failing(bridge)
    race(bridge, Outbox(start_bridge().storage, ID), 10_000)
    with pytest.raises(Conflict):
        outbox.restore()
    assert outbox.state().rounds == 9


def test_who_drains_is_asked_to_restore(bridge: Bridge) -> None:
    outbox = failing(bridge)
    assert outbox.take(outbox.state(), "holder")
    outbox.restore()
    assert (outbox.state().mark, outbox.state().rounds) == (RESTORED, 9)


@pytest.mark.parametrize("after", [True, False], ids=["answer lost", "request lost"])
def test_a_connection_that_breaks_leaves_one_place_and_nothing_half_written(bridge: Bridge, after: bool) -> None:
    outbox, moment = failing(bridge), now()
    break_connections(bridge.storage, "POST", "$batch", times=2, after=after)
    outbox.put([(moment, "a"), (moment, "b")])
    assert [place.event for place in outbox.read(moment + timedelta(seconds=1)).places] == ["a", "b"]
