"""Leases: one holder at a time, also where an answer gets lost, and none for ever."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from shared.errors import Conflict
from shared.storage import leases
from shared.storage.leases import Lease, leased
from shared.times import now
from tests.breaking import break_connections

if TYPE_CHECKING:
    from shared.storage.account import Storage

TABLE = "webhooks"


@pytest.fixture(autouse=True)
def _tables(storage: Storage) -> None:
    storage.ready()


def test_one_holds_it_and_prolongs_it_until_it_is_given_back(storage: Storage) -> None:
    first, second = Lease(storage, TABLE, "sync"), Lease(storage, TABLE, "sync")
    first.take()
    first.take()
    with pytest.raises(Conflict):
        second.take()
    first.free()
    second.take()
    with pytest.raises(Conflict):
        first.take()


def test_a_holder_that_died_keeps_others_waiting_for_its_length_only(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead, next_one = Lease(storage, TABLE, "sync"), Lease(storage, TABLE, "sync")
    dead.take()
    later = now() + leases.LENGTH + timedelta(seconds=1)
    monkeypatch.setattr(leases, "now", lambda: later)
    next_one.take()
    with pytest.raises(Conflict):
        dead.take()
    dead.free()
    next_one.take()


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_an_answer_that_is_lost_loses_no_lease(storage: Storage, method: str) -> None:
    lease = Lease(storage, TABLE, "sync")
    if method == "PUT":
        lease.take()
    break_connections(storage, method, TABLE)
    lease.take()
    lease.take()


def test_who_waits_has_it_once_it_is_free(storage: Storage) -> None:
    with leased(storage, TABLE, "sync"), pytest.raises(Conflict), leased(storage, TABLE, "sync", patience=0.1):
        pass
    with leased(storage, TABLE, "sync"):
        pass
