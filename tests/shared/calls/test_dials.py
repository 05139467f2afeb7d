"""The calls of an hour that are dialled through the API."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from shared.calls import dials
from shared.errors import Refused

if TYPE_CHECKING:
    from shared.storage.account import Storage


def test_many_processes_at_once_never_make_more_calls_than_an_hour_may_have(storage: Storage) -> None:
    def ring(_: int) -> bool:
        try:
            dials.count(storage, 10)
        except Refused:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(ring, range(24))) == 10


def test_the_hour_goes_along_and_what_did_not_ring_does_not_count(
    storage: Storage, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    minutes, start = [0], dials._minute()
    monkeypatch.setattr(dials, "_minute", lambda: start + minutes[0])
    dials.count(storage, 2)
    minutes[0] = 30
    later = dials.count(storage, 2)
    with pytest.raises(Refused) as full:
        dials.count(storage, 2)
    assert 0 < full.value.retry_after <= 3600
    assert "signal dial_limit" in caplog.text
    dials.uncount(storage, later)
    dials.count(storage, 2)
    minutes[0] = 60
    dials.count(storage, 2)
    with pytest.raises(Refused):
        dials.count(storage, 2)


def test_none_at_all(storage: Storage) -> None:
    with pytest.raises(Refused):
        dials.count(storage, 0)
