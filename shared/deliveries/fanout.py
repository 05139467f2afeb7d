"""From an event to those who want it: a place in the outbox of each."""

from __future__ import annotations

import math
import secrets
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast

from shared.deliveries.outbox import Outbox
from shared.deliveries.wakes import QUEUE, wakes
from shared.errors import Unprocessable
from shared.events import store
from shared.events.event import event_of, row_envelope
from shared.storage.messages import send
from shared.subscriptions.filter import meets
from shared.subscriptions.store import STALE_SECONDS, subscriptions
from shared.times import iso, now, parse_time

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from azure.storage.queue import QueueMessage

    from shared.bridge import Bridge
    from shared.events.event import ReceivedEvent
    from shared.subscriptions.subscription import Subscription

RANGE = "range"
# A new subscription may not be there yet for five minutes after it was asked for; looks for it grow apart.
_LOOK_SECONDS, _LOOKS = 5, 6
# What instances' clocks may differ by, from each other and from storage's.
_CLOCKS = timedelta(minutes=15)
# Instances may not know of one that is there for so long, and what they do then takes a moment to stand in the feed.
_UNKNOWN_SECONDS = STALE_SECONDS + 3
_FEED_SECONDS = 3
_CHUNK = 500


def fan_out(bridge: Bridge, event: ReceivedEvent) -> bool:
    """Put the event into the outbox of everybody who wants it; whether there was anybody."""
    found = [one for one in subscriptions(bridge).all() if _wants(bridge, one, event)]
    for one in found:
        # Woken also where the event has its place already: who put it there may have died before.
        _put(bridge, one.id, [(event.received, event.id)])
    return bool(found)


def _put(bridge: Bridge, subscription: str, events: list[tuple[datetime, str]], token: str = "") -> None:
    Outbox(bridge.storage, subscription).put(events, token)
    wakes(bridge.storage).wake(subscription)


def send_delivery(bridge: Bridge, subscription: str, event: str) -> None:
    """Put one event into an outbox again; raises Unprocessable where the event, or who wants it, is gone."""
    row = store.get(bridge.storage, event, select=["received"])
    if row is None or subscriptions(bridge).get(subscription) is None:
        raise Unprocessable("the event, or the subscription, is gone")
    _put(bridge, subscription, [(row["received"], event)], secrets.token_hex(8))


def catch_up(bridge: Bridge, subscription: Subscription) -> QueueMessage:
    """
    Have what happens before all instances know of a new subscription looked for; called before it is written.

    Writing it may take long, or get no answer. Returns the message, which `withdraw` takes back where there is nothing
    new. `inserted_on` is the time from which on events are the subscription's, by storage's clock.
    """
    return _send(bridge, subscription.id, _LOOK_SECONDS, since=iso(subscription.created), looks=_LOOKS)


def send_range(
    bridge: Bridge, subscription: str, since: datetime, until: datetime, *, again: bool = False, delay: int = 0
) -> None:
    """
    Have what came in between two times put into an outbox, from the feed.

    `again` puts there what was delivered before as well, once for each call.
    """
    token = secrets.token_hex(8) if again else ""
    _send(bridge, subscription, delay, since=iso(since), until=iso(until), token=token)


def _send(bridge: Bridge, subscription: str, delay: int, **fields: Any) -> QueueMessage:
    message = {"kind": RANGE, "id": f"{subscription}-range", "subscription": subscription, **fields}
    return send(bridge.storage, QUEUE, message, name=subscription, delay=delay)


def run_range(bridge: Bridge, message: Mapping[str, Any]) -> None:
    """Do what a message of send_range or catch_up asks, a part of the feed at a time."""
    try:
        id, since, token = str(message["subscription"]), parse_time(message["since"]), str(message.get("token", ""))
        until = parse_time(message["until"]) if "until" in message else None
    except (KeyError, ValueError, AttributeError) as error:
        raise Unprocessable("the message names no range of time") from error
    subscription = subscriptions(bridge).get(id)
    if until is None:
        _look(bridge, message, subscription)
        return
    if subscription is None:
        return
    found, after = store.feed_page(bridge.storage, store.feed_bounds(since, until), message.get("after"), _CHUNK)
    if not token:
        # By storage's clock, whatever those say that took events in, and the one that took the subscription in.
        found = [row for row in cast("list[Any]", found) if row.metadata["timestamp"] >= subscription.created]
    events = [event for row in found if (event := event_of_row(bridge, row)) is not None]
    wanted = _is_for if token else _wants
    chosen = [(event.received, event.id) for event in events if wanted(bridge, subscription, event)]
    if chosen:
        _put(bridge, id, chosen, token)
    if after:
        send(bridge.storage, QUEUE, {**message, "after": after}, name=id)


def _look(bridge: Bridge, message: Mapping[str, Any], subscription: Subscription | None) -> None:
    """Whether a new subscription is there by now: then all instances soon know of it."""
    looks = min(int(message.get("looks", 0)), _LOOKS)
    if subscription is not None:
        until = now() + timedelta(seconds=_UNKNOWN_SECONDS) + _CLOCKS
        delay = math.ceil(_UNKNOWN_SECONDS + _FEED_SECONDS)
        send_range(bridge, subscription.id, subscription.created - _CLOCKS, until, delay=delay)
    elif looks > 1:
        delay = _LOOK_SECONDS * 2 ** (_LOOKS - looks + 1)
        send(bridge.storage, QUEUE, {**message, "looks": looks - 1}, name=str(message["id"]), delay=delay)


def event_of_row(bridge: Bridge, row: Mapping[str, Any]) -> ReceivedEvent | None:
    """The event in a row of `events` or `feed`; None where we do not know it any more."""
    try:
        body = row_envelope(bridge.storage, row)
        return event_of({**row, "event": row["type"], "received": iso(row["received"]), "body": body})
    except (KeyError, Unprocessable):
        return None


def _wants(bridge: Bridge, one: Subscription, event: ReceivedEvent) -> bool:
    return one.active and event.received >= one.created - _CLOCKS and _is_for(bridge, one, event)


def _is_for(bridge: Bridge, one: Subscription, event: ReceivedEvent) -> bool:
    return one.event == event.type.name and meets(event, one.wanted, bridge.settings.default_region)
