"""A checkpoint keeps what everybody has noted, however many do at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
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
    looked=MOMENT,
    left="2026-11-21 2026-11-22",
    history=MOMENT,
    by_day=True,
    page=1000,
    waiting=MOMENT,
    items=40,
    unreadable=3,
    lag=1.5,
    state="abc",
    last_success=MOMENT,
    last_error="PbxUnavailable: …",
    last_error_at=MOMENT,
    forbidden_since=MOMENT,
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
    assert checkpoints.create(storage, Checkpoint(resource=checkpoint.resource, items=9)) == created


def test_a_change_on_an_old_view_keeps_what_others_have_noted(storage: Storage) -> None:
    old = checkpoints.create(storage, Checkpoint(resource="groups"))
    checkpoints.change(storage, old, items=9, started=True)
    after = checkpoints.change(storage, old, last_error="x")
    assert (after.items, after.started, after.last_error) == (9, True, "x")
    assert checkpoints.read(storage, "groups") == after


def test_many_at_once_lose_no_change(storage: Storage) -> None:
    old = checkpoints.create(storage, Checkpoint(resource="groups"))
    changes = [{"items": 9}, {"page": 8}, {"unreadable": 7}, {"state": "a"}, {"left": "b"}, {"started": True}]
    with ThreadPoolExecutor(len(changes)) as pool:
        list(pool.map(lambda change: checkpoints.change(storage, old, **change), changes))
    wanted = Checkpoint(resource="groups", items=9, page=8, unreadable=7, state="a", left="b", started=True)
    assert checkpoints.read(storage, "groups") == wanted


def test_steps_of_the_timer_are_kept_beside_polls(storage: Storage) -> None:
    for name in ("webhooks", "retention"):
        checkpoints.note_step(storage, name, MOMENT)
    assert checkpoints.read_steps(storage) == {"webhooks": MOMENT, "retention": MOMENT}
    assert checkpoints.read_all(storage) == []
