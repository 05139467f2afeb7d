"""A day's counts: added up across processes, written rarely, and without delaying events."""

from __future__ import annotations

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from dev.counting import counted
from shared import health
from shared.errors import StorageUnavailable
from shared.events.event import ReceivedEvent
from shared.settings import Settings
from shared.storage.account import Storage
from shared.times import now
from tests.events import received

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


def event(
    late: float = 0.2, *, event: str = "CallStarted", origin: str = "webhook", at: datetime = NOON, **extra: Any
) -> ReceivedEvent:
    started = (at - timedelta(seconds=late)).isoformat()
    data = {"callID": 1, "recordingID": 2, "callStarted": started} | extra
    data = {name: value for name, value in data.items() if name != "recordingID" or event == "CallRecorded"}
    return received(event, origin=origin, at=at, **data)


@pytest.fixture
def processes(settings: Settings) -> Callable[[int], list[Storage]]:
    def start(count: int) -> list[Storage]:
        storages = [Storage(settings.storage) for _ in range(count)]
        storages[0].ready()
        return storages

    return start


def test_counts_of_all_processes_add_up(processes: Callable[[int], list[Storage]]) -> None:
    storages = processes(4)

    def work(storage: Storage) -> None:
        for _ in range(3):
            for number in range(10):
                health.count_event(storage, event(number), repeat=False)
            health.count_event(storage, event(), repeat=True)
            health.count_event(storage, event(origin="reconciled"), repeat=False)
            health.count_event(storage, event(pets=2), repeat=False)
            # Reading the list counted it already.
            health.count_event(storage, event(origin="poll", pets=2), repeat=False)
            health.flush(storage)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, storages))
    day = health.of_day(health.days(storages[0], 3650), NOON)
    counts = {"webhooks": 144, "reconciled": 12, "duplicates": 12, "drift": 12, "driftFields": {"pets": 12}}
    assert day == {"day": "2026-11-23", **counts}


def test_noting_an_event_asks_nothing_of_storage(processes: Callable[[int], list[Storage]]) -> None:
    (storage,) = processes(1)
    adapter = counted(storage)
    for _ in range(500):
        health.count_event(storage, event(), repeat=False)
    assert adapter.count == 0
    for _ in range(2):
        health.flush(storage)
        assert adapter.count == 2


def test_names_of_fields_are_no_numbers_and_never_too_many(processes: Callable[[int], list[Storage]]) -> None:
    (storage,) = processes(1)
    for day in range(2):
        health.drifted(storage, [f"field{number}" for number in range(90 * day, 90 * day + 90)])
        health.drifted(storage, ["+37127771153", "x" * 100])
        health.flush(storage)
    shown = health.of_day(health.days(storage, 1), now())
    assert (shown["drift"], len(shown["driftFields"])) == (4, 100)
    assert sum(shown["driftFields"].values()) == 184


def test_events_around_midnight_count_for_their_own_day(processes: Callable[[int], list[Storage]]) -> None:
    (storage,) = processes(1)
    midnight = NOON.replace(hour=0)
    for seconds in (-2, -1, 1):
        health.count_event(storage, event(at=midnight + timedelta(seconds=seconds)), repeat=False)
    health.flush(storage)
    moments = (midnight, midnight - timedelta(hours=1), midnight + timedelta(days=3))
    assert [health.of_day(health.days(storage, 3650), moment)["webhooks"] for moment in moments] == [1, 2, 0]


def test_failed_writes_stay_counted() -> None:
    nowhere = "DefaultEndpointsProtocol=http;AccountName=a;AccountKey=aaaa;TableEndpoint=http://127.0.0.1:9/a;"
    storage = Storage(Settings.from_env({"DataStorage": nowhere, "PBX_API_KEY": "k"}).storage)
    health.count_event(storage, event(), repeat=False)
    for _ in range(2):
        with pytest.raises(StorageUnavailable):
            health.flush(storage)


def test_a_check_fails_while_tables_or_queues_alone_are_away(
    processes: Callable[[int], list[Storage]], settings: Settings
) -> None:
    (storage,) = processes(1)
    health.check(storage)
    for service in ("Table", "Queue"):
        nowhere = f"{service}Endpoint=http://127.0.0.1:9/a"
        broken = re.sub(f"{service}Endpoint=[^;]*", nowhere, str(settings.storage.connection_string))
        with pytest.raises(StorageUnavailable):
            health.check(Storage(replace(settings.storage, connection_string=broken), prepared=True))


def test_webhooks_that_came_and_were_lost_are_counted_by_day_and_type(
    processes: Callable[[int], list[Storage]],
) -> None:
    (storage,) = processes(1)
    for at, came, lost in ((now() - timedelta(days=1), 1, 1), (now(), 1, 3)):
        for origin, count in (("webhook", came), ("reconciled", lost)):
            for _ in range(count):
                health.count_event(storage, event(event="CallRecorded", origin=origin, at=at), repeat=False)
    health.missed(storage, "CallTransfered")
    health.flush(storage)
    kinds = [
        (health.of_kind(counts, health.CAME), health.of_kind(counts, health.LOST))
        for counts in health.days(storage, 2).values()
    ]
    assert kinds == [
        ({"CallRecorded": 1}, {"CallRecorded": 1}),
        ({"CallRecorded": 1}, {"CallRecorded": 3, "CallTransfered": 1}),
    ]
    assert health.silent(health.days(storage, 2)) == {"CallRecorded": 4}


def test_a_timers_failure_is_kept_until_a_run_succeeds_in_any_process(
    processes: Callable[[int], list[Storage]],
) -> None:
    one, other = processes(2)
    for error in (StorageUnavailable("away"), ValueError("+37127771153")):
        with pytest.raises(type(error)), health.watched(one, "LookAfter"):
            raise error
    (row,) = health.failed_timers(other)
    assert (row["timer"], row["error"]) == ("LookAfter", "ValueError")
    with health.watched(other, "LookAfter"):
        pass
    assert health.failed_timers(one) == []
