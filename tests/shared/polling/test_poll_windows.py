"""Lists by date: the newest window first, then older days and history, without losses at any bound."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from shared.bridge import Bridge
from shared.errors import BudgetExhausted, PbxNotUnderstood, PbxUnavailable
from shared.polling.poll import LONGEST_HISTORY, poll
from shared.polling.run import Checkpoint, checkpoint_of
from shared.settings import Settings
from shared.storage.account import Storage
from shared.times import iso
from tests.polls import CALLS, VOICEMAILS, arrived_ids, queued, stored_ids, submitted

NOW = datetime(2026, 10, 26, 9, 30, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
RIGA = ZoneInfo("Europe/Riga")


class Scripted:
    """A PBX's list by date. It moves our bounds by `shift`, as a PBX that reads them as local times."""

    def __init__(self) -> None:
        self.items: dict[int, dict[str, Any]] = {}
        self.asked: list[dict[str, Any]] = []
        self.shift: Callable[[datetime], datetime] = lambda moment: moment
        self.is_inclusive = True
        self.cap = 1000
        self.broken: Callable[[dict[str, Any]], Exception | None] = lambda asked: None

    def add(self, *moments: datetime, long: timedelta = timedelta(minutes=1)) -> list[int]:
        ids = [int(moment.timestamp()) * 1_000_000 for moment in moments]
        for id, moment in zip(ids, moments, strict=True):
            times = {"callStarted": iso(moment), "callEnded": iso(moment + long)}
            self.items[id] = {"callID": id, "voicemailID": id, "caller": "27771153", **times}
        return ids

    def call(self, operation: str, *, lane: str, until: float | None = None, **asked: Any) -> Any:
        asked = {name: value for name, value in asked.items() if value is not None} | {"operation": operation}
        self.asked.append(asked | {"lane": lane})
        if error := self.broken(asked):
            raise error
        found = [self.items[id] for id in sorted(self.items, reverse=True) if self._fits(self.items[id], asked)]
        offset = asked.get("offset", 0)
        return found[offset : offset + min(asked["limit"], self.cap)]

    def _fits(self, item: dict[str, Any], asked: dict[str, Any]) -> bool:
        moment, slack = datetime.fromisoformat(item["callStarted"]), timedelta(seconds=not self.is_inclusive)
        first, last = (self.shift(asked[name]) if name in asked else None for name in ("date_from", "date_to"))
        return (first is None or moment >= first + slack) and (last is None or moment <= last - slack)


@pytest.fixture
def pbx() -> Scripted:
    return Scripted()


@pytest.fixture
def start(pbx: Scripted, settings: Settings, storage: Storage) -> Callable[..., Bridge]:
    from dataclasses import replace

    def start(**changes: Any) -> Bridge:
        return Bridge(settings=replace(settings, **changes), storage=storage, pbx=pbx)  # type: ignore[arg-type]

    return start


@pytest.fixture
def bridge(start: Callable[..., Bridge]) -> Bridge:
    return start()


def checkpoint(bridge: Bridge) -> Checkpoint:
    found = checkpoint_of(bridge.storage, CALLS.name)
    assert found is not None
    return found


def test_an_ordinary_run_asks_once_from_three_hours_before_the_last_success(pbx: Scripted, bridge: Bridge) -> None:
    poll(bridge, CALLS, at=NOW)
    pbx.asked.clear()
    poll(bridge, CALLS, at=NOW + HOUR / 12)
    (asked,) = pbx.asked
    grace = timedelta(seconds=bridge.settings.reconcile_grace_seconds)
    assert asked["date_from"] == NOW - 3 * HOUR - grace
    assert "date_to" not in asked


