"""A checkpoint moves forward only, whoever writes it and however many do at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from shared.polling import checkpoints
from shared.polling.checkpoints import Checkpoint

if TYPE_CHECKING:
    from shared.storage.account import Storage

MOMENT = datetime(2026, 11, 23, 12, 30, 15, 123456, tzinfo=UTC)
FULL = Checkpoint(
    resource="call_history",
    begin=MOMENT,
    started=True,
    left="[[0, null, null, 45, false]]",
    partial=True,
    unreadable=3,
    sequence=2**62,
    swept=MOMENT,
    sweep_error="PbxForbidden: …",
    forbidden_since=MOMENT,
    cursor=2**63 - 1,
    items=2**40,
    digest="abc",
    lag=1.5,
    last_success=MOMENT,
    last_error="PbxUnavailable: …",
    last_error_at=MOMENT,
    paused_until=MOMENT,
)


@pytest.mark.parametrize("checkpoint", [FULL, Checkpoint(resource="groups")], ids=["full", "fresh"])
def test_every_value_comes_back_exactly(checkpoint: Checkpoint, storage: Storage) -> None:
    assert checkpoints.read(storage, checkpoint.resource) is None
    created = checkpoints.create(storage, checkpoint)
    back = checkpoints.read(storage, checkpoint.resource)
    assert back == created
    assert created == checkpoint
    assert checkpoints.read_all(storage) == [created]


def test_the_first_to_create_it_counts(storage: Storage) -> None:
    first = checkpoints.create(storage, Checkpoint(resource="groups", begin=MOMENT))
    assert checkpoints.create(storage, Checkpoint(resource="groups")) == first


def test_a_change_on_an_old_view_keeps_what_others_have_read(storage: Storage) -> None:
    old = checkpoints.create(storage, Checkpoint(resource="groups"))
    checkpoints.change(storage, old, lambda now: replace(now, cursor=9, sequence=4, started=True))
    after = checkpoints.change(storage, old, lambda now: replace(now, cursor=5, last_error="x"))
    assert (after.cursor, after.sequence, after.started, after.last_error) == (9, 4, True, "x")
    assert checkpoints.read(storage, "groups") == after


def test_many_at_once_lose_no_change(storage: Storage) -> None:
    old = checkpoints.create(storage, Checkpoint(resource="groups"))

    def count(number: int) -> None:
        checkpoints.change(storage, old, lambda now: replace(now, items=now.items + 1, cursor=number))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(count, range(12)))
    after = checkpoints.read(storage, "groups")
    assert after is not None
    assert (after.items, after.cursor) == (12, 11)
