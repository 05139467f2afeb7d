"""Deliveries: each event to each subscriber once, signed, and tried again over days without keeping others waiting."""

from __future__ import annotations

import logging
import random
import time
from datetime import timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from shared.deliveries.fanout import QUEUE, run_range
from shared.deliveries.post import Outcome, post
from shared.deliveries.throttle import Busy, Throttle
from shared.errors import Unprocessable
from shared.events.event import row_envelope
from shared.events.store import PARTITION, TABLE
from shared.json_bodies import encode
from shared.once import once
from shared.storage.dead_letters import dead_letter
from shared.storage.messages import read, send
from shared.subscriptions import log as delivery_log
from shared.subscriptions import signatures
from shared.subscriptions.store import subscriptions
from shared.times import iso, now, parse_time

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shared.bridge import Bridge
    from shared.storage.account import Storage
    from shared.subscriptions.subscription import Subscription

logger = logging.getLogger(__name__)

KIND = "delivery"
CLAIMS = "deliveries"
# Seconds before each attempt; after the last one the delivery is a dead letter.
SCHEDULE = (0, 5, 60, 300, 1800, 7200, 18_000, 36_000, 86_400)
JITTER = 0.1
# A message that waits for its subscriber without an attempt comes back ever later, and not for ever.
_LONGEST_DEFERRAL = 64
_OLDEST = timedelta(days=5)
# What was on its way when the subscription was disabled finds out each hour whether it works again.
PROBE_SECONDS = 3600
_PROBES = 24 * 30
_BODIES = 128

Row = dict[str, Any]


def run(bridge: Bridge, body: bytes, attempt: int) -> None:
    """
    Do what a message of queue `deliveries` asks; `attempt` is the queue's dequeue count.

    A delivery that fails is put back with the delay of its next attempt. Raises Unprocessable for a message that
    is none, and StorageUnavailable and the like for the queue to try again.
    """
    message = read(bridge.storage, body)
    kind = message.get("kind")
    if kind == "deliver":
        _deliver(bridge, message, attempt > 1)
    elif kind == "range":
        run_range(bridge, message)
    else:
        raise Unprocessable("the message asks for no delivery")