def test_once_an_hour_and_after_a_failure_a_run_begins_a_day_and_the_lookback_before(
    pbx: Scripted, bridge: Bridge
) -> None:
    def days(at: datetime) -> set[str]:
        pbx.asked.clear()
        poll(bridge, CALLS, at=at)
        return {f"{one['date_from']:%m-%d}" for one in pbx.asked if "date_to" in one}

    two_days = {"10-24", "10-25"}
    assert days(NOW) == two_days
    assert days(NOW + HOUR / 2) == set()
    assert days(NOW + HOUR) == two_days
    pbx.broken = lambda asked: PbxUnavailable("GetCallHistory", "down")
    with pytest.raises(PbxUnavailable):
        poll(bridge, CALLS, at=NOW + HOUR * 1.1)
    pbx.broken = lambda asked: None
    assert days(NOW + HOUR * 1.2) == two_days
    # Away for days: as long ago as the last success, whatever an ordinary run would do.
    assert days(NOW + 4 * DAY) == {"10-24", "10-25", "10-26", "10-27", "10-28", "10-29"}
    assert pbx.asked[0]["date_from"].day == 30


@pytest.mark.parametrize(
    ("shift", "is_inclusive"),
    [
        (lambda moment: moment, True),
        (lambda moment: moment, False),
        pytest.param(lambda moment: moment.replace(tzinfo=RIGA), False, marks=pytest.mark.slow),
        pytest.param(lambda moment: moment.replace(tzinfo=ZoneInfo("America/New_York")), False, marks=pytest.mark.slow),
        pytest.param(lambda moment: moment.replace(hour=0, minute=0, second=0), True, marks=pytest.mark.slow),
    ],
    ids=["UTC", "UTC, exclusive", "Riga", "New York", "whole days"],
)
def test_no_call_is_lost_whatever_zone_and_bounds_the_pbx_means_also_where_clocks_change(
    shift: Callable[[datetime], datetime], is_inclusive: bool, pbx: Scripted, bridge: Bridge
) -> None:
    # Riga puts clocks back on 25 October at 01:00 UTC.
    pbx.shift, pbx.is_inclusive = shift, is_inclusive
    midnights = [datetime(2026, 10, day, tzinfo=UTC) for day in (25, 26)]
    poll(bridge, CALLS, at=NOW - 3 * DAY)
    begin, numbers = NOW - 2 * DAY, list[int]()
    for number in range(48):
        numbers += pbx.add(begin + number * HOUR, begin + number * HOUR + timedelta(minutes=30))
    numbers = sorted({*numbers, *pbx.add(*midnights)})
    poll(bridge, CALLS, at=NOW + HOUR)
    poll(bridge, CALLS, at=NOW + 7 * HOUR)
    assert stored_ids(bridge.storage, CALLS.name) == arrived_ids(bridge.storage, CALLS.name) == numbers


def test_a_day_that_cannot_be_read_shows_keeps_what_it_had_and_no_newer_one_waiting(
    pbx: Scripted, bridge: Bridge
) -> None:
    def broken(asked: dict[str, Any]) -> Exception | None:
        is_bad = asked.get("date_from") == datetime(2026, 10, 25, tzinfo=UTC) and asked.get("offset")
        return PbxNotUnderstood("GetCallHistory", "cut JSON") if is_bad else None

    pbx.broken, pbx.cap = broken, 2
    bad = pbx.add(*(datetime(2026, 10, 25, hour, tzinfo=UTC) for hour in (8, 9, 10, 11)))
    good = pbx.add(NOW - HOUR, datetime(2026, 10, 24, 12, tzinfo=UTC))
    with pytest.raises(PbxNotUnderstood):
        poll(bridge, CALLS, at=NOW)
    assert stored_ids(bridge.storage, CALLS.name) == sorted([*good, *bad[2:]])
    assert checkpoint(bridge).days_left == {"2026-10-25"}
    new = pbx.add(NOW + HOUR / 3)
    poll(bridge, CALLS, at=NOW + HOUR / 2)
    assert checkpoint(bridge).last_error
    # The newer call is news, whose webhook may still come.
    assert queued(bridge.storage) == []
    with pytest.raises(PbxNotUnderstood):
        poll(bridge, CALLS, at=NOW + HOUR)
    assert {(one["body"]["data"]["callID"], one["origin"]) for one in queued(bridge.storage)} == {
        (new[0], "reconciled")
    }
    pbx.broken = lambda asked: None
    poll(bridge, CALLS, at=NOW + 3 * HOUR)
    assert queued(bridge.storage) == []
    assert stored_ids(bridge.storage, CALLS.name) == sorted([*good, *bad, *new])
    assert checkpoint(bridge).started and not checkpoint(bridge).left
    assert not checkpoint(bridge).last_error


