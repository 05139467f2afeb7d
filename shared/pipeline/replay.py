"""Replays: events of the feed to a subscriber, and dead letters to their queue, unless they are discarded."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime
from functools import partial
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, Field, StringConstraints

from shared import audit
from shared.bridge import Bridge
from shared.deliveries.outbox import QUEUE, Outbox, send_range, wants
from shared.errors import BODY_TOO_LARGE, INVALID_CONTINUATION, Invalid, NotFound, Refused, Unprocessable
from shared.events import store
from shared.events.event import accept, check_envelope, event_of, event_of_row
from shared.events.table import event_named
from shared.media.blobs import MEDIA
from shared.storage.messages import dead_letters, get_payload, read, remove_dead_letter, send
from shared.subscriptions import Subscription, public_id, subscriptions
from shared.times import iso, now, parse_time
from shared.values import LONGEST_BODY, Model, parse_body, read_body, validated

_CHUNK = 500
_COUNTING_SECONDS = 20.0
_LISTED = 50
# The kinds of dead letters that can be retried, and the fields of a message that would end it again.
RETRIED = ("event", "media", "delivery", "refused")
_HISTORY = ("tries", "sent", "resume")


def _time(value: Any) -> datetime:
    if not isinstance(value, str):
        raise ValueError("a time is expected")
    return parse_time(value)


_Moment = Annotated[datetime, BeforeValidator(_time)]


class TimeRange(BaseModel, extra="forbid", frozen=True, defer_build=True):
    """A range of time, by the arrival of events, and whether they are only counted."""

    date_from: _Moment
    date_to: _Moment | None = None
    dry_run: bool = False


class Selection(BaseModel, extra="forbid", frozen=True, defer_build=True):
    """A selection of dead letters by kind and id, at most `limit`."""

    kind: str | None = None
    id: str | None = None
    limit: int = Field(default=100, ge=1, le=1000, strict=True)


class ListQuery(BaseModel, extra="forbid", frozen=True, defer_build=True):
    kind: str | None = None
    limit: int = Field(default=_LISTED, ge=1, le=200)
    continuation: str | None = None


class Discard(BaseModel, extra="forbid", frozen=True, defer_build=True):
    reason: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=500)]


def _asked(model: type[Model], query: Mapping[str, str], body: bytes) -> Model:
    """Return the model of a request with fields in its query, its body or both."""
    sent = parse_body(body) if body else {}
    return validated(model, {**query, **sent} if isinstance(sent, dict) else sent)


def replay_events(
    bridge: Bridge, id: str, query: Mapping[str, str], body: bytes, *, who: str = audit.MASTER_KEY
) -> dict[str, Any]:
    """
    Send a subscriber the events of a TimeRange again, or count them; raises NotFound, or Invalid.

    A dry run that could not count all in time is not `complete`.
    """
    times, moment = _asked(TimeRange, query, body), now()
    since, until = times.date_from, min(times.date_to or moment, moment)
    if since > moment:
        raise Invalid({"date_from": "a time in the past is expected"})
    if until < since:
        raise Invalid({"date_to": "a time after date_from is expected"})
    subscription = _subscription(bridge, id)
    answer = {"subscription": subscription.id, "date_from": iso(since), "date_to": iso(until), "dry_run": times.dry_run}
    if times.dry_run:
        return answer | _count(bridge, subscription, since, until)
    send_range(bridge.storage, subscription.id, since, until, token=secrets.token_hex(8), who=who)
    return answer


def replay_event(bridge: Bridge, subscription: str, event: str) -> None:
    """Send a subscriber one event again; raises Unprocessable if the event or the subscription is gone."""
    row = store.get(bridge.storage, event, select=["received"])
    if row is None or subscriptions(bridge).get(subscription) is None:
        raise Unprocessable("the event, or the subscription, is gone")
    outbox = Outbox(bridge.storage, subscription)
    outbox.put([(row["received"], event)], secrets.token_hex(8))
    outbox.wake()


def try_subscription(bridge: Bridge, id: str, *, who: str = audit.MASTER_KEY) -> dict[str, Any]:
    """Post a subscriber's waiting events at once; raises NotFound."""
    subscription = _subscription(bridge, id)
    count = Outbox(bridge.storage, subscription.id).try_now()
    audit.record(bridge.storage, who=who, what="try subscription now", count=count, result="sent", note=subscription.id)
    return {"subscription": subscription.id, "events": count}


