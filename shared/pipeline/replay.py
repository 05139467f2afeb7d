"""Events from the feed that are put into an outbox: again for an operator, or late for a new subscriber."""

from __future__ import annotations

import secrets
import time
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, BeforeValidator

from shared import audit
from shared.deliveries.outbox import QUEUE, Outbox, send_range, wants
from shared.errors import Invalid, NotFound, Unprocessable
from shared.events import store
from shared.events.event import event_of_row
from shared.storage.messages import send
from shared.subscriptions import public_id, subscriptions
from shared.times import iso, now, parse_time
from shared.values import parse_body, validated

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shared.bridge import Bridge
    from shared.subscriptions import Subscription


def _time(value: Any) -> datetime:
    if not isinstance(value, str):
        raise ValueError("a time is expected")
    return parse_time(value)


_Moment = Annotated[datetime, BeforeValidator(_time)]
_CHUNK = 500
_COUNTING_SECONDS = 20.0


class TimeRange(BaseModel, extra="forbid", frozen=True, defer_build=True):
    """A range of time, by the arrival of events, and whether they are only counted."""

    date_from: _Moment
    date_to: _Moment | None = None
    dry_run: bool = False


def replay_events(
    bridge: Bridge, id: str, query: Mapping[str, str], body: bytes, *, who: str = audit.MASTER_KEY
) -> dict[str, Any]:
    """
    Send a subscriber again what arrived in a TimeRange, or count it; raises NotFound, or Invalid.

    The range is in the body, or in the query. A dry run that could not count all in time is not `complete`.
    """
    given = parse_body(body) if body else {}
    times, moment = validated(TimeRange, {**query, **given} if isinstance(given, dict) else given), now()
    since, until = times.date_from, min(times.date_to or moment, moment)
    if since > moment:
        raise Invalid({"date_from": "a time in the past is expected"})
    if until < since:
        raise Invalid({"date_to": "a time after date_from is expected"})
    one = _subscription(bridge, id)
    answer = {"subscription": one.id, "date_from": iso(since), "date_to": iso(until), "dry_run": times.dry_run}
    if times.dry_run:
        return answer | _count(bridge, one, since, until)
    send_range(bridge.storage, one.id, since, until, token=secrets.token_hex(8), who=who)
    return answer


def replay_event(bridge: Bridge, subscription: str, event: str) -> None:
    """Send a subscriber one event again; raises Unprocessable where the event or the subscription is gone."""
    row = store.get(bridge.storage, event, select=["received"])
    if row is None or subscriptions(bridge).get(subscription) is None:
        raise Unprocessable("the event, or the subscription, is gone")
    outbox = Outbox(bridge.storage, subscription)
    outbox.put([(row["received"], event)], secrets.token_hex(8))
    outbox.wake()


def try_subscription(bridge: Bridge, id: str, *, who: str = audit.MASTER_KEY) -> dict[str, Any]:
    """Post at once what waits for a subscriber; raises NotFound."""
    one = _subscription(bridge, id)
    count = Outbox(bridge.storage, one.id).try_now()
    audit.record(bridge.storage, who=who, what="try subscription now", count=count, result="sent", note=one.id)
    return {"subscription": one.id, "events": count}


def run_range(bridge: Bridge, message: Mapping[str, Any]) -> None:
    """
    Put the events of a span into an outbox, a part of the feed at a time.

    With a `token` that is a replay: also what was delivered before, and also to a subscription that is disabled.
    """
    try:
        id, token = str(message["subscription"]), str(message.get("token", ""))
        since, until = parse_time(message["since"]), parse_time(message["until"])
    except (KeyError, ValueError, AttributeError) as error:
        raise Unprocessable("the message has no range of time") from error
    one = subscriptions(bridge).get(id)
    if one is None:
        return
    chosen, after = _chosen(bridge, one, since, until, message.get("after"), is_replay=bool(token))
    outbox = Outbox(bridge.storage, id)
    count = outbox.put(chosen, token) + int(message.get("count", 0))
    if chosen:
        outbox.wake()
    if after:
        send(bridge.storage, QUEUE, {**message, "after": after, "count": count}, name=id)
    elif token:
        who, note = str(message.get("who")), f"{id} from {iso(since)} to {iso(until)}"
        audit.record(bridge.storage, who=who, what="replay events", count=count, result="sent", note=note)


def _subscription(bridge: Bridge, id: str) -> Subscription:
    """Return a subscription by its public id, or by the one that only the subscriber has."""
    known = subscriptions(bridge)
    one = known.get(id) or known.get(public_id(id.lower()))
    if one is None:
        raise NotFound("no such subscription")
    return one


def _count(bridge: Bridge, one: Subscription, since: datetime, until: datetime) -> dict[str, Any]:
    deadline, outbox, events, after = time.monotonic() + _COUNTING_SECONDS, Outbox(bridge.storage, one.id), 0, None
    while time.monotonic() < deadline:
        chosen, after = _chosen(bridge, one, since, until, after, is_replay=True)
        events += len(outbox.without_waiting(chosen))
        if not after:
            return {"events": events, "complete": True}
    return {"events": events, "complete": False}


def _chosen(
    bridge: Bridge, one: Subscription, since: datetime, until: datetime, after: str | None, *, is_replay: bool
) -> tuple[list[tuple[datetime, str]], str | None]:
    """Return a part of the events that are for a subscription, and where the next part starts."""
    found, follows = store.feed_page(bridge.storage, store.feed_bounds(since, until), after, _CHUNK)
    events = (event for row in found if (event := event_of_row(bridge.storage, row)) is not None)
    return [(event.received, event.id) for event in events if wants(bridge, one, event, is_replay=is_replay)], follows
