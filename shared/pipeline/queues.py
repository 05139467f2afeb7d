"""The consumers of the queues, one a row, and the handling of messages that fail."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from shared import people
from shared.bridge import Bridge
from shared.errors import Unprocessable
from shared.storage.messages import (
    Crashed,
    PayloadGone,
    dead_letter,
    delete_payload,
    fetch,
    handle_failure,
    is_name,
    parse,
)
from shared.values import encode

Message = Mapping[str, Any]

# A failed run puts a new message on the queue, so no run of a message that is delivered more often has ended.
DELIVERIES = 5


@dataclass(frozen=True, slots=True)
class Consumer:
    """
    A row: a queue, the function that its messages start, and the kind of its dead letters.

    `run` raises the error of a failed message, and `storage.messages` decides what follows. The fields in `work`
    identify a message's work among the dead letters of its kind.
    """

    queue: str
    function: str
    kind: str
    run: Callable[[Bridge, Message], None]
    work: tuple[str, ...] = ("id",)


# Imported by the first message: no receiver's cold start waits for them.
def _process(bridge: Bridge, message: Message) -> None:
    from shared.pipeline.process import process

    process(bridge, message)


def _copy(bridge: Bridge, message: Message) -> None:
    from shared.media.copy import copy

    copy(bridge, message)


def _deliver(bridge: Bridge, message: Message) -> None:
    from shared.deliveries.drain import drain
    from shared.deliveries.outbox import RANGE, WAKE

    kind, id = message.get("kind"), message.get("subscription")
    if kind == RANGE:
        from shared.pipeline.replay import run_range

        run_range(bridge, message)
    elif kind == WAKE and isinstance(id, str):
        drain(bridge, id)
    else:
        raise Unprocessable("the message asks for no delivery")


CONSUMERS: tuple[Consumer, ...] = (
    Consumer("events", "ProcessEvent", "event", _process),
    Consumer("media", "CopyMedia", "media", _copy, work=("kind", "id", "action")),
    Consumer("deliveries", "Deliver", "delivery", _deliver, work=("id", "since", "until", "token", "after")),
)


def consume(bridge: Bridge, consumer: Consumer, body: bytes, *, id: str, attempt: int) -> None:
    """
    Run a message; if it fails, put it back or keep it as a dead letter.

    `id` is the queue's own id of the message, empty if the function is run by hand, and `attempt` counts its
    deliveries. Raises only if the message can be neither put back nor kept.
    """
    message: Message = {}
    try:
        message = parse(body)
        if attempt > DELIVERIES:
            raise Crashed("the process ended while it worked on this message, again and again")
        whole = fetch(bridge.storage, message)
        consumer.run(bridge, {**whole, "begun": True} if attempt > 1 else whole)
        delete_payload(bridge.storage, message)
    except Exception as error:  # noqa: BLE001 - a message may fail in any way, and its function goes on
        # A payload that is gone was deleted by an earlier run, which died before the queue knew, or by an erasure.
        if not isinstance(error, PayloadGone) or (attempt == 1 and "tries" not in message):
            keep = partial(_dead_letter, bridge, consumer, message, body=body, id=id)
            handle_failure(bridge.storage, consumer.queue, message, error, keep)


def _dead_letter(
    bridge: Bridge, consumer: Consumer, message: Message, reason: str, attempts: int, *, body: bytes, id: str
) -> None:
    # The whole message, not its pointer, whose blob is deleted below.
    whole: Message = {}
    with suppress(Unprocessable):
        whole = fetch(bridge.storage, message)
    body = encode(whole) if whole else body
    parts = (str(whole[name]) for name in consumer.work if whole.get(name) not in (None, ""))
    names = ("-".join(parts).replace(":", ""), id, f"body-{hashlib.sha256(body).hexdigest()[:32]}")
    name = next(filter(is_name, names))
    envelope = whole.get("body")
    record = envelope.get("data") if isinstance(envelope, dict) else whole.get("record")
    people.add_dead_letter(bridge.storage, bridge.settings.default_region, consumer.kind, name, record)
    dead_letter(bridge.storage, kind=consumer.kind, id=name, reason=reason, body=body, attempts=attempts)
    delete_payload(bridge.storage, message)
