"""Read dead letters, send them back to their queue, or discard them."""

from __future__ import annotations

import json
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, Field, StringConstraints

from shared import audit
from shared.errors import INVALID_CONTINUATION, Invalid, NotFound, Refused, Unprocessable
from shared.events.event import accept, check_envelope, event_of
from shared.events.table import event_named
from shared.media.blobs import MEDIA
from shared.pipeline.replay import replay_event
from shared.storage.messages import dead_letters, get_payload, read, remove_dead_letter, send
from shared.subscriptions import subscriptions
from shared.times import iso, now
from shared.values import parse_body, read_body, validated

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from shared.bridge import Bridge

    # Sends a dead letter back.
    Send = Callable[[], object]

_LISTED = 50


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


# Whether and how a dead letter of a kind goes back; each raises what speaks against it.
RETRIES: Mapping[str, Callable[[Bridge, Mapping[str, Any], bytes], Send]] = {
    "event": _event,
    "media": _media,
    "delivery": _delivery,
    "refused": _refused,
}


def list_dead_letters(bridge: Bridge, query: Mapping[str, str]) -> dict[str, Any]:
    """Return a part of the dead letters, each with what can be done with it; raises Refused."""
    wanted = validated(Query, dict(query))
    if wanted.continuation and "/" not in wanted.continuation:
        raise Refused(INVALID_CONTINUATION)
    start, limit = wanted.continuation or "", wanted.limit
    found = dead_letters(bridge.storage, kind=wanted.kind, start=start, limit=limit + 1)
    following = next((f"{row['PartitionKey']}/{row['RowKey']}" for row in found[limit:]), None)
    return {"data": [_item(bridge, dead) for dead in found[:limit]], "continuation": following}


def get_dead_letter(bridge: Bridge, kind: str, id: str) -> dict[str, Any]:
    """Return a dead letter with its body; raises NotFound."""
    dead = _found(bridge, kind, id)
    try:
        value: Any = _body(bridge, dead).decode(errors="replace")
    except Unprocessable:
        value = None
    with suppress(ValueError, RecursionError, TypeError):
        value = json.loads(value)
    return _item(bridge, dead) | {"body": value}


def retry(bridge: Bridge, kind: str, id: str, *, who: str = audit.MASTER_KEY) -> dict[str, Any]:
    """Send a dead letter back; raises NotFound, or Invalid with the reason why it cannot go."""
    try:
        _send_back(bridge, _found(bridge, kind, id))
    except (Unprocessable, Refused) as error:
        raise Invalid({"id": str(error)}) from error
    audit.record(bridge.storage, who=who, what="retry dead letter", count=1, result="sent", note=f"{kind}/{id}")
    return {"kind": kind, "id": id, "result": "sent"}


def discard(bridge: Bridge, kind: str, id: str, reason: str, *, who: str = audit.MASTER_KEY) -> dict[str, Any]:
    """Delete a dead letter for a reason that is kept in the audit; raises NotFound, or Invalid without a reason."""
    note = f"{kind}/{id}: {validated(Discard, {'reason': reason}).reason}"
    remove_dead_letter(bridge.storage, _found(bridge, kind, id))
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
    wanted, kept = read_body(Selection, body or b"{}"), list[str]()
    found = dead_letters(bridge.storage, kind=wanted.kind, id=wanted.id, limit=wanted.limit)
    for dead in found:
        try:
            _send_back(bridge, dead)
        except (Unprocessable, Refused):
            kept.append(dead["RowKey"])
    count, note = len(found) - len(kept), wanted.kind or "all kinds"
    audit.record(bridge.storage, who=who, what="retry dead letters", count=count, result="sent", note=note)
    return {"replayed": count, "kept": kept}


def _send_back(bridge: Bridge, dead: Any) -> None:
    _retry_of(bridge, dead)()
    remove_dead_letter(bridge.storage, dead)


def _retry_of(bridge: Bridge, dead: Mapping[str, Any]) -> Send:
    """Return how a dead letter goes back; raise Unprocessable or Refused with the reason where it cannot."""
    try:
        go = RETRIES[dead["PartitionKey"]]
    except KeyError:
        raise Unprocessable("nothing takes this kind back") from None
    try:
        return go(bridge, dead, _body(bridge, dead))
    except KeyError as error:
        raise Unprocessable("it is not complete") from error


def _item(bridge: Bridge, dead: Mapping[str, Any]) -> dict[str, Any]:
    reason = None
    try:
        _retry_of(bridge, dead)
    except (Unprocessable, Refused) as error:
        reason = str(error)
    return {
        "kind": dead["PartitionKey"],
        "id": dead["RowKey"],
        "reason": dead["reason"],
        "attempts": dead["attempts"],
        "first": iso(dead["first"]),
        "last": iso(dead["last"]),
        "size": dead["size"],
        "actions": ["discard"] if reason else ["retry", "discard"],
        "cannotRetry": reason,
    }


def _found(bridge: Bridge, kind: str, id: str) -> Any:
    found = dead_letters(bridge.storage, kind=kind, id=id, limit=1)
    if not found:
        raise NotFound("no such dead letter")
    return found[0]


def _body(bridge: Bridge, dead: Mapping[str, Any]) -> bytes:
    return get_payload(bridge.storage, dead["payload"]) if "payload" in dead else str(dead["body"]).encode()


def _fresh(bridge: Bridge, body: bytes) -> dict[str, Any]:
    """Return the message in a dead letter without its history."""
    message = read(bridge.storage, body)
    return {name: value for name, value in message.items() if name not in ("tries", "sent", "resume")}
