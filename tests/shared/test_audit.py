"""Audit rows are listed newest first, and deleted at their age or with the number in their note."""

from __future__ import annotations

import time
from datetime import timedelta

from shared import audit
from shared.storage.account import Storage
from shared.storage.rows import Allowance, Period
from shared.times import now


def test_changes_are_listed_newest_first(storage: Storage) -> None:
    storage.ready()
    for number in range(3):
        audit.record(storage, who="master key", what="retry dead letters", count=number, result="done")
    first, second = audit.listed(storage, 2)
    assert [first["count"], second["count"]] == [2, 1]
    assert first.keys() == {"at", "who", "what", "count", "result", "note"}


def test_a_note_is_cleared_and_an_old_row_deleted(storage: Storage) -> None:
    storage.ready()
    for note in ("", "about 20000001", "about nobody"):
        audit.record(storage, who="board", what="discard dead letter", count=1, result="done", note=note)
    assert audit.clear_notes(storage, lambda note: "20000001" in note) == 1
    assert sorted(row["note"] for row in audit.listed(storage, 9)) == ["", "", "about nobody"]
    before = now() + timedelta(seconds=1)
    assert audit.expire(storage, Period(None, before), Allowance(until=time.monotonic() + 60)) == 3
    assert audit.listed(storage, 9) == []
