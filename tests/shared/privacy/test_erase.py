"""Erasing a number: no byte of it is left, nothing of it returns, and a new call is stored as usual."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from itertools import count
from typing import Any

import pytest

from dev.counting import counted
from functions.background import ALL_CONSUMERS
from shared import audit, people
from shared.calls import store as calls
from shared.errors import Invalid
from shared.pbx.resources import resource
from shared.pipeline.queues import CONSUMERS
from shared.polling.poll import poll
from shared.privacy import jobs
from shared.privacy.holdings import Spellings, scanned
from shared.storage.account import QUEUES
from shared.storage.messages import send
from shared.times import now
from tests.outbox import Outbox, outbox
from tests.shared.privacy.conftest import (
    CALL,
    DAY,
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
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "_PAUSE_SECONDS", 0)
    monkeypatch.setattr(people, "MEMORY_SECONDS", 0)


def erased(busy: Busy, number: str = NUMBER) -> dict[str, Any]:
    id = jobs.ask(busy.bridge, "erase", json.dumps({"number": number}).encode())
    busy.work(ALL_CONSUMERS[-1])
    return jobs.state(busy.bridge.storage, id)


def test_nothing_of_an_erased_number_is_left_in_any_byte_and_all_of_others_is(busy: Busy) -> None:
    storage = busy.bridge.storage
    busy.leave(OTHER, RECORDING + 1, VOICEMAIL + 1, OTHER_CALL)
    before = places_of(storage, OTHER)
    busy.leave(NUMBER, RECORDING, VOICEMAIL, CALL)
    assert len({place.split(" ")[0] for place in places_of(storage, NUMBER)}) >= 8
    state = erased(busy, f"+371 {NUMBER[:2]} {NUMBER[2:]}")
    # A message that waited for its next try is seen now, and dropped.
    busy.work()
    assert places_of(storage, NUMBER) == []
    assert len(places_of(storage, OTHER)) >= len(before)
    assert state["state"] == "done"
    kinds = ("calls", "events", "items", "lostCallers", "deadLetters", "messages", "notes", "subscriptions", "audio")
    assert {name for name in kinds if not state["counts"].get(name)} == set()
    assert not list(storage.container("recordings").list_blobs(name_starts_with=f"{DAY}/{RECORDING}."))
    assert list(storage.container("recordings").list_blobs(name_starts_with=f"{DAY}/{RECORDING + 1}."))


def test_a_new_call_of_the_same_person_is_a_new_call(busy: Busy) -> None:
    busy.leave(NUMBER, RECORDING, VOICEMAIL, CALL)
    storage, moment = busy.bridge.storage, now() + timedelta(seconds=1)
    fresh = int(moment.timestamp() * 1_000_000)
    started = moment.strftime("%Y-%m-%dT%H:%M:%S+0000")
    call = {"callID": fresh, "caller": NUMBER, "destination": "67000123", "callStarted": started}
    id = jobs.ask(busy.bridge, "erase", json.dumps({"number": NUMBER}).encode())
    # It waits in a queue while the old ones are erased, and another event of it waits for its next try.
    busy.hear("CallStarted", **call)
    send(storage, "events", {"id": "x", "body": {"data": call}}, name="x", delay=3600)
    busy.work(ALL_CONSUMERS[-1])
    assert jobs.state(storage, id)["state"] == "done"
    assert [place for place in places_of(storage, NUMBER) if place.startswith("payloads")]
    busy.work()
    assert calls.get(storage, fresh) is not None
    assert calls.get(storage, CALL) is None


def test_items_on_the_pbx_s_lists_stay_and_the_receipt_names_them(busy: Busy) -> None:
    busy.pbx.add_contact("Anna", number=NUMBER)
    poll(busy.bridge, resource("contacts"))
    state = erased(busy)
    assert (state["state"], state["listed"]) == ("done", 1)
    assert "delete it there" in state["remaining"]


def test_erasing_what_is_unknown_is_done_at_once_and_audited_without_the_number(busy: Busy) -> None:
    assert erased(busy, "+37120000000")["counts"] == {}
    noted = audit.listed(busy.bridge.storage, 10)
    assert [(row["what"], row["result"]) for row in noted] == [("erase a number", "done"), ("erase a number", "queued")]
    assert "20000000" not in json.dumps(noted)


@pytest.mark.parametrize("body", [b"{}", b'{"number": 27771153}', b'{"number": "12"}', b'{"number": "x", "a": 1}'])
def test_a_body_without_a_number_is_refused(body: bytes, busy: Busy) -> None:
    with pytest.raises(Invalid):
        jobs.ask(busy.bridge, "erase", body)


def test_a_job_that_fails_says_so_and_keeps_no_message(busy: Busy, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise ValueError("27771153")

    monkeypatch.setattr("shared.privacy.jobs.erase", broken)
    state = erased(busy)
    assert (state["state"], state["reason"]) == ("failed", "ValueError: the app's log has the details")
    assert places_of(busy.bridge.storage, NUMBER) == []


def test_a_recording_under_a_legal_hold_refuses_with_the_reason_and_keeps_nothing_else(
    busy: Busy, monkeypatch: pytest.MonkeyPatch
) -> None:
    from azure.core.exceptions import HttpResponseError

    from shared.storage.messages import delete_versions

    def held(container: Any, stem: str) -> int:
        if container.container_name != "recordings":
            return delete_versions(container, stem)
        error = HttpResponseError("BlobImmutableDueToLegalHold")
        error.status_code = 409
        raise error

    monkeypatch.setattr("shared.privacy.holdings.delete_versions", held)
    busy.leave(NUMBER, RECORDING, VOICEMAIL, CALL)
    state = erased(busy)
    assert state["state"] == "failed"
    assert "legal hold" in state["reason"]
    assert state["kept"] == [f"recordings/{DAY}/{RECORDING}"]
    assert places_of(busy.bridge.storage, NUMBER) == []


@pytest.mark.parametrize(
    "text",
    [
        "27771153",
        "+371 27-771-153",
        "0037127771153",
        "(371) 27771153",
        '"\\u0032\\u0037771153"',
        "２７７７１１５３",
        "371\u00a02777\u200b1153",
    ],
)
def test_a_number_is_found_in_any_spelling(text: str) -> None:
    assert Spellings("+37127771153", "LV").are_in(f'{{"caller": {text}}}')


@pytest.mark.parametrize("text", ["127771153", "277711534", "27771154", "+4627771153"])
def test_other_numbers_are_not_taken_for_it(text: str) -> None:
    assert not Spellings("+37127771153", "LV").are_in(text)
    assert not Spellings("+4930123456", "LV").are_in("30123456")


def go_on(busy: Busy, rounds: list[int], over: threading.Event) -> Outbox:
    """Run another process until it is `over`: other callers, late repeats, polls, and their consequences."""
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


def test_nothing_of_a_number_is_left_although_the_day_goes_on(busy: Busy, monkeypatch: pytest.MonkeyPatch) -> None:
    # As in Azure, a look comes long after the tombstone is known and what was under way has ended.
    monkeypatch.setattr(jobs, "_PAUSE_SECONDS", 3)
    monkeypatch.setattr(people, "MEMORY_SECONDS", 0.2)
    storage, rounds, over = busy.bridge.storage, list[int](), threading.Event()
    busy.leave(OTHER, RECORDING + 1, VOICEMAIL + 1, OTHER_CALL)
    busy.leave(NUMBER, RECORDING, VOICEMAIL, CALL)
    with ThreadPoolExecutor(1) as pool:
        day = pool.submit(go_on, busy, rounds, over)
        try:
            until(lambda: rounds or day.done(), seconds=60)
            id = jobs.ask(busy.bridge, "erase", json.dumps({"number": NUMBER}).encode())

            def done() -> bool:
                busy.work(ALL_CONSUMERS[-1])
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
    scanned(storage, spellings, now())
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