def months(pbx: Scripted) -> list[str]:
    """The parts of history that were asked for, in their order."""
    asked = (one for one in pbx.asked if one["lane"] == "backfill" and "date_from" in one)
    return list(dict.fromkeys(f"{one['date_from']:%Y-%m-%d}" for one in asked))


_AT = ((2026, 10, 3), (2026, 5, 17), (2025, 12, 31))
HISTORY = [datetime(*one, 23, tzinfo=UTC) for one in _AT]


def test_a_long_call_is_found_within_the_hour_and_told_at_once(pbx: Scripted, bridge: Bridge) -> None:
    old = pbx.add(HISTORY[0], NOW - HOUR)
    poll(bridge, CALLS, at=NOW)
    (call,) = pbx.add(NOW - 9 * HOUR, long=9 * HOUR)
    poll(bridge, CALLS, at=NOW + HOUR / 2)
    assert stored_ids(bridge.storage, CALLS.name) == old[1:]
    poll(bridge, CALLS, at=NOW + HOUR)
    assert ("CallCompleted", call) in submitted(bridge.storage)
    assert (months(pbx), arrived_ids(bridge.storage, CALLS.name)) == ([], [call])


def test_all_of_history_is_read_by_months_backwards_past_empty_ones_and_told(
    pbx: Scripted, start: Callable[..., Bridge]
) -> None:
    bridge = start(poll_start="all")
    numbers = pbx.add(*HISTORY, NOW - HOUR, NOW - HOUR / 2)
    poll(bridge, CALLS, at=NOW)
    assert stored_ids(bridge.storage, CALLS.name) == sorted(numbers)
    assert arrived_ids(bridge.storage, CALLS.name) == sorted(numbers)
    assert months(pbx) == [f"2026-{month:02d}-01" for month in range(10, 0, -1)] + ["2025-12-01"]
    assert {number for _, number in submitted(bridge.storage)} == set(numbers)
    assert checkpoint(bridge).history is None
    pbx.asked.clear()
    poll(bridge, CALLS, at=NOW + HOUR / 12)
    assert len(pbx.asked) == 1


def test_history_from_a_date_ends_there_and_hands_on_nothing_older(pbx: Scripted, start: Callable[..., Bridge]) -> None:
    bridge = start(poll_start="2026-05-17T00:00:00Z")
    numbers = pbx.add(*HISTORY, datetime(2026, 5, 2, tzinfo=UTC))
    poll(bridge, CALLS, at=NOW)
    assert months(pbx)[-1] == "2026-05-01"
    assert arrived_ids(bridge.storage, CALLS.name) == sorted(numbers[:2])


@pytest.mark.slow
def test_a_month_that_is_too_long_for_a_run_is_read_by_days_and_no_news_wait(
    pbx: Scripted, start: Callable[..., Bridge], monkeypatch: pytest.MonkeyPatch
) -> None:
    bridge, pbx.cap = start(poll_start="all"), 3
    numbers = pbx.add(*(datetime(2026, 10, day, hour, tzinfo=UTC) for day in range(1, 10) for hour in (8, 9)))
    clock = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    ask = pbx.call

    def slowly(operation: str, **asked: Any) -> Any:
        if asked["lane"] == "backfill":
            clock[0] += LONGEST_HISTORY / 5
            if asked.get("until") is not None and clock[0] > asked["until"]:
                raise PbxUnavailable(operation, "too late")
        return ask(operation, **asked)

    monkeypatch.setattr(pbx, "call", slowly)
    for run in range(20):
        (new,) = pbx.add(NOW + run * HOUR / 12)
        poll(bridge, CALLS, at=NOW + run * HOUR / 12)
        numbers.append(new)
        assert new in stored_ids(bridge.storage, CALLS.name)
        clock[0] += 1000
    assert stored_ids(bridge.storage, CALLS.name) == sorted(numbers)
    assert months(pbx)[0] == "2026-10-01"
    assert "2026-10-09" in months(pbx)
    assert checkpoint(bridge).history is None


