"""The status lists problems first, and stays short."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from shared import health
from shared.api import status as page
from shared.api.status import READS, status
from shared.bridge import Bridge
from shared.errors import ConfigError, PbxUnreachable, StorageUnavailable
from shared.polling.run import Checkpoint, save_checkpoint
from shared.storage.messages import dead_letter
from shared.times import now
from shared.webhooks import alone

HEALTH, WEBHOOKS = (next(names for names in READS if name in names) for name in ("health", "webhooks"))


@pytest.fixture(autouse=True)
def tables(bridge: Bridge) -> None:
    bridge.storage.ready()


def test_all_is_well_where_nothing_is_wrong(bridge: Bridge) -> None:
    shown = status(bridge)
    assert shown["problems"] == []
    parts = [name for names in READS for name in names]
    assert list(shown) == ["problems", *parts]


def test_problems_are_listed_first_in_words(bridge: Bridge) -> None:
    old = now() - timedelta(hours=2)
    failed = {"last_success": old, "last_error": "PbxThrottled: GetCallHistory: x"}
    save_checkpoint(bridge.storage, Checkpoint(resource="call_history"), **failed)
    save_checkpoint(bridge.storage, Checkpoint(resource="contacts"), last_success=old)
    save_checkpoint(bridge.storage, Checkpoint(resource="groups"), last_success=now())
    with alone(bridge) as one:
        one.renew(ended="2026-01-01T00:00:00Z")
    for kind in ("event", "media", "media", "payload"):
        dead_letter(bridge.storage, kind=kind, id=f"{kind}-{now()}", reason="a test", body=b"{}")
    problems = status(bridge)["problems"]
    assert problems == [
        "All webhooks were deleted at 2026-01-01T00:00:00Z: POST /api/ops/webhooks/sync registers them again.",
        "Polling call_history last succeeded 120 minutes ago: the PBX asks for fewer calls.",
        "Polling contacts last succeeded 120 minutes ago: it has not run since then.",
        "Dead letters of kind event: 1. POST /api/ops/deadletters/replay starts their processing again.",
        "Dead letters of kind media: 2. POST /api/ops/deadletters/replay asks for their audio again.",
        "Dead letters of kind payload: 1. They cannot be tried again; read what they contain.",
    ]


def test_a_poll_is_late_by_its_own_schedule(bridge: Bridge, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, minutes in (("contacts", 64), ("groups", 186)):
        monkeypatch.setenv(f"POLL_{name.upper()}_SCHEDULE", "0 0 * * * *")
        last = now() - timedelta(minutes=minutes)
        save_checkpoint(bridge.storage, Checkpoint(resource=name), last_success=last)
    (problem,) = status(bridge)["problems"]
    assert problem == "Polling groups last succeeded 186 minutes ago: it has not run since then."


def test_a_part_that_cannot_be_shown_hides_no_other(bridge: Bridge, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> Any:
        raise ValueError("+37127771153")

    monkeypatch.setattr(page, "READS", {**READS, WEBHOOKS: broken})
    shown = status(bridge)
    assert shown["webhooks"] is None
    assert shown["problems"] == ["webhooks cannot be shown (ValueError): the app's log has the details."]
    assert shown["budget"]["limit"] == 100


def test_a_part_that_cannot_be_read_in_time_is_named_and_hides_no_other(
    bridge: Bridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: Any) -> Any:
        raise StorageUnavailable("away")

    ended = threading.Event()
    monkeypatch.setattr(page, "_SECONDS", 1.0)
    monkeypatch.setattr(page, "READS", {**READS, HEALTH: away, WEBHOOKS: lambda *_: ended.wait(30)})
    began = time.monotonic()
    shown = status(bridge)
    ended.set()
    assert time.monotonic() - began < 5
    assert (shown["health"], shown["webhooks"], shown["budget"]["limit"]) == (None, None, 100)
    assert [line.partition(" ")[0] for line in shown["problems"]] == ["health", "webhooks"]
    monkeypatch.setattr(page, "READS", dict.fromkeys(READS, away))
    with pytest.raises(StorageUnavailable):
        status(bridge)


def test_a_missing_key_is_named_first_and_the_rest_is_shown(bridge: Bridge) -> None:
    shown = status(replace(bridge, settings=replace(bridge.settings, pbx_api_key="")))
    assert shown["problems"][0].startswith("PBX_API_KEY is missing")
    assert shown["budget"]["limit"] == 100


def test_problems_with_webhooks_quote_the_pbx(bridge: Bridge) -> None:
    outside = replace(bridge, settings=replace(bridge.settings, public_base_url="https://app.example/"))
    with alone(bridge) as one:
        one.renew(problem="Subscribe: no more than 20.")
    (problem,) = status(outside)["problems"]
    assert problem.endswith(": the answer was “Subscribe: no more than 20”. POST /api/ops/webhooks/sync tries again.")


def test_the_reason_of_a_failed_timer_is_in_words(bridge: Bridge) -> None:
    for name, error in (("A", ConfigError("x.")), ("B", PbxUnreachable("Get", "x")), ("C", ZeroDivisionError("x"))):
        with pytest.raises(type(error)), health.watched(bridge.storage, name):
            raise error
    said = [line.partition("Z: ")[2] for line in status(bridge)["problems"]]
    assert said == [
        "a setting is wrong: x. It runs again on its schedule.",
        "no connection to the PBX; check the network and PBX_BASE_URL. It runs again on its schedule.",
        "ZeroDivisionError; the app's log has the details. It runs again on its schedule.",
    ]
