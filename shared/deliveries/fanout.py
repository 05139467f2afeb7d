"""From an event to the outbox of each subscriber who wants it, and the wake-ups that have an outbox posted."""

from __future__ import annotations

import math
import time
from datetime import timedelta
from typing import TYPE_CHECKING

from shared.deliveries.outbox import Outbox
from shared.once import once
from shared.storage.messages import send
from shared.subscriptions.filter import meets
from shared.subscriptions.store import STALE_SECONDS, subscriptions
from shared.times import iso, now

if TYPE_CHECKING:
    from datetime import datetime

    from shared.bridge import Bridge
    from shared.events.event import ReceivedEvent
    from shared.storage.account import Storage
    from shared.subscriptions.subscription import Subscription

QUEUE = "deliveries"
# The kinds of its messages: an outbox is to be posted, or events from the feed are to be put into one.
WAKE, RANGE = "wake", "range"
# An event may have arrived a little earlier, by another instance's clock, than a subscription that is there before it.
_CLOCKS = timedelta(minutes=1)
# For so long instances may not know of a new subscription; what they do then is in the feed a moment later.
_UNKNOWN = timedelta(seconds=STALE_SECONDS + 3)
_FEED_SECONDS = 3
# A thousand wake-ups would cost more than the thousand deliveries that one of them is enough for.
_A_SECOND = 4


def fan_out(bridge: Bridge, event: ReceivedEvent) -> bool:
    """Put the event into the outbox of everybody who wants it; return True if somebody does."""
    found = [one for one in subscriptions(bridge).all() if wants(bridge, one, event)]
    for one in found:
        Outbox(bridge.storage, one.id).put([(event.received, event.id)])
        # Also where the event has its place already: whoever put it there may have died before this.
        wake(bridge.storage, one.id)
    return bool(found)


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


def wake(storage: Storage, subscription: str) -> None:
    """
    Have an outbox posted soon, after what this thread has written to it.

    Four messages a second are seen at once. A fifth is seen after that second, and serves all that is written in it.
    """
    moment, sent = time.monotonic(), _sent(storage)
    start, count = sent.get(subscription, (-math.inf, 0))
    if moment >= start + 1:
        start, count = moment, 0
    if count <= _A_SECOND:
        _send(storage, subscription, int(count == _A_SECOND))
    sent[subscription] = start, count + 1


def wake_at(storage: Storage, subscription: str, moment: datetime) -> None:
    """Have an outbox posted at a time, in a second at the earliest."""
    _send(storage, subscription, max(math.ceil((moment - now()).total_seconds()), 1))


@once
def _sent(storage: Storage) -> dict[str, tuple[float, int]]:
    """Return, by subscription, the second that this process counts wake-ups in, and their number."""
    return {}


def _send(storage: Storage, subscription: str, delay: int) -> None:
    message = {"kind": WAKE, "id": subscription, "subscription": subscription}
    send(storage, QUEUE, message, name=subscription, delay=delay)
