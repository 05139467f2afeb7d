"""Changes of a subscription beside its deliveries: it is tried again, disabled, recovers, or ends."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from shared.deliveries.fanout import wake, wake_at
from shared.deliveries.outbox import EPOCH, Outbox
from shared.events.receive import submit
from shared.subscriptions.endpoints import host_of
from shared.subscriptions.store import subscriptions
from shared.times import iso, now

if TYPE_CHECKING:
    from shared.bridge import Bridge
    from shared.deliveries.outbox import State
    from shared.subscriptions.subscription import Subscription

logger = logging.getLogger(__name__)

# All instances know by then that a subscription has ended: nothing is put into its outbox any more.
_END_TAKES = timedelta(seconds=10)


def end(bridge: Bridge, id: str, *, answer: str = "") -> bool:
    """
    End a subscription and have its outbox dropped; False where there was none.

    `answer` is the status by which its subscriber has ended it: then it says so. The message that has the outbox
    dropped is sent first, so that nothing is left where the process dies in between.
    """
    known = subscriptions(bridge)
    one = known.get(id)
    if one is None and Outbox(bridge.storage, id).is_empty():
        # Anybody may ask, with any id: that costs no message.
        return False
    wake_at(bridge.storage, id, now() + _END_TAKES)
    ended = known.end(id, answer=answer)
    if ended and one and answer:
        logger.warning("signal subscription_ended subscription=%s event=%s answer=%s", id, one.event, answer)
        _submit(bridge, "SubscriptionEnded", one, answer=answer)
    return ended


def restore(bridge: Bridge, one: Subscription) -> None:
    """Try a subscription that was asked for again at once, and count the days of failures from now on."""

    def restored(state: State) -> None:
        state.streak = state.rounds = state.failures = 0
        state.resume, state.failing = EPOCH, None

    Outbox(bridge.storage, one.id).change(restored)
    wake(bridge.storage, one.id)


def try_now(bridge: Bridge, one: Subscription) -> int:
    """Try everything that waits for a time; return the number of events that had one of their own."""

    def hurried(state: State) -> None:
        state.resume = EPOCH

    outbox = Outbox(bridge.storage, one.id)
    count = outbox.hurry()
    outbox.change(hurried)
    wake(bridge.storage, one.id)
    return count


def disable(bridge: Bridge, one: Subscription) -> None:
    """Let a subscription have no more events, and say so."""
    if subscriptions(bridge).change(
        one.id, lambda known: replace(known, disabled=now(), trying=False) if known.active else None
    ):
        logger.warning("signal subscription_disabled subscription=%s event=%s", one.id, one.event)
        _submit(bridge, "SubscriptionDisabled", one)


def recover(bridge: Bridge, one: Subscription) -> None:
    """Let a disabled subscription have events again, and say so."""
    if subscriptions(bridge).change(
        one.id, lambda known: replace(known, disabled=None, trying=False) if known.disabled else None
    ):
        logger.info("subscription %s works again", one.id)
        _submit(bridge, "SubscriptionRecovered", one)


def _submit(bridge: Bridge, event: str, one: Subscription, **fields: str) -> None:
    moment = now()
    fields |= {"host": host_of(one.endpoint), "since": iso(moment)} | ({"name": one.name} if one.name else {})
    data = {"subscriptionID": one.id, "event": one.event, **fields}
    submit(bridge.storage, bridge.settings, event, data, origin="bridge", received=moment)
