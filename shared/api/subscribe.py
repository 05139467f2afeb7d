"""Subscribes and unsubscribes over HTTP, rotates secrets, and lists subscriptions."""

from __future__ import annotations

import ipaddress
import re
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, StringConstraints, ValidationInfo, model_validator
from pydantic import Field as Limits

from shared.api.envelopes import succeeded
from shared.bridge import Bridge
from shared.deliveries.outbox import EPOCH, Outbox, State, catch_up, end, set_disabled
from shared.errors import ConfigError, NotFound, StorageUnavailable
from shared.events.table import find_event
from shared.http import is_public
from shared.pbx.fields import Field, Shape
from shared.subscriptions import NO_KEY, Subscription, host_of, key_of, public_id, subscriptions
from shared.times import iso
from shared.values import LARGEST_ID, dialled, e164, identifier, plain, read_body

_SIDE_BY_SIDE = 8
LOOPBACK = "allow_loopback"
ID_HEADER = "Subscription-Id"
ID_PATTERN = r"[0-9A-Fa-f]{32}|[0-9]{1,20}"
# Logic Apps' callback addresses carry a signature and grow long.
LONGEST_ENDPOINT = 4096
LONGEST_NAME = 100
_PRINTABLE = re.compile(r"[!-~]+")
_PREFIX = re.compile(r"(?:\+|00)?[0-9]{1,15}", re.ASCII)

# The columns of GetSubscriptions.
LISTED: Shape = (
    Field("id", "string", "Public ID of the subscription."),
    Field("name", "string", "Name of the subscription."),
    Field("event", "string", "Name of the event."),
    Field("host", "string", "Host that the event is posted to; the rest of the address is a secret."),
    Field("filter", "object", "Filter of the events that are posted."),
    Field("shape", "string", "native or cloudevents."),
    Field("state", "string", "new, active, failing, disabled or unreadable."),
    Field("created", "date-time", "Time it was made."),
    Field("disabled", "date-time", "Time it was disabled, after five days without a success."),
    Field("failingSince", "date-time", "Time since which no delivery has succeeded."),
    Field("waitsUntil", "date-time", "Time until which deliveries wait for the next try."),
    Field("lastResult", "string", "HTTP status of the last attempt, or the word for its failure."),
    Field("lastAttempt", "integer", "Number of the last attempt at its event."),
    Field("lastTime", "date-time", "Time of the last attempt."),
    Field("lastDelivered", "date-time", "Time of the last delivery, to within a minute."),
    Field("milliseconds", "integer", "Duration of the last answer in milliseconds."),
    Field("failures", "integer", "Attempts that failed since the last success."),
)


def _prefix(text: str) -> str:
    begin = plain(text)
    if not _PREFIX.fullmatch(begin):
        raise ValueError("the beginning of a phone number is expected, such as +371")
    return f"+{begin[2:]}" if begin.startswith("00") else begin


Number = Annotated[str, AfterValidator(dialled)]
# Flows send numbers from expressions as text.
_spelt = BeforeValidator(lambda value: value if (number := identifier(value)) is None else number)
ContactId = Annotated[int, Limits(ge=1, le=LARGEST_ID, strict=True), _spelt]
_NUMBERS = ("caller", "destination")


class Criteria(BaseModel, extra="forbid", frozen=True, defer_build=True):
    """A filter of events; an event matches if it matches every part that is set."""

    direction: Literal["in", "out"] | None = None
    contact_id: ContactId | None = None
    caller: Number | None = None
    destination: Number | None = None
    prefix: Annotated[str, AfterValidator(_prefix)] | None = None

    def to_dict(self, region: str) -> dict[str, Any]:
        """Return the parts that are set, as JSON; numbers are in E.164, so that all their spellings are equal."""
        parts = self.model_dump(exclude_none=True)
        return parts | {name: e164(parts[name], region) or parts[name] for name in _NUMBERS if name in parts}


NAMES = tuple(Criteria.model_fields)


def _secret(text: str) -> str:
    key_of(text)
    return text


def _endpoint(url: str, info: ValidationInfo) -> str:
    """
    Return an address that events may be posted to: https, on the internet, and without a user.

    The context's LOOPBACK also allows this machine, and http to it. The addresses that a name resolves to are checked
    at each connection. Raises ValueError.
    """
    try:
        parts = urlsplit(url)
        host, _ = (parts.hostname or "").rstrip("."), parts.port
    except ValueError:
        raise ValueError("an https address is expected") from None
    is_here = is_special = host == "localhost"
    with suppress(ValueError):
        address = ipaddress.ip_address(host)
        is_here, is_special = address.is_loopback and address.version == 4, not is_public(address)
    is_allowed = is_here and bool((info.context or {}).get(LOOPBACK))
    if parts.scheme != "https" and not (is_allowed and parts.scheme == "http"):
        raise ValueError("an https address is expected")
    if not host or "@" in parts.netloc or not _PRINTABLE.fullmatch(url) or len(url) > LONGEST_ENDPOINT:
        raise ValueError(f"an https address without user and blanks is expected, up to {LONGEST_ENDPOINT} characters")
    if is_special and not is_allowed:
        raise ValueError("the host is not on the internet")
    return url