def test_history_without_budget_is_no_failure_and_goes_on_with_the_next_run(
    pbx: Scripted, start: Callable[..., Bridge]
) -> None:
    bridge, numbers = start(poll_start="all"), pbx.add(*HISTORY)
    ask, calls = pbx.call, itertools.count()

    def frugal(operation: str, *, lane: str, **asked: Any) -> Any:
        if lane == "backfill" and next(calls) % 4 == 3:
            raise BudgetExhausted
        return ask(operation, lane=lane, **asked)

    pbx.call = frugal  # type: ignore[method-assign]
    for run in range(20):
        poll(bridge, CALLS, at=NOW + run * HOUR / 12)
        assert not checkpoint(bridge).last_error
    assert stored_ids(bridge.storage, CALLS.name) == sorted(numbers)
    assert checkpoint(bridge).history is None


def test_history_is_read_to_its_end_whatever_page_was_the_last_one_before(
    pbx: Scripted, start: Callable[..., Bridge], monkeypatch: pytest.MonkeyPatch
) -> None:
    bridge, pbx.cap = start(poll_start="all"), 2
    numbers = pbx.add(*(HISTORY[1] + number * HOUR for number in range(5)), NOW - HOUR, NOW - HOUR / 2)
    with monkeypatch.context() as patched:
        patched.setattr("shared.polling.poll.LONGEST_HISTORY", -1.0)
        poll(bridge, CALLS, at=NOW)
    assert (stored_ids(bridge.storage, CALLS.name), checkpoint(bridge).page) == (numbers[5:], 2)
    poll(bridge, CALLS, at=NOW + HOUR / 12)
    assert stored_ids(bridge.storage, CALLS.name) == numbers


def test_a_list_that_knows_no_dates_has_no_history(pbx: Scripted, start: Callable[..., Bridge]) -> None:
    bridge = start(poll_start="all")
    pbx.shift = lambda moment: datetime(2000, 1, 1, tzinfo=UTC) if moment < NOW - DAY else NOW + DAY
    numbers = pbx.add(NOW - HOUR)
    ask = pbx.call
    pbx.call = lambda operation, **asked: ask(operation, **{**asked, "date_from": None, "date_to": None})  # type: ignore[method-assign]
    poll(bridge, CALLS, at=NOW)
    assert stored_ids(bridge.storage, CALLS.name) == numbers
    assert checkpoint(bridge).history is None


def test_voicemails_are_read_from_the_beginning_hourly_as_a_deleted_one_is_of_any_age(
    pbx: Scripted, bridge: Bridge
) -> None:
    old = pbx.add(*HISTORY)
    poll(bridge, VOICEMAILS, at=NOW)
    assert stored_ids(bridge.storage, VOICEMAILS.name) == sorted(old)
    ask = pbx.call

    def call(operation: str, **asked: Any) -> Any:
        if "voicemail_id" in asked:
            from shared.errors import PbxNotFound

            raise PbxNotFound(operation, "none")
        return ask(operation, **asked)

    pbx.call = call  # type: ignore[method-assign]
    del pbx.items[old[2]]
    poll(bridge, VOICEMAILS, at=NOW + HOUR / 2)
    assert submitted(bridge.storage) == []
    poll(bridge, VOICEMAILS, at=NOW + HOUR)
    assert submitted(bridge.storage) == [("VoicemailDeleted", old[2])]
    poll(bridge, VOICEMAILS, at=NOW + 2 * HOUR)
    assert submitted(bridge.storage) == []