def run_range(bridge: Bridge, message: Mapping[str, Any]) -> None:
    """
    Put the events of a span into an outbox, a part of the feed at a time.

    With a `token` it is a replay, which repeats delivered events and reaches a disabled subscription.
    """
    try:
        id, token = str(message["subscription"]), str(message.get("token", ""))
        since, until = parse_time(message["since"]), parse_time(message["until"])
    except (KeyError, ValueError, AttributeError) as error:
        raise Unprocessable("the message has no range of time") from error
    subscription = subscriptions(bridge).get(id)
    if subscription is None:
        return
    chosen, after = _chosen(bridge, subscription, since, until, message.get("after"), is_replay=bool(token))
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
    """Return a subscription by its public id, or by its capability; raises NotFound."""
    known = subscriptions(bridge)
    subscription = known.get(id) or known.get(public_id(id.lower()))
    if subscription is None:
        raise NotFound("no such subscription")
    return subscription


def _count(bridge: Bridge, subscription: Subscription, since: datetime, until: datetime) -> dict[str, Any]:
    deadline, outbox = time.monotonic() + _COUNTING_SECONDS, Outbox(bridge.storage, subscription.id)
    events, after = 0, None
    while time.monotonic() < deadline:
        chosen, after = _chosen(bridge, subscription, since, until, after, is_replay=True)
        events += len(outbox.without_waiting(chosen))
        if not after:
            return {"events": events, "complete": True}
    return {"events": events, "complete": False}


def _chosen(
    bridge: Bridge, subscription: Subscription, since: datetime, until: datetime, after: str | None, *, is_replay: bool
) -> tuple[list[tuple[datetime, str]], str | None]:
    """Return a part of the events that are for a subscription, and where the next part starts."""
    rows, follows = store.feed_page(bridge.storage, _CHUNK, first=since, last=until, start=after)
    events = (event for row in rows if (event := event_of_row(bridge.storage, row)) is not None)
    wanted = [event for event in events if wants(bridge, subscription, event, is_replay=is_replay)]
    return [(event.received, event.id) for event in wanted], follows


def list_dead_letters(bridge: Bridge, query: Mapping[str, str]) -> dict[str, Any]:
    """Return a part of the dead letters, each with the actions that it allows; raises Refused."""
    listing = validated(ListQuery, dict(query))
    if listing.continuation and "/" not in listing.continuation:
        raise Refused(INVALID_CONTINUATION)
    start, limit = listing.continuation or "", listing.limit
    rows = dead_letters(bridge.storage, kind=listing.kind, start=start, limit=limit + 1)
    following = next((f"{row['PartitionKey']}/{row['RowKey']}" for row in rows[limit:]), None)
    return {"data": [_item(bridge, dead) for dead in rows[:limit]], "continuation": following}


def get_dead_letter(bridge: Bridge, kind: str, id: str) -> dict[str, Any]:
    """Return a dead letter with its body; raises NotFound."""
    dead, body = _dead_letter(bridge, kind, id), None
    with suppress(Unprocessable, ValueError, RecursionError):
        body = _body(bridge, dead).decode(errors="replace")
        body = json.loads(body)
    return _item(bridge, dead) | {"body": body}


def retry(bridge: Bridge, kind: str, id: str, *, who: str = audit.MASTER_KEY) -> dict[str, Any]:
    """Send a dead letter back; raises NotFound, or Invalid with the reason why it cannot be retried."""
    try:
        _send_back(bridge, _dead_letter(bridge, kind, id))
    except (Unprocessable, Refused) as error:
        raise Invalid({"id": str(error)}) from error
    audit.record(bridge.storage, who=who, what="retry dead letter", count=1, result="sent", note=f"{kind}/{id}")
    return {"kind": kind, "id": id, "result": "sent"}


