"""Read dead letters, send them back to their queue, or discard them."""

from __future__ import annotations

import base64
import json
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, Field, StringConstraints

from shared import audit
from shared.errors import INVALID_CONTINUATION, Invalid, NotFound, Refused, Unprocessable
from shared.events.event import accept, check_envelope, event_of
from shared.events.table import event_named
from shared.json_bodies import parse_body, read_body, validated
from shared.media.table import MEDIA
from shared.pipeline.replay import replay_event
from shared.storage import dead_letters
from shared.storage.account import reaching_storage
from shared.storage.messages import get_payload, read, send
from shared.subscriptions.store import subscriptions
from shared.times import iso, now

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from shared.bridge import Bridge

    # Sends a dead letter back.
    Send = Callable[[], object]

_LISTED = 50
_RETRY, _DISCARD = "retry", "discard"


class Selection(BaseModel, extra="forbid", frozen=True, defer_build=True):
    """A part of the dead letters: of a kind, one by its id, at most so many."""

    kind: str | None = None
    id: str | None = None
    limit: int = Field(default=100, ge=1, le=1000, strict=True)


class Query(BaseModel, extra="forbid", frozen=True, defer_build=True):
    """The query of a list of dead letters."""

    kind: str | None = None
    limit: int = Field(default=_LISTED, ge=1, le=200)
    continuation: str | None = None


class Discard(BaseModel, extra="forbid", frozen=True, defer_build=True):
    """The reason for which a dead letter is discarded."""

    reason: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=500)]


def _event(bridge: Bridge, dead: Mapping[str, Any], body: bytes) -> Send:
    message = _fresh(bridge, body)
    if not message.get("stored"):
        event_of(message)
    # Its row may be there already: what is left of its follow-ups is done then.
    return partial(send, bridge.storage, "events", message | {"begun": True}, name=str(message["id"]))


def _media(bridge: Bridge, dead: Mapping[str, Any], body: bytes) -> Send:
    message = _fresh(bridge, body)
    if message.get("kind") not in {media.name for media in MEDIA}:
        raise Unprocessable("the message asks for no audio")
    again = message | {"attempt": 0, "received": iso(now())}
    return partial(send, bridge.storage, "media", again, name=str(dead["RowKey"]))


def _delivery(bridge: Bridge, dead: Mapping[str, Any], body: bytes) -> Send:
    message = _fresh(bridge, body)
    id = str(message.get("subscription"))
    if subscriptions(bridge).get(id) is None:
        raise Unprocessable("the subscription has ended")
    if message.get("kind") == "deliver":
        return partial(replay_event, bridge, id, str(message["event"]))
    return partial(send, bridge.storage, "deliveries", message, name=str(dead["RowKey"]))


def _refused(bridge: Bridge, dead: Mapping[str, Any], body: bytes) -> Send:
    event = event_named(str(dead["RowKey"]).partition("-")[0])
    check_envelope(event, parse_body(body, odd_numbers=True))
    return partial(accept, bridge.storage, bridge.settings, event, body)


def _polled(bridge: Bridge, dead: Mapping[str, Any], body: bytes) -> Send:
    raise Unprocessable("each poll reads the item again")


# Whether and how a dead letter of a kind goes back; each raises what speaks against it.
RETRIES: Mapping[str, Callable[[Bridge, Mapping[str, Any], bytes], Send]] = {
    "event": _event,
    "media": _media,
    "delivery": _delivery,
    "refused": _refused,
    "polled": _polled,
}


def list_dead_letters(bridge: Bridge, query: Mapping[str, str]) -> dict[str, Any]:
    """Return a part of the dead letters, each with what can be done with it; raises Refused."""
    wanted = validated(Query, dict(query))
    with reaching_storage():
        found, follows = dead_letters.page(bridge.storage, wanted.kind, wanted.limit, _position(wanted.continuation))
        data = [_item(bridge, dead) for dead in found]
    token = base64.urlsafe_b64encode(json.dumps(follows).encode()).decode() if follows else None
    return {"data": data, "continuation": token}


def get_dead_letter(bridge: Bridge, kind: str, id: str) -> dict[str, Any]:
    """Return a dead letter with its body; raises NotFound."""
    with reaching_storage():
        dead = _found(bridge, kind, id)
        try:
            text = _body(bridge, dead).decode(errors="replace")
        except Unprocessable:
            return _item(bridge, dead) | {"body": None}
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            value = text
        return _item(bridge, dead) | {"body": value}


