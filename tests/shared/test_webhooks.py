"""Our webhooks at a simulated PBX with its limit of 20: made once, replaced in order, and nobody else's touched."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from dev.simulator import Simulator
from shared import health
from shared.api.status import status
from shared.bridge import Bridge
from shared.errors import ConfigError, Conflict, PbxRefused, StorageUnavailable
from shared.events.table import EVENTS
from shared.settings import Settings
from shared.times import now
from shared.webhooks import HELD, INTENDED, ORPHANED, SYNC, TABLE, alone, delete_all, read, sync, sync_on_schedule
from tests.breaking import break_requests, break_write
from tests.dying import is_killed
from tests.polls import bridge_to
from tests.shared.test_health import event

NAMES = sorted(event.name for event in EVENTS if event.source == "pbx")
ADDRESS = {"public_base_url": "https://bridge.example/", "pbx_webhook_key": "key/1=="}
FOREIGN = "https://somebody.example/hook"
OTHERS = [HELD] * (len(NAMES) - 1)


@pytest.fixture
def start(pbx: Simulator, settings: Settings) -> Callable[..., Bridge]:
    return lambda **changes: bridge_to(pbx, settings, **{**ADDRESS, **changes})


@pytest.fixture
def bridge(start: Callable[..., Bridge]) -> Bridge:
    return start()


def registered(pbx: Simulator) -> list[str]:
    return sorted(row.event for row in pbx.webhooks if row.endpoint != FOREIGN)


def states(bridge: Bridge) -> list[str]:
    return sorted(row.state for row in read(bridge.storage)[0])


def expire(bridge: Bridge) -> None:
    """The lease of a process that died is free after some minutes: have them pass."""
    table = bridge.storage.table(TABLE)
    for row in table.query_entities(f"PartitionKey eq '{SYNC}'"):
        table.update_entity({**row, "until": now() - timedelta(seconds=1)})


@pytest.mark.parametrize("ways", [("absolute", "none"), ("relative", "none"), ("none", "number"), ("none", "object")])
def test_webhooks_are_made_once_and_found_again(ways: tuple[str, str], pbx: Simulator, bridge: Bridge) -> None:
    pbx.options.webhook_location, pbx.options.webhook_data = ways
    assert sync(bridge).created == [event.name for event in EVENTS if event.source == "pbx"]
    report = sync(bridge)
    assert (report.created, report.deleted, report.problem) == ([], [], None)
    assert registered(pbx) == NAMES
    assert sorted(row["id"] for row in report.held) == sorted(str(row.id) for row in pbx.webhooks)
    (target,) = [row.endpoint for row in pbx.webhooks if row.event == "CallStarted"]
    assert target == "https://bridge.example/api/events/CallStarted?code=key%2F1%3D%3D"


def test_no_key_is_kept_shown_or_logged(bridge: Bridge, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="shared")
    report = sync(bridge)
    rows = [dict(row) for row in bridge.storage.table(TABLE).list_entities()]
    for text in (str(rows), str(report.to_dict()), caplog.text):
        assert "key/1" not in text
        assert "key%2F1" not in text


@pytest.mark.parametrize(
    "changes", [{"public_base_url": "https://new.example/"}, {"pbx_webhook_key": "other"}], ids=["address", "key"]
)
def test_a_changed_address_or_key_makes_the_new_ones_before_the_old_ones_go(
    changes: dict[str, str], pbx: Simulator, bridge: Bridge, start: Callable[..., Bridge]
) -> None:
    sync(bridge)
    old = {row.id for row in pbx.webhooks}
    pbx.requests.clear()
    report = sync(start(**changes))
    assert registered(pbx) == NAMES
    assert not old & {row.id for row in pbx.webhooks}
    assert [seen.method for seen in pbx.requests] == ["POST", "DELETE"] * len(NAMES)
    assert (sorted(report.created), sorted(report.deleted)) == (NAMES, NAMES)


def test_events_no_longer_wanted_are_deleted_and_others_webhooks_never(
    pbx: Simulator, bridge: Bridge, start: Callable[..., Bridge]
) -> None:
    pbx.hooks.subscribe("CallStarted", FOREIGN)
    sync(bridge)
    sync(start(pbx_events=("callcompletedevent", "CallRecorded")))
    assert registered(pbx) == ["CallCompleted", "CallRecorded"]
    # A webhook that is already gone at the PBX is no problem.
    pbx.hooks.unsubscribe(next(row.id for row in pbx.webhooks if row.endpoint != FOREIGN))
    report = delete_all(bridge)
    assert (registered(pbx), report.problem) == ([], None)
    assert [row.endpoint for row in pbx.webhooks] == [FOREIGN]
    assert (report.held, states(bridge)) == ([], [])


def test_at_the_limit_one_clear_error_says_where_to_look_and_what_we_hold(
    pbx: Simulator, bridge: Bridge, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(17):
        pbx.hooks.subscribe("CallStarted", FOREIGN)
    report = sync(bridge)
    held = sorted(row["event"] for row in report.held)
    assert registered(pbx) == held
    assert len(held) == 3
    assert report.problem is not None
    assert "API, WEB HOOKS" in report.problem
    assert len([line for line in caplog.records if line.levelno == logging.ERROR]) == 1
    assert not report.maybe_orphaned
    with pytest.raises(PbxRefused, match="WEB HOOKS"):
        sync_on_schedule(bridge)


def test_a_replacement_that_does_not_fit_leaves_the_old_one_working(
    pbx: Simulator, bridge: Bridge, start: Callable[..., Bridge]
) -> None:
    sync(bridge)
    for _ in range(10):
        pbx.hooks.subscribe("CallStarted", FOREIGN)
    report = sync(start(pbx_webhook_key="other"))
    assert report.problem is not None
    assert registered(pbx) == NAMES


def test_an_id_that_the_pbx_left_out_is_kept_as_unknown_and_never_guessed(
    pbx: Simulator, bridge: Bridge, start: Callable[..., Bridge]
) -> None:
    pbx.options.webhook_location = pbx.options.webhook_data = "none"
    assert {row["id"] for row in sync(bridge).held} == {"unknown"}
    assert not sync(bridge).created
    report = delete_all(bridge)
    assert registered(pbx) == NAMES
    assert sorted(row["event"] for row in report.maybe_orphaned) == NAMES


@pytest.mark.parametrize(
    ("fault", "left"),
    [
        ({"kind": "status", "status": 503}, [*OTHERS, ORPHANED]),
        ({"kind": "reset", "before": False}, [*OTHERS, ORPHANED]),
        ({"kind": "html", "status": 200}, [*OTHERS, ORPHANED]),
        ({"kind": "status", "status": 429}, []),
        ({"kind": "status", "status": 403}, []),
        ({"kind": "status", "status": 422}, OTHERS),
    ],
    ids=["503", "reset", "html", "429", "403", "422"],
)
def test_webhooks_with_a_lost_answer_are_shown_as_maybe_orphaned(
    fault: dict[str, Any], left: list[str], pbx: Simulator, bridge: Bridge
) -> None:
    pbx.faults.add(**fault, match="CallStarted", times=1)
    report = sync(bridge)
    assert report.problem
    assert states(bridge) == left
    assert len(sync(bridge).held) == len(NAMES)


def test_webhooks_with_lost_answers_are_not_made_for_ever(
    pbx: Simulator, bridge: Bridge, caplog: pytest.LogCaptureFixture
) -> None:
    pbx.faults.add("reset", match="CallStarted", before=False)
    for _ in range(8):
        report = sync(bridge)
    assert len(pbx.webhooks) == len(NAMES) - 1 + 4
    assert "forget_orphans=true" in (report.problem or "")
    assert "forget_orphans=true" in caplog.text
    pbx.faults.clear()
    for row in [row for row in pbx.webhooks if row.event == "CallStarted"]:
        pbx.hooks.unsubscribe(row.id)
    report = sync(bridge, forget_orphans=True)
    assert (len(report.held), report.maybe_orphaned, report.problem) == (len(NAMES), [], None)
    assert registered(pbx) == NAMES


def test_webhooks_without_known_ids_are_all_replaced_for_another_key(
    pbx: Simulator, start: Callable[..., Bridge]
) -> None:
    pbx.options.webhook_location = pbx.options.webhook_data = "none"
    pbx.options.webhook_cap = 2 * len(NAMES)
    sync(start())
    report = sync(start(pbx_webhook_key="other"))
    assert (sorted(report.created), report.problem) == (NAMES, None)
    assert len(report.maybe_orphaned) == len(NAMES)


@pytest.mark.parametrize("after", ["pbx_webhook_key", "pbx_events"])
def test_a_key_that_may_not_delete_webhooks_still_gets_the_new_ones_made(
    after: str, pbx: Simulator, start: Callable[..., Bridge]
) -> None:
    sync(start(pbx_events=("CallStarted", "CallConnected")))
    pbx.faults.add("status", match="DeleteWebhookByID", status=403)
    changes = {"pbx_webhook_key": "other"} if after == "pbx_webhook_key" else {"pbx_events": ("CallCompleted",)}
    report = sync(start(**changes))
    assert "DELETE webhooks/{webhook_id}" in (report.problem or "")
    made = NAMES if after == "pbx_webhook_key" else ["CallCompleted"]
    assert sorted(report.created) == made


def test_a_pbx_that_fails_at_each_webhook_is_not_asked_for_all_of_them(pbx: Simulator, bridge: Bridge) -> None:
    pbx.faults.add("status", status=500)
    assert sync(bridge).problem
    assert states(bridge) == [ORPHANED] * 4


def test_a_pbx_that_was_never_reached_has_made_nothing(start: Callable[..., Bridge]) -> None:
    with Simulator("test-key") as gone:
        pass
    bridge = start()
    bridge = replace(bridge, pbx=bridge_to(gone, bridge.settings).pbx)
    assert "no connection" in (sync(bridge).problem or "")
    assert not states(bridge)


@pytest.mark.parametrize("status", [422, 500])
def test_one_webhook_that_the_pbx_will_not_delete_keeps_none_of_the_others(
    status: int, pbx: Simulator, bridge: Bridge
) -> None:
    sync(bridge)
    pbx.faults.add("status", match="DeleteWebhookByID", status=status, times=1)
    report = delete_all(bridge)
    assert (len(report.held), len(pbx.webhooks)) == (1, 1)
    assert report.problem
    sync_on_schedule(bridge)
    assert not pbx.webhooks


def test_once_deleted_they_stay_away_until_somebody_asks_for_them(pbx: Simulator, start: Callable[..., Bridge]) -> None:
    sync(start())
    ended = delete_all(start()).ended_since
    assert ended
    for bridge in (start(), start(pbx_webhook_key="other"), start(public_base_url="")):
        sync_on_schedule(bridge)
        assert status(bridge)["webhooksEndedSince"] == ended
    assert not pbx.webhooks
    assert delete_all(start()).ended_since == ended
    assert sync(start()).to_dict()["endedSince"] is None
    assert registered(pbx) == NAMES
    assert status(start())["webhooksEndedSince"] is None


@pytest.mark.slow
@pytest.mark.parametrize("after", [False, True], ids=["before the request", "after it took effect"])
def test_deleting_that_was_killed_at_any_step_is_finished_by_the_timer(
    after: bool, pbx: Simulator, start: Callable[..., Bridge]
) -> None:
    sync(start(pbx_events=("CallStarted",)))
    doomed = start()
    for step in itertools.count(1):
        if not is_killed(doomed.storage, step, delete_all, doomed, after=after):
            break
        expire(doomed)
        if read(start().storage)[1]:
            sync_on_schedule(start())
            assert not pbx.webhooks
            sync(start(pbx_events=("CallStarted",)))
        assert registered(pbx) == ["CallStarted"]
    assert step > 5


@pytest.mark.slow
def test_an_explicit_sync_waits_for_one_that_runs(pbx: Simulator, start: Callable[..., Bridge]) -> None:
    bridge = start()
    bridge.storage.ready()
    with ThreadPoolExecutor(1) as pool:
        with alone(bridge):
            waiting = pool.submit(sync, start(), patience=10)
            sync_on_schedule(start())
            assert not pbx.requests
        assert len(waiting.result().held) == len(NAMES)


@pytest.mark.slow
@pytest.mark.parametrize("after", [False, True], ids=["before the request", "after it took effect"])
def test_a_sync_killed_at_any_step_eats_no_slot_in_silence(
    after: bool, pbx: Simulator, start: Callable[..., Bridge]
) -> None:
    calm = start(pbx_events=("CallStarted",))
    calm.storage.ready()
    for step in itertools.count(1):
        doomed = start(pbx_events=("CallStarted",), pbx_webhook_key=f"key {step}")
        if not is_killed(doomed.storage, step, sync, doomed, after=after):
            break
        expire(calm)
        sync(calm)
        known = {row.id for row in read(calm.storage)[0] if row.state == HELD}
        unknown = [row for row in pbx.webhooks if str(row.id) not in known]
        assert len(unknown) <= states(calm).count(ORPHANED)
        delete_all(calm)
        for row in pbx.webhooks:
            pbx.hooks.unsubscribe(row.id)
        for row in read(calm.storage)[0]:
            calm.storage.table(TABLE).delete_entity("webhook", row.key)
    assert step > 5


@pytest.mark.slow
@pytest.mark.parametrize("after", [False, True], ids=["before the request", "after it took effect"])
def test_a_lost_answer_of_any_write_leaves_nothing_behind(
    after: bool, pbx: Simulator, start: Callable[..., Bridge]
) -> None:
    events = ("CallStarted", "CallCompleted")
    start().storage.ready()
    for number in itertools.count(1):
        bridge = start(pbx_events=events, pbx_webhook_key=f"key {number}")
        broken = break_write(bridge.storage, number, after=after)
        report = sync(bridge)
        if broken.left:
            break
        assert (sorted(report.created), report.maybe_orphaned, report.problem) == (sorted(events), [], None)
        assert sorted(row["id"] for row in report.held) == sorted(str(row.id) for row in pbx.webhooks)
        assert registered(pbx) == sorted(events)
        if number % 2:
            ending = start()
            break_write(ending.storage, number // 2 + 1, after=after)
            assert (delete_all(ending).problem, pbx.webhooks, states(ending)) == (None, [], [])
    assert number > 8


@pytest.mark.slow
@pytest.mark.parametrize("after", [False, True], ids=["before the request", "after it took effect"])
def test_a_webhook_that_was_never_asked_for_is_not_maybe_orphaned(
    after: bool, pbx: Simulator, start: Callable[..., Bridge]
) -> None:
    for _ in range(5):
        bridge = start()
        bridge.storage.ready()
        break_requests(bridge.storage, lambda one: INTENDED in str(one.body), 3, after=after)
        with pytest.raises(StorageUnavailable):
            sync(bridge)
        assert (pbx.webhooks, states(bridge)) == ([], [])
    assert len(sync(start()).held) == len(NAMES)


def test_syncs_at_the_same_time_do_not_double_the_slots(pbx: Simulator, start: Callable[..., Bridge]) -> None:
    bridges = [start() for _ in range(4)]
    bridges[0].storage.ready()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(sync_on_schedule, bridges))
    assert registered(pbx) == NAMES
    with alone(bridges[0]), pytest.raises(Conflict):
        sync(bridges[1])


def test_a_sync_that_was_taken_over_changes_nothing_more(pbx: Simulator, start: Callable[..., Bridge]) -> None:
    slow = start()
    with pytest.raises(Conflict), alone(slow) as one:
        expire(slow)
        sync(start())
        one.renew()
    assert registered(pbx) == NAMES


@pytest.mark.parametrize("name", ["public_base_url", "pbx_webhook_key"])
def test_a_missing_setting_is_named_with_what_to_set(name: str, pbx: Simulator, start: Callable[..., Bridge]) -> None:
    with pytest.raises(ConfigError, match=f"{name.upper()}: missing. Set it to"):
        sync(start(**{name: ""}))
    assert not pbx.requests


def test_a_type_whose_webhooks_are_lost_is_logged_and_shown(bridge: Bridge, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(3):
        health.count_event(bridge.storage, event(event="CallRecorded", origin="reconciled", at=now()), repeat=False)
        health.count_event(bridge.storage, event(event="CallConnected", at=now()), repeat=False)
    health.flush(bridge.storage)
    sync_on_schedule(bridge)
    assert [line for line in caplog.messages if "webhook_silent" in line] == [
        "signal webhook_silent event=CallRecorded lost=3"
    ]
    assert [line for line in status(bridge)["problems"] if "CallRecorded" in line]


def test_a_missing_webhook_is_a_problem_that_quotes_the_pbx(pbx: Simulator, bridge: Bridge) -> None:
    pbx.faults.add("status", match="CallStarted", status=409)
    with pytest.raises(PbxRefused):
        sync_on_schedule(bridge)
    (problem,) = [line for line in status(bridge)["problems"] if "CallStarted" in line]
    assert "POST /api/ops/webhooks/sync" in problem


@pytest.mark.parametrize("address", ["http://127.0.0.1:7071/", "https://192.168.1.5/", "https://laptop/"])
def test_no_webhook_is_registered_for_an_address_that_the_pbx_cannot_reach(
    address: str, pbx: Simulator, start: Callable[..., Bridge]
) -> None:
    bridge = start(public_base_url=address)
    assert sync(bridge).problem is None
    far = replace(bridge, settings=replace(bridge.settings, pbx_base_url="https://pbx.example/api/v2/"))
    pbx.requests.clear()
    report = sync(far)
    assert "PUBLIC_BASE_URL" in (report.problem or "")
    assert [seen.method for seen in pbx.requests if seen.method == "POST"] == []
    sync_on_schedule(far)
    assert [line for line in status(far)["problems"] if "devtunnel" in line]


def test_storage_out_of_reach_asks_the_pbx_for_nothing(pbx: Simulator, start: Callable[..., Bridge]) -> None:
    from shared.storage.account import Storage

    bridge = start()
    nowhere = "DefaultEndpointsProtocol=http;AccountName=a;AccountKey=aaaa;TableEndpoint=http://127.0.0.1:9/a;"
    gone = replace(bridge.settings.storage, connection_string=nowhere)
    with pytest.raises(StorageUnavailable):
        sync(replace(bridge, storage=Storage(gone)))
    assert not pbx.requests
