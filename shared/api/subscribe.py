"""Subscribing over HTTP: the requests, their answers, and the list of subscriptions."""

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
    Field("name", "string", "Name that it was given."),
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
# An expression in a flow yields a number as text.
_spelt = BeforeValidator(lambda value: value if (number := identifier(value)) is None else number)
ContactId = Annotated[int, Limits(ge=1, le=LARGEST_ID, strict=True), _spelt]
_NUMBERS = ("caller", "destination")


class Criteria(BaseModel, extra="forbid", frozen=True, defer_build=True):
    """A filter: an event has to meet every part of it that is there."""

    direction: Literal["in", "out"] | None = None
    contact_id: ContactId | None = None
    caller: Number | None = None
    destination: Number | None = None
    prefix: Annotated[str, AfterValidator(_prefix)] | None = None

    def to_dict(self, region: str) -> dict[str, Any]:
        """Return the parts that are there, as JSON; numbers in E.164, so that equal requests are equal."""
        given = self.model_dump(exclude_none=True)
        return given | {name: e164(given[name], region) or given[name] for name in _NUMBERS if name in given}


NAMES = tuple(Criteria.model_fields)


def _secret(text: str) -> str:
    key_of(text)
    return text


def _endpoint(url: str, info: ValidationInfo) -> str:
    """
    Return an address that events may be posted to; raise ValueError unless it is https, and has no user.

    The context's LOOPBACK accepts this machine as well, by http too. Where a name leads is checked at each connection.
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
    """The body of a subscription; parts of the filter may stand beside `endpoint` as well."""

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
        given = {name: part for name, part in value.items() if part is not None}
        beside = {name: given.pop(name) for name in NAMES if name in given}
        inside = given.get("filter", {})
        if beside and isinstance(inside, dict):
            given["filter"] = {**inside, **beside}
        return given


class UnsubscribeRequest(BaseModel, frozen=True, defer_build=True):
    """The body of an unsubscription by callback address."""

    endpoint: Annotated[str, StringConstraints(min_length=1)]


def subscribe(bridge: Bridge, name: str, body: bytes, base: str) -> tuple[dict[str, Any], dict[str, str]]:
    """
    Subscribe to the event of this name, in any spelling; return envelope and headers.

    `Location` is the address that ends the subscription, `Subscription-Id` its public id, and `data` the right to end
    it. The first answer alone has `secret`: a repeat of a request that ended in 503 is answered as the first. Raises
    NotFound, Refused, or StorageUnavailable.
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
        # Before the answer: whoever gets none asks again.
        catch_up(bridge.storage, made)
        answer["secret"] = made.secrets[0][0]
        # Where this fails the next answer has the secret again.
        with suppress(StorageUnavailable):
            known.change(made.id, lambda one: replace(one, shown=True))
    if made.disabled:
        set_disabled(bridge, made, False)
        Outbox(bridge.storage, made.id).try_now()
    return answer, {"Location": f"{base}/api/v2/webhooks/{made.capability}", ID_HEADER: made.id}


def unsubscribe(bridge: Bridge, id: str) -> dict[str, Any]:
    """
    End the subscription of a capability; the answer is the same where there is none.

    A capability has 32 hexadecimal digits. The PBX's own ids are numbers: a flow that comes from there may still send
    one, and must be able to end. Raises NotFound for anything else.
    """
    if not re.fullmatch(ID_PATTERN, id):
        raise NotFound("no id of a subscription")
    end(bridge, public_id(id.lower()))
    return succeeded(None)


def unsubscribe_address(bridge: Bridge, body: bytes) -> dict[str, Any]:
    """
    End all subscriptions of a callback address; the answer is the same where there are none.

    Raises ConfigError, after it has ended what it found, where a subscription cannot be read: it may be one of them.
    """
    request = read_body(UnsubscribeRequest, body, {})
    found, unreadable = subscriptions(bridge).of_address(request.endpoint)
    for one in found:
        end(bridge, one.id)
    if unreadable:
        raise ConfigError(NO_KEY)
    return succeeded(None)


def rotate(bridge: Bridge, capability: str) -> dict[str, Any]:
    """Give a subscription a new secret, and return it; the old one signs too for a day. Raises NotFound."""
    return succeeded(capability) | {"secret": subscriptions(bridge).rotate(public_id(capability.lower()))}


def rotate_by_id(bridge: Bridge, id: str) -> dict[str, Any]:
    """Do the same by the subscription's public id, for operators."""
    return {"subscription": id, "secret": subscriptions(bridge).rotate(id)}


def listed(bridge: Bridge, part: slice = slice(None)) -> dict[str, Any]:
    """Return subscriptions with the results of their deliveries, the oldest first; of an address, only the host."""
    everybody = sorted(subscriptions(bridge).all(), key=lambda one: (one.created, one.id))[part]
    with ThreadPoolExecutor(_SIDE_BY_SIDE) as pool:
        states = pool.map(lambda one: Outbox(bridge.storage, one.id).state(), everybody)
        return succeeded([_listed(one, state) for one, state in zip(everybody, states, strict=True)])


def _listed(one: Subscription, state: State) -> dict[str, Any]:
    word = "unreadable" if not one.readable else "failing" if state.failing else "active" if state.at else "new"
    return {
        "id": one.id,
        "name": one.name or None,
        "event": one.event,
        "host": host_of(one.endpoint),
        "filter": dict(one.wanted),
        "shape": one.shape,
        "state": "disabled" if one.disabled else word,
        "created": iso(one.created),
        "disabled": _time(one.disabled),
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