def retry(bridge: Bridge, kind: str, id: str, *, who: str = audit.MASTER_KEY) -> dict[str, Any]:
    """Send a dead letter back; raises NotFound, or Invalid with the reason why it cannot go."""
    with reaching_storage():
        dead = _found(bridge, kind, id)
        reason = _send_back(bridge, dead)
        if reason:
            raise Invalid({"id": reason})
        audit.record(bridge.storage, who=who, what="retry dead letter", count=1, result="sent", note=f"{kind}/{id}")
    return {"kind": kind, "id": id, "result": "sent"}


def discard(bridge: Bridge, kind: str, id: str, reason: str, *, who: str = audit.MASTER_KEY) -> dict[str, Any]:
    """Delete a dead letter for a reason that is kept in the audit; raises NotFound, or Invalid without a reason."""
    given = validated(Discard, {"reason": reason})
    with reaching_storage():
        dead_letters.remove(bridge.storage, _found(bridge, kind, id))
        note = f"{kind}/{id}: {given.reason}"
        audit.record(bridge.storage, who=who, what="discard dead letter", count=1, result="discarded", note=note)
    return {"kind": kind, "id": id, "result": "discarded"}


def reason_in(query: Mapping[str, str], body: bytes) -> str:
    """Return the reason of a request to discard, from its query or its body; raises Invalid for anything else."""
    given = parse_body(body) if body else {}
    if not isinstance(given, dict):
        raise Invalid({"body": "an object is expected"})
    return str(validated(Discard, {**query, **given}).reason)


def replay_dead_letters(bridge: Bridge, body: bytes, *, who: str = audit.MASTER_KEY) -> dict[str, Any]:
    """
    Send back the dead letters of a Selection; return how many went, and the ids of those that cannot.

    Each is on its queue before it is deleted; twice has one effect. One that became a dead letter again meanwhile is
    left there.
    """
    wanted = read_body(Selection, body or b"{}")
    with reaching_storage():
        found = dead_letters.listed(bridge.storage, kind=wanted.kind, id=wanted.id, limit=wanted.limit)
        stay = [dead["RowKey"] for dead in found if _send_back(bridge, dead)]
        count, note = len(found) - len(stay), wanted.kind or "all kinds"
        audit.record(bridge.storage, who=who, what="retry dead letters", count=count, result="sent", note=note)
    return {"replayed": count, "kept": stay}


def _send_back(bridge: Bridge, dead: Any) -> str:
    """Send a dead letter back and delete it, or return why it cannot go."""
    go, reason = _retry_of(bridge, dead)
    if go is None:
        return reason
    try:
        go()
    except (Unprocessable, Refused) as error:
        return str(error)
    dead_letters.remove(bridge.storage, dead)
    return ""


def _retry_of(bridge: Bridge, dead: Mapping[str, Any]) -> tuple[Send | None, str]:
    """Return how a dead letter goes back, or None and the reason why it cannot."""
    kind = dead["PartitionKey"]
    if kind not in RETRIES:
        return None, "nothing takes this kind back"
    try:
        return RETRIES[kind](bridge, dead, _body(bridge, dead)), ""
    except (Unprocessable, Refused) as error:
        return None, str(error)
    except KeyError:
        return None, "it is not complete"


def _item(bridge: Bridge, dead: Mapping[str, Any]) -> dict[str, Any]:
    go, reason = _retry_of(bridge, dead)
    return {
        "kind": dead["PartitionKey"],
        "id": dead["RowKey"],
        "reason": dead["reason"],
        "attempts": dead["attempts"],
        "first": iso(dead["first"]),
        "last": iso(dead["last"]),
        "size": dead["size"],
        "actions": [_RETRY, _DISCARD] if go else [_DISCARD],
        "cannotRetry": reason or None,
    }


def _found(bridge: Bridge, kind: str, id: str) -> Any:
    found = dead_letters.listed(bridge.storage, kind=kind, id=id, limit=1)
    if not found:
        raise NotFound("no such dead letter")
    return found[0]


def _body(bridge: Bridge, dead: Mapping[str, Any]) -> bytes:
    return get_payload(bridge.storage, dead["payload"]) if "payload" in dead else str(dead["body"]).encode()


def _fresh(bridge: Bridge, body: bytes) -> dict[str, Any]:
    """Return the message in a dead letter without its history."""
    message = read(bridge.storage, body)
    return {name: value for name, value in message.items() if name not in ("tries", "sent", "resume")}


def _position(continuation: str | None) -> dict[str, str] | None:
    if not continuation:
        return None
    try:
        position = json.loads(base64.urlsafe_b64decode(continuation.encode()))
        return {name: str(position[name]) for name in ("PartitionKey", "RowKey")}
    except (ValueError, KeyError, TypeError) as error:
        raise Refused(INVALID_CONTINUATION) from error
