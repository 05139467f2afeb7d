"""Events are sent again to a subscriber who is asked for, under their old ids, and beside its health."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from shared import audit
from shared.deliveries.drain import drain
from shared.errors import Invalid, Unprocessable
from shared.pipeline import replay as module
from shared.pipeline.replay import replay_events, run_range
from shared.subscriptions import subscriptions
from shared.times import iso, now
from shared.values import encode
from tests.shared.deliveries.conftest import environment, listener, sent
from tests.shared.deliveries.subscriber import happen, places, set_state, state, subscription

if TYPE_CHECKING:
    from dev.listener import Listener
    from shared.bridge import Bridge
    from shared.subscriptions import Subscription
    from tests.outbox import Outbox

__all__ = ["environment", "listener", "sent"]


def replay(bridge: Bridge, one: Subscription, **more: Any) -> dict[str, Any]:
    body = {"date_from": iso(now() - timedelta(minutes=1)), **more}
    return replay_events(bridge, one.id, {}, encode(body))


def run_replays(bridge: Bridge, sent: Outbox) -> int:
    parts, messages = 0, [one.message for one in sent.take() if one.message["kind"] == "range"]
    while messages:
        run_range(bridge, messages[0])
        messages = [one.message for one in sent.take() if one.message["kind"] == "range"]
        parts += 1
    return parts


def test_a_replay_is_counted_first_then_posted_once_and_audited(
    bridge: Bridge, sent: Outbox, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_CHUNK", 2)
    one = subscription(bridge, listener.url)
    for _ in range(5):
        happen(bridge, sent)
    happen(bridge, sent, "CallStarted")
    drain(bridge, one.id)
    counted = replay(bridge, one, dry_run=True)
    assert (counted["events"], counted["complete"]) == (5, True)
    sent.take()
    answer = replay(bridge, one)
    assert (answer["subscription"], answer["dry_run"]) == (one.id, False)
    (message,) = [other.message for other in sent.sent if other.message.get("kind") == "range"]
    assert run_replays(bridge, sent) >= 3
    # The message that comes twice posts nothing twice.
    run_range(bridge, message)
    run_replays(bridge, sent)
    drain(bridge, one.id)
    assert len(listener.received) == 10
    assert len({delivery.id for delivery in listener.received}) == 5
    row = audit.listed(bridge.storage, 9)[-1]
    assert (row["who"], row["what"], row["count"]) == ("master key", "replay events", 5)


def test_what_waits_for_a_retry_is_not_replayed_beside_it(bridge: Bridge, sent: Outbox, listener: Listener) -> None:
    one = subscription(bridge, listener.url)
    happen(bridge, sent)
    assert replay(bridge, one, dry_run=True)["events"] == 0
    replay(bridge, one)
    run_replays(bridge, sent)
    drain(bridge, one.id)
    assert len(listener.received) == 1


@pytest.mark.parametrize("status", [200, 500])
def test_a_replay_goes_to_a_disabled_subscriber_and_leaves_its_state_alone(
    status: int, bridge: Bridge, sent: Outbox, listener: Listener
) -> None:
    one = subscription(bridge, listener.url)
    happen(bridge, sent)
    drain(bridge, one.id)
    subscriptions(bridge).change(one.id, lambda known: replace(known, disabled=now()))
    set_state(bridge, one, resume=now() + timedelta(hours=1), rounds=9, failures=9, failing=now())
    before = state(bridge, one)
    replay(bridge, one)
    run_replays(bridge, sent)
    listener.answer = status
    drain(bridge, one.id)
    assert len(listener.received) == 2
    after = state(bridge, one)
    assert (after.rounds, after.failures, after.failing, after.resume) == (9, 9, before.failing, before.resume)
    assert subscriptions(bridge).get(one.id).disabled  # type: ignore[union-attr]
    assert len(places(bridge, one)) == (status != 200)


@pytest.mark.parametrize(
    "span", [{"date_from": 1}, {"date_from": -2, "date_to": -3}], ids=["in the future", "ends before it begins"]
)
def test_a_span_that_holds_nothing_is_refused(span: dict[str, int], bridge: Bridge, sent: Outbox) -> None:
    one = subscription(bridge, "http://127.0.0.1:9/")
    body = {name: iso(now() + timedelta(hours=hours)) for name, hours in span.items()}
    with pytest.raises(Invalid):
        replay_events(bridge, one.id, {}, encode(body))
    assert sent.take() == []
    with pytest.raises(Unprocessable):
        run_range(bridge, {"subscription": one.id, "since": "soon", "until": "later"})
