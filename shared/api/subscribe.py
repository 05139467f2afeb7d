"""Subscribing over HTTP: what a request may hold, and what it is answered."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationInfo, field_validator, model_validator

from shared.api.envelopes import succeeded
from shared.deliveries.fanout import catch_up
from shared.deliveries.outbox import Outbox
from shared.deliveries.standing import end, restore
from shared.deliveries.wakes import QUEUE
from shared.errors import ConfigError, NotFound
from shared.events.table import find_event
from shared.json_bodies import read_body
from shared.pbx.fields import Field, Shape
from shared.storage.account import reaching_storage
from shared.storage.messages import withdraw
from shared.subscriptions.endpoints import check_endpoint, host_of
from shared.subscriptions.filter import NAMES, Criteria
from shared.subscriptions.keys import NO_KEY
from shared.subscriptions.signatures import key_of
from shared.subscriptions.store import subscriptions
from shared.subscriptions.subscription import Subscription, public_id
from shared.times import iso

if TYPE_CHECKING:
    from shared.bridge import Bridge
    from shared.deliveries.entries import State

LOOPBACK = "allow_loopback"
ID_HEADER = "Subscription-Id"
ID_PATTERN = r"[0-9A-Fa-f]{32}|[0-9]{1,20}"

# What GetSubscriptions lists.
LISTED: Shape = (
    Field("id", "string", "ID of the subscription; the one that its subscriber has is a secret."),
    Field("event", "string", "Name of the event."),
    Field("host", "string", "Host that the event is posted to; the rest of the address is a secret."),
    Field("filter", "object", "Which events are posted."),
    Field("shape", "string", "native or cloudevents."),
    Field("state", "string", "new, active, failing, disabled or unreadable."),
    Field("created", "date-time", "When it was made."),
    Field("disabled", "date-time", "When it was disabled, after five days of failures alone."),
    Field("lastResult", "string", "Status or word that came of the last attempt."),
    Field("lastAttempt", "integer", "Which attempt at its event that was."),
    Field("lastTime", "date-time", "When that was."),
    Field("lastDelivered", "date-time", "When a delivery succeeded last, to within a minute."),
    Field("milliseconds", "integer", "How long the last answer took."),
    Field("failures", "integer", "Attempts that failed since the last success."),
)


class SubscribeRequest(BaseModel):
    """The body of a subscription; parts of the filter may stand beside `endpoint` as well."""

    model_config = ConfigDict(frozen=True, defer_build=True)

    endpoint: str
    filter: Criteria = Criteria.model_construct()
    shape: Literal["native", "cloudevents"] = "native"
    secret: str | None = None

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

    @field_validator("endpoint")
    @classmethod
    def _reachable(cls, url: str, info: ValidationInfo) -> str:
        check_endpoint(url, allow_loopback=bool((info.context or {}).get(LOOPBACK)))
        return url

    @field_validator("secret")
    @classmethod
    def _long_enough(cls, secret: str | None) -> str | None:
        if secret is not None:
            key_of(secret)
        return secret


class UnsubscribeRequest(BaseModel):
    """The body of an unsubscription by callback address."""

    model_config = ConfigDict(frozen=True, defer_build=True)

    endpoint: Annotated[str, StringConstraints(min_length=1)]


def subscribe(bridge: Bridge, name: str, body: bytes, base: str) -> tuple[dict[str, Any], dict[str, str]]:
    """
    Subscribe to the event of this name, in any spelling: the envelope and the headers to answer with.

    `Location` is the address that ends the subscription, `Subscription-Id` how it is called in lists and logs.

    `data` is the right to end it. A new subscription's envelope has its `secret` beside it, and no other has, unless
    none could be given yet: a request that ended in 503 may have been done. The same request again answers the same.
    Raises NotFound, TooLarge, NotJson, Invalid, TooManySubscriptions, or StorageUnavailable.
    """
    event = find_event(name)
    if event is None:
        raise NotFound("no such event")
    request = read_body(SubscribeRequest, body, {LOOPBACK: bridge.settings.allow_loopback_callbacks})
    asked = Subscription.new(
        event=event.name,
        endpoint=request.endpoint,
        wanted=request.filter.to_dict(bridge.settings.default_region),
        shape=request.shape,
        secret=request.secret,
    )
    known = subscriptions(bridge)
    with reaching_storage():
        # Asked for first: who dies in between leaves a look that finds nobody, never a subscriber who missed something.
        look = catch_up(bridge, asked)
        made, _ = known.make(replace(asked, created=look.inserted_on or asked.created), request.secret)
        # Ours may be there by a try whose answer was lost.
        if made.id != asked.id:
            withdraw(bridge.storage, QUEUE, look)
        if made.disabled:
            restore(bridge, made)
    secret = {}
    if not made.shown:
        secret = {"secret": made.secrets[0][0]}
        known.note_shown(made.id)
    base = bridge.settings.public_base_url.rstrip("/") or base
    headers = {"Location": f"{base}/api/v2/webhooks/{made.capability}", ID_HEADER: made.id}
    return succeeded(made.capability, 201) | secret, headers


def unsubscribe(bridge: Bridge, id: str) -> dict[str, Any]:
    """
    End the subscription that this is the right to; the answer is the same whether there was one or not.

    Ours have 32 hexadecimal digits. The PBX's own are numbers: a flow that comes from there may still send one, and
    must be able to end. Raises NotFound for what is neither.
    """
    if not re.fullmatch(ID_PATTERN, id):
        raise NotFound("no id of a subscription")
    with reaching_storage():
        end(bridge, public_id(id.lower()))
    return succeeded(None)


def unsubscribe_address(bridge: Bridge, body: bytes) -> dict[str, Any]:
    """
    End all that a callback address is subscribed to; the same answer if that is nothing.

    Raises ConfigError, after it has ended what it found, where a subscription cannot be read: it may be one of them.
    """
    request = read_body(UnsubscribeRequest, body, {})
    with reaching_storage():
        found, unreadable = subscriptions(bridge).of_address(request.endpoint)
        for one in found:
            end(bridge, one.id)
    if unreadable:
        raise ConfigError(NO_KEY)
    return succeeded(None)


def rotate(bridge: Bridge, capability: str) -> dict[str, Any]:
    """Give a subscription a new secret, which is in the answer; the old one signs too for a day. Raises NotFound."""
    return succeeded(capability) | {"secret": rotate_by_id(bridge, public_id(capability.lower()))["secret"]}


def rotate_by_id(bridge: Bridge, id: str) -> dict[str, Any]:
    """The same by the subscription's public id, for whoever runs the bridge."""
    with reaching_storage():
        return {"subscription": id, "secret": subscriptions(bridge).rotate(id)}


def listed(bridge: Bridge) -> dict[str, Any]:
    """Every subscription with what became of its deliveries; of its callback address the host alone."""
    with reaching_storage():
        everybody = sorted(subscriptions(bridge).all(), key=lambda one: (one.created, one.id))
        return succeeded([_listed(one, Outbox(bridge.storage, one.id).state()) for one in everybody])


def _listed(one: Subscription, state: State) -> dict[str, Any]:
    word = "unreadable" if not one.readable else "failing" if state.failing else "active" if state.at else "new"
    return {
        "id": one.id,
        "event": one.event,
        "host": host_of(one.endpoint),
        "filter": dict(one.wanted),
        "shape": one.shape,
        "state": word if one.active else "disabled",
        "created": iso(one.created),
        "disabled": iso(one.disabled) if one.disabled else None,
        "lastResult": state.result or None,
        "lastAttempt": state.attempt or None,
        "lastTime": iso(state.at) if state.at else None,
        "lastDelivered": iso(state.delivered) if state.delivered else None,
        "milliseconds": state.milliseconds if state.at else None,
        "failures": state.failures,
    }