class SubscribeRequest(BaseModel, frozen=True, defer_build=True):
    """The body of a subscription; parts of the filter may also be beside `endpoint`."""

    endpoint: Annotated[str, AfterValidator(_endpoint)]
    filter: Criteria = Criteria.model_construct()
    shape: Literal["native", "cloudevents"] = "native"
    secret: Annotated[str, AfterValidator(_secret)] | None = None
    name: Annotated[str, StringConstraints(max_length=LONGEST_NAME, strip_whitespace=True)] = ""

    @model_validator(mode="before")
    @classmethod
    def _gather(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            raise ValueError("an object is expected")
        fields = {name: part for name, part in value.items() if part is not None}
        beside = {name: fields.pop(name) for name in NAMES if name in fields}
        inside = fields.get("filter", {})
        if beside and isinstance(inside, dict):
            fields["filter"] = {**inside, **beside}
        return fields


class UnsubscribeRequest(BaseModel, frozen=True, defer_build=True):
    """The body of an unsubscription by callback address."""

    endpoint: Annotated[str, StringConstraints(min_length=1)]


def subscribe(bridge: Bridge, name: str, body: bytes, base: str) -> tuple[dict[str, Any], dict[str, str]]:
    """
    Subscribe to an event, whose name may have any spelling; return the envelope and headers.

    `Location` is the address that ends the subscription, `Subscription-Id` its public id, and `data` the right to end
    it. Only the first successful answer has `secret`. Raises NotFound, Refused, or StorageUnavailable.
    """
    event = find_event(name)
    if event is None:
        raise NotFound("no such event")
    request = read_body(SubscribeRequest, body, {LOOPBACK: bridge.settings.allow_loopback_callbacks})
    wanted = request.filter.to_dict(bridge.settings.default_region)
    known, parts = subscriptions(bridge), request.model_dump(exclude={"filter"})
    made = known.make(Subscription.new(event=event.name, wanted=wanted, **parts), request.secret)
    answer = succeeded(made.capability, 201)
    if not made.shown:
        # Before the answer: a subscriber without an answer repeats the request.
        catch_up(bridge.storage, made)
        answer["secret"] = made.secrets[0][0]
        # If this fails, the next answer has the secret again.
        with suppress(StorageUnavailable):
            known.change(made.id, lambda row: replace(row, shown=True))
    if made.disabled:
        set_disabled(bridge, made, False)
        Outbox(bridge.storage, made.id).try_now()
    return answer, {"Location": f"{base}/api/v2/webhooks/{made.capability}", ID_HEADER: made.id}


def unsubscribe(bridge: Bridge, id: str) -> dict[str, Any]:
    """
    End the subscription of a capability, if it exists.

    A capability has 32 hexadecimal digits. An id of the PBX's webhooks, a number, succeeds without effect: flows that
    were made at the PBX may still send one. Raises NotFound for anything else.
    """
    if not re.fullmatch(ID_PATTERN, id):
        raise NotFound("no id of a subscription")
    end(bridge, public_id(id.lower()))
    return succeeded(None)


def unsubscribe_address(bridge: Bridge, body: bytes) -> dict[str, Any]:
    """
    End all subscriptions of a callback address, if any exist.

    Raises ConfigError at the end if a subscription cannot be read, because it may have this address.
    """
    request = read_body(UnsubscribeRequest, body, {})
    matching, unreadable = subscriptions(bridge).of_address(request.endpoint)
    for subscription in matching:
        end(bridge, subscription.id)
    if unreadable:
        raise ConfigError(NO_KEY)
    return succeeded(None)


def rotate(bridge: Bridge, capability: str) -> dict[str, Any]:
    """Make a new secret for a subscription, and return it; the old one also signs for a day. Raises NotFound."""
    return succeeded(capability) | {"secret": subscriptions(bridge).rotate(public_id(capability.lower()))}


def rotate_by_id(bridge: Bridge, id: str) -> dict[str, Any]:
    """Make a new secret by the subscription's public id, for operators; raises NotFound."""
    return {"subscription": id, "secret": subscriptions(bridge).rotate(id)}


def listed(bridge: Bridge, part: slice = slice(None)) -> dict[str, Any]:
    """Return subscriptions with the state of their deliveries, oldest first, and without their callback addresses."""
    known = sorted(subscriptions(bridge).all(), key=lambda row: (row.created, row.id))[part]
    with ThreadPoolExecutor(_SIDE_BY_SIDE) as pool:
        states = pool.map(lambda row: Outbox(bridge.storage, row.id).state(), known)
        return succeeded([_listed(row, state) for row, state in zip(known, states, strict=True)])


def _listed(row: Subscription, state: State) -> dict[str, Any]:
    word = "unreadable" if not row.readable else "failing" if state.failing else "active" if state.at else "new"
    return {
        "id": row.id,
        "name": row.name or None,
        "event": row.event,
        "host": host_of(row.endpoint),
        "filter": dict(row.wanted),
        "shape": row.shape,
        "state": "disabled" if row.disabled else word,
        "created": iso(row.created),
        "disabled": _time(row.disabled),
        "failingSince": _time(state.failing),
        "waitsUntil": _time(state.resume),
        "lastResult": state.result or None,
        "lastAttempt": state.attempt or None,
        "lastTime": _time(state.at),
        "lastDelivered": _time(state.delivered),
        "milliseconds": state.milliseconds if state.at else None,
        "failures": state.failures,
    }


def _time(moment: datetime | None) -> str | None:
    return iso(moment) if moment and moment > EPOCH else None
