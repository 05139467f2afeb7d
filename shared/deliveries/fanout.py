"""The events that a subscriber is to have: put into its outbox, hurried, and dropped with the subscription."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import TYPE_CHECKING

from shared.deliveries.outbox import EPOCH, QUEUE, RANGE, Outbox
from shared.storage.messages import send
from shared.subscriptions.filter import meets
from shared.subscriptions.store import STALE_SECONDS, subscriptions
from shared.times import iso, now

if TYPE_CHECKING:
    from datetime import datetime

    from shared.bridge import Bridge
    from shared.deliveries.outbox import State
    from shared.events.event import ReceivedEvent
    from shared.storage.account import Storage
    from shared.subscriptions.subscription import Subscription

# An event may have arrived a little earlier, by another instance's clock, than a subscription that is there before it.
_CLOCKS = timedelta(minutes=1)
# For so long instances may not know of a new subscription; what they do then is in the feed a moment later.
_UNKNOWN = timedelta(seconds=STALE_SECONDS + 3)
_FEED_SECONDS = 3
# All instances know by then that a subscription has ended: nothing is put into its outbox any more.
_END_TAKES = timedelta(seconds=10)


def fan_out(bridge: Bridge, event: ReceivedEvent) -> None:
    """Put the event into the outbox of everybody who wants it."""
    for one in subscriptions(bridge).all():
        if wants(bridge, one, event):
            outbox = Outbox(bridge.storage, one.id)
            outbox.put([(event.received, event.id)])
            # Also where the event has its place already: whoever put it there may have died before this.
            outbox.wake()


def wants(bridge: Bridge, one: Subscription, event: ReceivedEvent) -> bool:
    """Return True if the event is one of an active subscription's, and not older than that."""
    return one.active and event.received >= one.created - _CLOCKS and is_for(bridge, one, event)


def is_for(bridge: Bridge, one: Subscription, event: ReceivedEvent) -> bool:
    """Return True if the event is of the subscription's type and meets its filter."""
    return one.event == event.type.name and meets(event, one.wanted, bridge.settings.default_region)


def catch_up(bridge: Bridge, one: Subscription) -> None:
    """Have a new subscription given what arrives before all instances know of it, from the feed."""
    delay = math.ceil(_UNKNOWN.total_seconds()) + _FEED_SECONDS
    send_range(bridge.storage, one.id, one.created, one.created + _UNKNOWN, delay=delay)


def send_range(
    storage: Storage, subscription: str, since: datetime, until: datetime, *, delay: int = 0, **more: str
) -> None:
    """Have what arrived between two times put into an outbox; `more` is for the replay that does it."""
    span = {"since": iso(since), "until": iso(until), **more}
    message = {"kind": RANGE, "id": f"{subscription}-range", "subscription": subscription, **span}
    send(storage, QUEUE, message, name=subscription, delay=delay)


def try_now(bridge: Bridge, one: Subscription) -> int:
    """
    Post what waits for a time at once, and count failures from now on.

    Returns the number of events that had a time of their own.
    """

    def afresh(state: State) -> None:
        state.streak = state.rounds = state.failures = 0
        state.resume, state.failing = EPOCH, None

    outbox = Outbox(bridge.storage, one.id)
    count = outbox.hurry()
    outbox.change(afresh)
    outbox.wake()
    return count


def end(bridge: Bridge, id: str, *, answer: str = "") -> bool:
    """
    End a subscription and have its outbox dropped; False where there is none.

    `answer` is the status by which its subscriber has ended it. The message that has the outbox dropped is sent first,
    so that nothing is left where the process dies in between.
    """
    known = subscriptions(bridge)
    if known.get(id) is None:
        # Anybody may ask, with any id: that costs no message.
        return False
    Outbox(bridge.storage, id).wake(now() + _END_TAKES)
    return known.end(id, answer=answer)
