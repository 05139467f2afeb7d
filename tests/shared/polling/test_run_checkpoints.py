"""A checkpoint keeps all concurrent changes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from datetime import UTC, datetime, timedelta

import pytest

from shared.polling.run import (
    Checkpoint,
    checkpoint_of,
    checkpoints,
    is_stale,
    read_steps,
    save_checkpoint,
    save_step,
)
from shared.settings import SCHEDULES
from shared.storage.account import Storage

MOMENT = datetime(2026, 11, 23, 12, 30, 15, 123456, tzinfo=UTC)
FULL = Checkpoint(
    resource="call_history",
    begin=MOMENT,
    started=MOMENT,
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
    failed=True,
    forbidden_since=MOMENT,
    paused_until=MOMENT,
)


def test_every_value_comes_back_exactly_and_none_again(storage: Storage) -> None:
    fresh = Checkpoint(resource=FULL.resource)
    columns = {part.name: getattr(FULL, part.name) for part in fields(FULL) if part.name != "resource"}
    assert checkpoint_of(storage, FULL.resource) is None
    assert save_checkpoint(storage, fresh, **columns) == checkpoint_of(storage, FULL.resource) == FULL
    assert checkpoints(storage) == [FULL]
    save_checkpoint(storage, FULL, **{name: getattr(fresh, name) for name in columns})
    assert checkpoint_of(storage, FULL.resource) == fresh


def test_many_at_once_lose_no_change(storage: Storage) -> None:
    old = save_checkpoint(storage, Checkpoint(resource="groups"), page=1, lag=2.0)
    changes = [{"items": 9}, {"page": 8}, {"unreadable": 7}, {"state": "a"}, {"left": "b"}, {"started": MOMENT}]
    with ThreadPoolExecutor(len(changes)) as pool:
        list(pool.map(lambda change: save_checkpoint(storage, old, **change), changes))
    wanted = Checkpoint(resource="groups", items=9, page=8, unreadable=7, state="a", left="b", started=MOMENT, lag=2.0)
    assert checkpoint_of(storage, "groups") == wanted


def test_steps_of_the_timer_are_kept_beside_polls(storage: Storage) -> None:
    for name in ("webhooks", "retention"):
        save_step(storage, name, MOMENT)
    assert read_steps(storage) == {"webhooks": MOMENT, "retention": MOMENT}
    assert checkpoints(storage) == []


# A Wednesday.
NOW = datetime(2026, 11, 25, 12, 30, tzinfo=UTC)
SLACK = timedelta(minutes=15)
MONDAY = datetime(2026, 11, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    "name", [name.removeprefix("POLL_").removesuffix("_SCHEDULE").lower() for name, _, _ in SCHEDULES[:-1]]
)
def test_a_poll_is_stale_after_days_by_every_default(name: str) -> None:
    assert is_stale(name, NOW - timedelta(days=3), NOW)


@pytest.mark.parametrize(
    ("text", "now", "fine", "late"),
    [
        ("0 * * * * *", NOW, timedelta(seconds=90), timedelta(minutes=3)),
        ("5 0/5 * * * *", NOW, timedelta(minutes=9), timedelta(minutes=12)),
        ("0 0 8-10 * * 1-5", NOW, timedelta(hours=3), timedelta(hours=4)),
        ("0 0 9 * * MON,Tue", NOW, timedelta(days=2), timedelta(days=3)),
        # A weekend is no delay for a poll on weekdays.
        ("0 0 8-18 * * Mon-Friday", MONDAY, timedelta(hours=54), timedelta(hours=55, minutes=1)),
        ("0 0 0 1 1 *", NOW, timedelta(days=600), timedelta(days=800)),
    ],
)
def test_a_poll_is_stale_after_two_runs_of_its_own_schedule(
    text: str, now: datetime, fine: timedelta, late: timedelta, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POLL_CONTACTS_SCHEDULE", text)
    assert not is_stale("contacts", now - fine, now + SLACK)
    assert is_stale("contacts", now - late, now + SLACK)


@pytest.mark.parametrize("text", ["often", "0 0 30 2 *", "00:05:00", "0 0 0 0 0 0"])
def test_a_schedule_that_cannot_be_read_makes_nothing_stale(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLL_CONTACTS_SCHEDULE", text)
    assert not is_stale("contacts", NOW - timedelta(days=900), NOW)
