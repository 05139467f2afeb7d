"""From an event to the outbox of each subscriber who wants it, and the changes of a subscription and its outbox."""

from __future__ import annotations

import logging
import math
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from shared.deliveries.outbox import QUEUE, RANGE, Outbox
from shared.events.event import submit
from shared.storage.messages import send
from shared.subscriptions.store import STALE_SECONDS, subscriptions
from shared.subscriptions.subscription import host_of, meets
from shared.times import iso, now

if TYPE_CHECKING:
    from datetime import datetime

    from shared.bridge import Bridge
    from shared.events.event import ReceivedEvent
    from shared.storage.account import Storage
    from shared.subscriptions.subscription import Subscription

logger = logging.getLogger(__name__)

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


def wants(bridge: Bridge, one: Subscription, event: ReceivedEvent, *, is_replay: bool = False) -> bool:
    """
    Return True if the event is of the subscription's type and meets its filter.

    Without a replay, it is also not older than the subscription, and that is not disabled.
    """
    if one.event != event.type.name or not meets(event, one.wanted, bridge.settings.default_region):
        return False
    return is_replay or (not one.disabled and event.received >= one.created - _CLOCKS)


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
    """Post at once what waits for a time, also its subscriber's; return the number of events that had their own."""
    outbox = Outbox(bridge.storage, one.id)
    count = outbox.hurry()
    outbox.wake()
    return count


def set_disabled(bridge: Bridge, one: Subscription, disabled: bool) -> None:
    """Let a subscription have no more events, or have them again, and announce that unless it was so before."""

    def changed(known: Subscription) -> Subscription | None:
        return replace(known, disabled=now() if disabled else None) if bool(known.disabled) != disabled else None

    if subscriptions(bridge).change(one.id, changed):
        _announce(bridge, "disabled" if disabled else "recovered", one)


def end(bridge: Bridge, id: str, *, answer: str = "") -> None:
    """
    End a subscription and have its outbox dropped; do nothing where there is none.

    `answer` is the status by which its subscriber has ended it: that is announced. The message that has the outbox
    dropped is sent first, so that nothing is left where the process dies in between.
    """
    known = subscriptions(bridge)
    one = known.get(id)
    if one is None:
        # Anybody may ask, with any id: that costs no message.
        return
    Outbox(bridge.storage, id).wake(now() + _END_TAKES)
    if known.end(id, answer=answer) and answer:
        _announce(bridge, "ended", one, answer=answer)


def _announce(bridge: Bridge, change: str, one: Subscription, **fields: str) -> None:
    """Log a subscription's change as a signal, and make an event of it."""
    details = "".join(f" {name}={value}" for name, value in fields.items())
    logger.warning("signal subscription_%s subscription=%s event=%s%s", change, one.id, one.event, details)
    moment, name = now(), f"Subscription{change.capitalize()}"
    data = {"subscriptionID": one.id, "event": one.event, "host": host_of(one.endpoint), "since": iso(moment), **fields}
    data |= {"name": one.name} if one.name else {}
    submit(bridge.storage, bridge.settings, name, data, origin="bridge", received=moment)
