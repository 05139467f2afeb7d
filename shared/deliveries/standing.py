"""How a subscription stands: ended, disabled after days of failures alone, working again."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from shared.deliveries.outbox import Outbox
from shared.deliveries.wakes import wakes
from shared.events.receive import submit
from shared.subscriptions.endpoints import host_of
from shared.subscriptions.store import subscriptions
from shared.times import iso, now

if TYPE_CHECKING:
    from datetime import datetime

    from shared.bridge import Bridge
    from shared.subscriptions.subscription import Subscription

logger = logging.getLogger(__name__)

# By then a subscription is ended, or was not.
_END_TAKES = timedelta(seconds=30)


def end(bridge: Bridge, id: str) -> bool:
    """
    End a subscription; False when there was none. What is in its outbox is dropped, also where it ended before.

    The message that has it dropped is sent twice: who dies after the end, or cannot reach the queue then, has sent the
    first one.
    """
    known, sender = subscriptions(bridge), wakes(bridge.storage)
    if known.get(id) is None and Outbox(bridge.storage, id).is_empty():
        # Anybody may ask, with any id: that costs no message.
        return False
    sender.wake_at(id, now() + _END_TAKES)
    ended = known.end(id)
    sender.wake(id)
    return ended


def restore(bridge: Bridge, one: Subscription) -> None:
    """Try a subscription that was asked for again at once, and count the days of failures from now on."""
    Outbox(bridge.storage, one.id).restore()
    wakes(bridge.storage).wake(one.id)


def disable(bridge: Bridge, one: Subscription, moment: datetime) -> None:
    """Let a subscription have no more events, and say so."""
    if subscriptions(bridge).change(
        one.id, lambda known: replace(known, disabled=moment, trying=False) if known.active else None
    ):
        logger.warning("signal subscription_disabled subscription=%s event=%s", one.id, one.event)
        _submit(bridge, "SubscriptionDisabled", one, moment)


def recover(bridge: Bridge, one: Subscription) -> None:
    """Let a disabled subscription have events again, and say so."""
    if subscriptions(bridge).change(
        one.id, lambda known: replace(known, disabled=None, trying=False) if known.disabled else None
    ):
        logger.info("subscription %s works again", one.id)
        _submit(bridge, "SubscriptionRecovered", one, now())


def wake_waiting(bridge: Bridge) -> None:
    """
    Wake the drainers of outboxes whose time has come, for those whose message got lost.

    What is sealed by an older key is sealed by the newest one on the way.
    """
    known = subscriptions(bridge)
    known.reseal()
    for one in known.all():
        moment = now()
        # The state itself is one of the two.
        head = Outbox(bridge.storage, one.id).read(moment, most=2)
        if head.places and head.state.resume <= moment and not head.state.is_held(moment):
            wakes(bridge.storage).wake(one.id)


def _submit(bridge: Bridge, event: str, one: Subscription, moment: datetime) -> None:
    data = {"subscriptionID": one.id, "event": one.event, "host": host_of(one.endpoint), "since": iso(moment)}
    submit(bridge.storage, bridge.settings, event, data, origin="bridge", received=moment)
