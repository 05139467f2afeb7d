"""A month is exported whole, in pages, and dropped alone."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from shared.bridge import Bridge
from shared.errors import Invalid, Refused
from shared.pbx.resources import resource
from shared.polling.run import Checkpoint, Run, save_checkpoint
from shared.privacy import retention
from shared.privacy.retention import drop, export, period_of
from shared.storage.account import Storage
from shared.times import iso, now
from tests.history import TEN_YEARS, call_id, fill, happened, item, month, months_of

NUMBERS = range(TEN_YEARS - 4, TEN_YEARS)
CHOSEN = TEN_YEARS - 3
NAME = iso(month(CHOSEN))[:7]


def parts(storage: Storage, name: str = NAME) -> list[dict[str, Any]]:
    lines, continuation, count = list[dict[str, Any]](), None, 0
    while True:
        body, continuation = export(storage, name, continuation)
        lines += [json.loads(line) for line in body.splitlines()]
        count += 1
        assert count < 50
        if not continuation:
            return lines


@pytest.mark.parametrize("size", [1, 500])
def test_a_month_is_handed_over_with_its_events_calls_and_audio(
    size: int, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "_LINES", size)
    fill(storage, NUMBERS)
    ours = [f"{NAME[:4]}/{NAME[5:]}/15/{number}.mp3" for number in (7, 8)]
    for name in (*ours, "2016/01/01/8.mp3"):
        storage.container("recordings").upload_blob(name, b"audio")
        storage.container("voicemails").upload_blob(name, b"audio")
    lines = parts(storage)
    assert [line["kind"] for line in lines] == ["event", "call", *["audio"] * 4]
    event, call, *audio = lines
    assert (event["id"], event["data"]["callID"]) == (happened(CHOSEN).id, call_id(CHOSEN))
    assert (call["callID"], call["callerE164"], call["started"]) == (
        call_id(CHOSEN),
        event["data"]["caller"].replace("2777", "+3712777"),
        iso(month(CHOSEN)),
    )
    assert audio == [
        {"kind": "audio", "container": container, "blob": name}
        for container in ("recordings", "voicemails")
        for name in ours
    ]
    assert parts(storage, "2010-01") == []


def test_a_month_is_dropped_alone(bridge: Bridge) -> None:
    fill(bridge.storage, NUMBERS)
    before = months_of(bridge.storage)
    counted = drop(bridge, NAME, dry=True)
    assert months_of(bridge.storage) == before
    done = drop(bridge, NAME, dry=False)
    assert (done["complete"], done["rows"]) == (True, counted["rows"])
    assert months_of(bridge.storage) == {name: there - {NAME} for name, there in before.items()}
    assert set(drop(bridge, NAME, dry=False)["rows"].values()) == {0}


def test_items_of_a_dropped_month_are_not_stored_again(bridge: Bridge) -> None:
    fill(bridge.storage, NUMBERS)
    row = resource("call_history")
    checkpoint = save_checkpoint(bridge.storage, Checkpoint(resource=row.name), started=now())
    run = Run(bridge=bridge, resource=row, checkpoint=checkpoint, moment=now())
    drop(bridge, NAME, dry=True)
    assert all(run.keeps(item(number)) for number in NUMBERS)
    drop(bridge, NAME, dry=False)
    assert [number for number in NUMBERS if not run.keeps(item(number))] == [CHOSEN]


@pytest.mark.parametrize("name", ["2026", "2026-13", "2026-1", "2026-00", "0000-01", "x", "2026-01-01", "9999-12", ""])
def test_an_invalid_month_is_refused(name: str, bridge: Bridge) -> None:
    with pytest.raises(Invalid):
        drop(bridge, name, dry=True)
    with pytest.raises(Invalid):
        export(bridge.storage, name)


@pytest.mark.parametrize("text", ["", "x", "ZXZlbnQg", 'call {"PartitionKey": "call"}'])
def test_a_crafted_continuation_is_refused(text: str, storage: Storage) -> None:
    with pytest.raises(Refused, match="continuation"):
        export(storage, NAME, text)


def test_the_month_that_goes_on_is_not_dropped(bridge: Bridge) -> None:
    with pytest.raises(Invalid):
        drop(bridge, iso(now())[:7], dry=True)


def test_a_month_begins_and_ends_with_the_calendar() -> None:
    december = period_of("2025-12")
    assert (december.first, december.last) == (datetime(2025, 12, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC))
