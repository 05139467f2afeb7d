"""From an event to those who want it: one message on queue `deliveries` for each event and subscription."""

from __future__ import annotations

import secrets
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from shared.errors import Invalid, Unprocessable
from shared.events.event import ReceivedEvent, check_envelope, row_envelope
from shared.events.table import event_named
from shared.storage.messages import send
from shared.subscriptions.filter import meets
from shared.subscriptions.store import STALE_SECONDS, subscriptions
from shared.times import iso, now, parse_time

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from shared.bridge import Bridge
    from shared.subscriptions.subscription import Subscription

QUEUE = "deliveries"
# Instances may not know of a new subscription before this: what it missed is looked for then.
CATCH_UP_SECONDS = 10
_WINDOW = timedelta(seconds=STALE_SECONDS + 3)
_CHUNK = 500


def fan_out(bridge: Bridge, event: ReceivedEvent) -> bool:
    """Queue the event for everybody who wants it; whether there was anybody."""
    found = [one for one in subscriptions(bridge.storage).all() if _wants(bridge, one, event)]
    for one in found:
        send_delivery(bridge, one.id, event.id)
    return bool(found)


def send_delivery(bridge: Bridge, subscription: str, event: str, **more: Any) -> None:
    """Queue one event for one subscription; `more` goes into the message."""
    message = {
        "kind": "deliver",
        "id": f"{subscription}-{event}",
        "subscription": subscription,
        "event": event,
        "token": secrets.token_hex(8),
        "attempt": 0,
        "first": iso(now()),
        **more,
    }
    send(bridge.storage, QUEUE, message, name=message["id"])


def catch_up(bridge: Bridge, subscription: Subscription) -> None:
    """Have what happens in a new subscription's first seconds looked for, once all instances know of it."""
    until = subscription.created + _WINDOW
    send_range(bridge, subscription.id, subscription.created, until, delay=CATCH_UP_SECONDS)


def send_range(
    bridge: Bridge, subscription: str, since: datetime, until: datetime, *, again: bool = False, delay: int = 0
) -> None:
    """
    Queue a look at the feed: what came in between two times is queued for a subscription.

    `again` delivers what was delivered before as well.
    """
    message = {"kind": "range", "id": f"{subscription}-range", "subscription": subscription, "again": again}
    message |= {"since": iso(since), "until": iso(until)}
    send(bridge.storage, QUEUE, message, name=str(message["id"]), delay=delay)


def run_range(bridge: Bridge, message: Mapping[str, Any]) -> None:
    """Do what a message of send_range asks, a part of the feed at a time."""
    from shared.events.store import between

    try:
        id, since, until = str(message["subscription"]), parse_time(message["since"]), parse_time(message["until"])
    except (KeyError, ValueError, AttributeError) as error:
        raise Unprocessable("the message names no range of time") from error
    subscription = subscriptions(bridge.storage).get(id)
    if subscription is None:
        return
    rows, after = between(bridge.storage, since, until, after=message.get("after"), limit=_CHUNK)
    for row in rows:
        event = event_of_row(bridge, row)
        if event is None:
            continue
        again = bool(message.get("again"))
        if _is_for(bridge, subscription, event) if again else _wants(bridge, subscription, event):
            send_delivery(bridge, subscription.id, event.id, **({"again": True} if again else {}))
    if after:
        send(bridge.storage, QUEUE, {**message, "after": after}, name=str(message["id"]))


def event_of_row(bridge: Bridge, row: Mapping[str, Any]) -> ReceivedEvent | None:
    """The event in a row of `events` or `feed`; None where today's tables do not know it any more."""
    try:
        event = event_named(row["type"])
        envelope, data = check_envelope(event, row_envelope(bridge.storage, row))
    except (KeyError, Invalid, Unprocessable):
        return None
    return ReceivedEvent(
        type=event, id=row["id"], data=data, envelope=envelope, origin=row["origin"], received=row["received"]
    )


def _wants(bridge: Bridge, one: Subscription, event: ReceivedEvent) -> bool:
    return one.active and event.received >= one.created and _is_for(bridge, one, event)


def _is_for(bridge: Bridge, one: Subscription, event: ReceivedEvent) -> bool:
    return one.event == event.type.name and meets(event, one.wanted, bridge.settings.default_region)
