"""The calls of an hour that are dialled through the API."""

from __future__ import annotations

import itertools
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from shared.calls import dials
from shared.errors import Refused
from shared.storage.account import Storage

_number = itertools.count()


def ring(storage: Storage, limit: int) -> dials.Request:
    id = f"{next(_number):04d}"
    request = dials.Request(id=id, call=id, subjects=(), keep=timedelta(hours=1))
    assert dials.claim(storage, request, limit) is None
    return request


def test_many_processes_at_once_never_make_more_calls_than_an_hour_may_have(storage: Storage) -> None:
    def rings(_: int) -> bool:
        try:
            ring(storage, 10)
        except Refused:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(rings, range(24))) == 10
    # A refused call leaves no row.
    assert len(list(storage.table(dials.TABLE).query_entities(f"PartitionKey ne '{dials.LIMIT}'"))) == 10


def test_the_hour_is_rolling_and_calls_that_did_not_ring_do_not_count(
    storage: Storage, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    minutes, start = [0], time.time()
    clock = SimpleNamespace(monotonic=time.monotonic, time=lambda: start + 60 * minutes[0])
    monkeypatch.setattr(dials, "time", clock)
    ring(storage, 2)
    minutes[0] = 30
    later = ring(storage, 2)
    with pytest.raises(Refused) as full:
        ring(storage, 2)
    assert 0 < full.value.retry_after <= 3600
    assert "signal dial_limit" in caplog.text
    dials.release(storage, later)
    ring(storage, 2)
    minutes[0] = 60
    ring(storage, 2)
    for limit in (2, 0):
        with pytest.raises(Refused):
            ring(storage, limit)
