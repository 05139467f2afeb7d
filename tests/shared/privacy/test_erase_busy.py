"""Erasing while a day goes on: late repeats, polls and deliveries bring nothing back, and nothing else is read."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import count

import pytest

from functions.queues import ALL
from shared import forgotten
from shared.pbx.resources import resource
from shared.pipeline.queues import CONSUMERS
from shared.polling.poll import poll
from shared.privacy import jobs
from shared.privacy.holdings import Spellings, scanned
from shared.storage.account import QUEUES
from tests.counting import counted
from tests.outbox import Outbox, outbox
from tests.shared.privacy.conftest import (
    CALL,
    NUMBER,
    OTHER,
    OTHER_CALL,
    RECORDING,
    VOICEMAIL,
    Busy,
    places_of,
    spelled,
)
from tests.waiting import until


@pytest.fixture(autouse=True)
def shorter(monkeypatch: pytest.MonkeyPatch) -> None:
    # As in Azure, a look comes long after the tombstone is known and what was under way has ended.
    monkeypatch.setattr(jobs, "_PAUSE_SECONDS", 3)
    monkeypatch.setattr(forgotten, "MEMORY_SECONDS", 0.2)


def go_on(busy: Busy, rounds: list[int], over: threading.Event) -> Outbox:
    """Work as another process until it is `over`: other callers, late repeats, polls, and what they set off."""
    day = busy.again()
    sent = outbox(day.bridge.storage)
    for number in count(1):
        day.call(OTHER, OTHER_CALL + number * 1000)
        day.call(NUMBER, CALL, RECORDING)
        day.call(NUMBER, CALL + number * 1000, RECORDING + 100 + number)
        day.hear("CallCompleted", callID=CALL + number * 1000, caller="anonymous", note=f"for +371 {NUMBER}")
        day.hear("VoicemailCreated", voicemailID=VOICEMAIL, sender=NUMBER, callStarted=spelled(30))
        for name in ("call_history", "call_records", "voicemails"):
            poll(day.bridge, resource(name))
        day.work(*CONSUMERS)
        rounds.append(number)
        if over.is_set():
            return sent
    raise AssertionError("unreachable")


def test_nothing_of_a_number_is_left_although_the_day_goes_on(busy: Busy) -> None:
    storage, rounds, over = busy.bridge.storage, list[int](), threading.Event()
    busy.leave(OTHER, RECORDING + 1, VOICEMAIL + 1, OTHER_CALL)
    busy.leave(NUMBER, RECORDING, VOICEMAIL, CALL)
    with ThreadPoolExecutor(1) as pool:
        day = pool.submit(go_on, busy, rounds, over)
        try:
            until(lambda: rounds or day.done(), seconds=60)
            id = jobs.ask(busy.bridge, "erase", json.dumps({"number": NUMBER}).encode())

            def done() -> bool:
                busy.work(ALL[-1])
                return jobs.state(storage, id)["state"] == "done"

            until(done, seconds=200)
            begun = len(rounds)
            until(lambda: len(rounds) > begun + 1 or day.done(), seconds=60)
        finally:
            over.set()
        sent = day.result()
    busy.again().work(*CONSUMERS)
    assert places_of(storage, NUMBER) == []
    # Nobody can look into a queue for messages that wait: none of them has a number.
    waiting = [one for queue in QUEUES for one in sent.take(queue) if one.delay]
    assert [one.queue for one in waiting if NUMBER in json.dumps(one.message)] == []
    assert len(places_of(storage, OTHER)) > len(rounds)


def requests(busy: Busy, spellings: Spellings) -> int:
    storage = busy.again().bridge.storage
    adapter = counted(storage)
    scanned(storage, spellings)
    return adapter.count


def test_events_of_others_are_not_read(busy: Busy) -> None:
    spellings = Spellings(NUMBER, "LV")
    busy.call(OTHER, OTHER_CALL)
    busy.work(*CONSUMERS)
    few = requests(busy, spellings)
    for number in range(1, 40):
        busy.hear("CallStarted", callID=OTHER_CALL + number * 1000, caller=OTHER, callStarted=spelled(1))
    busy.hear("CallStarted", callID=OTHER_CALL, caller=OTHER, note="a field with 7 signs")
    busy.work(*CONSUMERS)
    assert requests(busy, spellings) == few
