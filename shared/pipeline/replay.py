"""Second chances: dead letters put back where they came from, and past events sent again to a subscriber."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, Field

from shared.deliveries.fanout import send_delivery, send_range
from shared.errors import NotFound, Refused, Unprocessable
from shared.events.data import Moment
from shared.events.receive import accept
from shared.events.table import event_named
from shared.json_bodies import read_body
from shared.storage import dead_letters
from shared.storage.account import reaching_storage
from shared.storage.messages import get_payload, read, send
from shared.subscriptions.store import subscriptions
from shared.subscriptions.subscription import public_id
from shared.times import iso, now

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from shared.bridge import Bridge


class ReplayFilter(BaseModel, extra="forbid", frozen=True, defer_build=True):
    """Which dead letters to put back: of a kind, one by its id, at most so many."""

    kind: str | None = None
    id: str | None = None
    limit: int = Field(default=100, ge=1, le=1000, strict=True)


class TimeRange(BaseModel, extra="forbid", frozen=True, defer_build=True):
    """A range of time, by when the app learnt of events."""

    date_from: Moment
    date_to: Moment | None = None


def _fresh(bridge: Bridge, body: bytes) -> dict[str, Any]:
    """The message in a dead letter without what it went through."""
    message = read(bridge.storage, body)
    return {name: value for name, value in message.items() if name not in ("tries", "sent", "resume")}


def _event(bridge: Bridge, dead: Mapping[str, Any], body: bytes) -> None:
    # Its row may be there already: what is left of its follow-ups is done then.
    message = _fresh(bridge, body) | {"begun": True}
    send(bridge.storage, "events", message, name=str(message.get("id", dead["RowKey"])))


def _media(bridge: Bridge, dead: Mapping[str, Any], body: bytes) -> None:
    message = _fresh(bridge, body) | {"attempt": 0, "received": iso(now())}
    send(bridge.storage, "media", message, name=str(dead["RowKey"]))


def _delivery(bridge: Bridge, dead: Mapping[str, Any], body: bytes) -> None:
    message = _fresh(bridge, body)
    if message.get("kind") == "deliver":
        send_delivery(bridge, str(message["subscription"]), str(message["event"]))
    else:
        send(bridge.storage, "deliveries", message, name=str(dead["RowKey"]))


def _refused(bridge: Bridge, dead: Mapping[str, Any], body: bytes) -> None:
    event = event_named(str(dead["RowKey"]).partition("-")[0])
    accept(bridge.storage, bridge.settings, event, body)


# How a dead letter goes back, by its kind.
RETURNS: Mapping[str, Callable[[Bridge, Mapping[str, Any], bytes], None]] = {
    "event": _event,
    "media": _media,
    "delivery": _delivery,
    "refused": _refused,
}


def replay_dead_letters(bridge: Bridge, body: bytes) -> dict[str, Any]:
    """
    Put dead letters back and delete them: how many went, and the ids of those that stay because they cannot.

    `body` is a ReplayFilter, or empty for the first hundred of any kind. Each is on its queue before it is
    deleted, so that none is lost; one that comes twice has its effect once. One that became a dead letter again
    meanwhile is left there.
    """
    wanted = read_body(ReplayFilter, body or b"{}")
    with reaching_storage():
        found = dead_letters.listed(bridge.storage, kind=wanted.kind, id=wanted.id, limit=wanted.limit)
        stay: list[str] = []
        for dead in found:
            if _returned(bridge, dead):
                dead_letters.remove(bridge.storage, dead)
            else:
                stay.append(dead["RowKey"])
    return {"replayed": len(found) - len(stay), "kept": stay}


def _returned(bridge: Bridge, dead: Mapping[str, Any]) -> bool:
    try:
        body = get_payload(bridge.storage, dead["payload"]) if "payload" in dead else dead["body"].encode()
        RETURNS[dead["PartitionKey"]](bridge, dead, body)
    except (Refused, Unprocessable, KeyError):
        return False
    return True


def replay_events(bridge: Bridge, id: str, body: bytes) -> dict[str, Any]:
    """
    Send a subscriber again what came in during a range of time, a TimeRange; raises NotFound, or Invalid.

    `id` is the public one; the one that only the subscriber has is understood, and not repeated.
    """
    times = read_body(TimeRange, body or b"{}")
    until = times.date_to or now()
    with reaching_storage():
        known = subscriptions(bridge)
        one = known.get(id) or known.get(public_id(id.lower()))
        if one is None:
            raise NotFound("no such subscription")
        send_range(bridge, one.id, times.date_from, until, again=True)
    return {"subscription": one.id, "date_from": iso(times.date_from), "date_to": iso(until)}