def _deliver(bridge: Bridge, message: Mapping[str, Any], seen: bool) -> None:
    try:
        event, _, tries = str(message["event"]), message["token"], int(message["attempt"])
        parse_time(message["first"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Unprocessable("the message names no delivery") from error
    one = subscriptions(bridge.storage).get(str(message["subscription"]))
    if one is None:
        return
    if not one.active and "probes" not in message:
        _dead_letter(bridge, message, "the subscription is disabled")
        return
    try:
        with gates(bridge.storage).passing(one.id):
            if not _claim(bridge.storage, message, known=bool(tries or seen)):
                return
            outcome = _send(bridge, one, event)
            failures = gates(bridge.storage).note(
                one.id, delivered=outcome.verdict == "delivered", seconds=outcome.seconds
            )
    except Busy as busy:
        _defer(bridge, message, busy.seconds)
        return
    logger.info("delivery of %s to %s: %s, %d failed in a row", event, one.id, outcome.result, failures)
    _conclude(bridge, one, message, outcome)


def _send(bridge: Bridge, one: Subscription, event: str) -> Outcome:
    from shared.deliveries.formats import shaped

    content_type, body = shaped(bridge.settings, one.shape, *_event(bridge.storage, event))
    stamp = int(time.time())
    headers = signatures.headers(one.signing(stamp), event, stamp, body)
    headers |= {"Content-Type": content_type, "User-Agent": "pbx-azure-bridge"}
    return post(one.endpoint, body, headers, allow_loopback=bridge.settings.allow_loopback_callbacks)


def _conclude(bridge: Bridge, one: Subscription, message: Mapping[str, Any], outcome: Outcome) -> None:
    tries = int(message["attempt"])
    if outcome.verdict == "gone":
        logger.warning("subscription %s ended: its subscriber answered %s", one.id, outcome.result)
        delivery_log.end(bridge.storage, one.id)
        return
    if outcome.verdict == "delivered":
        _close(bridge.storage, message, outcome.result, tries + 1)
    delivery_log.note(bridge, one, outcome, tries)
    if outcome.verdict == "failed":
        _again(bridge, one, message, outcome)


def _again(bridge: Bridge, one: Subscription, message: Mapping[str, Any], outcome: Outcome) -> None:
    tries, probes = int(message["attempt"]) + 1, message.get("probes")
    known = subscriptions(bridge.storage).get(one.id)
    if known is not None and not known.active:
        # The delivery that found out goes on as the probe; there is one a subscription.
        if probes is None and one.active:
            probes = 0
        if probes is not None and probes < _PROBES:
            _put_back(bridge, {**message, "attempt": tries, "probes": probes + 1}, PROBE_SECONDS)
            return
        _dead_letter(bridge, {**message, "attempt": tries}, "the subscription is disabled")
    elif tries >= len(SCHEDULE):
        _dead_letter(bridge, {**message, "attempt": tries}, f"the last attempt: {outcome.result}")
    else:
        delay = max(SCHEDULE[tries] * random.uniform(1 - JITTER, 1 + JITTER), outcome.wait)  # noqa: S311 - jitter
        _put_back(bridge, {**message, "attempt": tries, "deferred": 0}, delay)


def _defer(bridge: Bridge, message: Mapping[str, Any], seconds: float) -> None:
    """Put a message back without an attempt: each time later, so that a long backlog costs others little."""
    if "probes" not in message and now() - parse_time(message["first"]) > _OLDEST:
        _dead_letter(bridge, message, "the subscriber stayed busy or out of reach")
        return
    deferred = int(message.get("deferred", 0))
    delay = max(seconds, min(2**deferred, _LONGEST_DEFERRAL) * random.uniform(0.75, 1.25))  # noqa: S311 - jitter
    _put_back(bridge, {**message, "deferred": min(deferred + 1, 10)}, delay)


def _put_back(bridge: Bridge, message: Mapping[str, Any], delay: float) -> None:
    # Before the host deletes the old one: dying in between leaves two, never none.
    send(bridge.storage, QUEUE, message, name=str(message["id"]), delay=max(1, round(delay)))


def _dead_letter(bridge: Bridge, message: Mapping[str, Any], reason: str) -> None:
    id, event, tries = str(message["subscription"]), str(message["event"]), int(message["attempt"])
    dead_letter(bridge.storage, kind=KIND, id=str(message["id"]), reason=reason, body=encode(message), attempts=tries)
    _close(bridge.storage, message, "dead letter", tries)
    logger.warning("signal delivery_failed subscription=%s event=%s attempts=%d", id, event, tries)


def _claim(storage: Storage, message: Mapping[str, Any], *, known: bool) -> bool:
    """
    Make an event's delivery to a subscription this message's own; False when it is done, or another message's.

    The row is inserted once. Only a message that was on the queue before, or whose insert got no answer, reads it.
    """
    from azure.core.exceptions import (
        ResourceExistsError,
        ResourceNotFoundError,
        ServiceRequestError,
        ServiceResponseError,
    )

    table, row = storage.table(CLAIMS), _claimed(message)
    if message.get("again") and not known:
        _write(storage, row)
        return True
    if not known:
        try:
            table.create_entity(row)
            return True
        except (ResourceExistsError, ServiceRequestError, ServiceResponseError):
            logger.debug("claimed before, or perhaps just now")
    try:
        found = table.get_entity(row["PartitionKey"], row["RowKey"])
    except ResourceNotFoundError:
        _write(storage, row)
        return True
    return found["token"] == message["token"] and not found.get("result")


def _close(storage: Storage, message: Mapping[str, Any], result: str, attempts: int) -> None:
    _write(storage, _claimed(message) | {"result": result, "attempts": attempts})


def _write(storage: Storage, row: Row) -> None:
    from azure.data.tables import UpdateMode

    # Replacing is sent again where a connection breaks, merging is not; and a post that is not noted is made twice.
    storage.table(CLAIMS).upsert_entity(row, mode=UpdateMode.REPLACE)


def _claimed(message: Mapping[str, Any]) -> Row:
    keys = {"PartitionKey": str(message["subscription"]), "RowKey": str(message["event"])}
    return {**keys, "token": str(message["token"]), "at": iso(now())}


@lru_cache(maxsize=_BODIES)
def _event(storage: Storage, id: str) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """The row of an event, and its envelope; raises Unprocessable when it is gone."""
    from azure.core.exceptions import ResourceNotFoundError

    try:
        row = storage.table(TABLE).get_entity(PARTITION, id)
    except ResourceNotFoundError as error:
        raise Unprocessable("the event is gone") from error
    return row, row_envelope(storage, row)


@once
def gates(storage: Storage) -> Throttle:
    """This process's gates to the subscribers in a storage account."""
    return Throttle()