def discard(
    bridge: Bridge, kind: str, id: str, query: Mapping[str, str], body: bytes = b"", *, who: str = audit.MASTER_KEY
) -> dict[str, Any]:
    """Delete a dead letter and keep the reason in the audit; raises NotFound, or Invalid without a reason."""
    note = f"{kind}/{id}: {_asked(Discard, query, body).reason}"
    remove_dead_letter(bridge.storage, _dead_letter(bridge, kind, id))
    audit.record(bridge.storage, who=who, what="discard dead letter", count=1, result="discarded", note=note)
    return {"kind": kind, "id": id, "result": "discarded"}


def replay_dead_letters(bridge: Bridge, body: bytes, *, who: str = audit.MASTER_KEY) -> dict[str, Any]:
    """
    Send back the dead letters of a Selection; return the number sent, and the ids of those that cannot be retried.

    Each is on its queue before it is deleted; sent twice, it has one effect. A dead letter that has failed again
    meanwhile stays.
    """
    selection, kept = read_body(Selection, body or b"{}"), list[str]()
    rows = dead_letters(bridge.storage, kind=selection.kind, id=selection.id, limit=selection.limit)
    for dead in rows:
        try:
            _send_back(bridge, dead)
        except (Unprocessable, Refused):
            kept.append(dead["RowKey"])
    count, note = len(rows) - len(kept), selection.kind or "all kinds"
    audit.record(bridge.storage, who=who, what="retry dead letters", count=count, result="sent", note=note)
    return {"replayed": count, "kept": kept}


def _way_back(bridge: Bridge, dead: Mapping[str, Any]) -> Callable[[], object]:
    """Return the function that sends a dead letter back; raise Unprocessable or Refused with the reason against it."""
    storage, kind, name = bridge.storage, dead["PartitionKey"], str(dead["RowKey"])
    if kind not in RETRIED:
        raise Unprocessable("dead letters of this kind cannot be retried")
    body = _body(bridge, dead)
    try:
        if kind == "refused":
            if len(body) > LONGEST_BODY:
                raise Refused(BODY_TOO_LARGE)
            event = event_named(name.partition("-")[0])
            check_envelope(event, parse_body(body, odd_numbers=True))
            return partial(accept, bridge, event, body)
        message = {field: value for field, value in read(storage, body).items() if field not in _HISTORY}
        if kind == "event":
            if not message.get("stored"):
                event_of(message)
            # Its row may be stored already: then only the remaining follow-ups are done.
            return partial(send, storage, "events", message | {"begun": True}, name=str(message["id"]))
        if kind == "media":
            if message.get("kind") not in {media.name for media in MEDIA}:
                raise Unprocessable("the message asks for no audio")
            return partial(send, storage, "media", message | {"attempt": 0, "received": iso(now())}, name=name)
        id = str(message.get("subscription"))
        if subscriptions(bridge).get(id) is None:
            raise Unprocessable("the subscription has ended")
        if message.get("kind") == "deliver":
            return partial(replay_event, bridge, id, str(message["event"]))
        return partial(send, storage, QUEUE, message, name=name)
    except KeyError as error:
        raise Unprocessable("the message is incomplete") from error


def _send_back(bridge: Bridge, dead: Any) -> None:
    _way_back(bridge, dead)()
    remove_dead_letter(bridge.storage, dead)


def _item(bridge: Bridge, dead: Mapping[str, Any]) -> dict[str, Any]:
    reason = None
    try:
        _way_back(bridge, dead)
    except (Unprocessable, Refused) as error:
        reason = str(error)
    return {
        "kind": dead["PartitionKey"],
        "id": dead["RowKey"],
        **{name: dead[name] for name in ("reason", "attempts", "size")},
        **{name: iso(dead[name]) for name in ("first", "last")},
        "actions": ["discard"] if reason else ["retry", "discard"],
        "cannotRetry": reason,
    }


def _dead_letter(bridge: Bridge, kind: str, id: str) -> Any:
    rows = dead_letters(bridge.storage, kind=kind, id=id, limit=1)
    if not rows:
        raise NotFound("no such dead letter")
    return rows[0]


def _body(bridge: Bridge, dead: Mapping[str, Any]) -> bytes:
    return get_payload(bridge.storage, dead["payload"]) if "payload" in dead else str(dead["body"]).encode()
