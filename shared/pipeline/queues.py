"""The queues' consumers: one table, and what happens to a message that nobody could use."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.errors import Unprocessable
from shared.json_bodies import encode
from shared.pipeline.process import process
from shared.storage.dead_letters import dead_letter
from shared.storage.messages import is_name, read

if TYPE_CHECKING:
    from collections.abc import Callable

    from shared.bridge import Bridge

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Consumer:
    """A row: a queue, the function that its messages start, and the kind its dead letters are of."""

    queue: str
    function: str
    kind: str
    run: Callable[[Bridge, bytes, int], None]

    @property
    def drain(self) -> str:
        """The name of the function that empties the queue's poison queue."""
        return f"Drain{self.queue.capitalize()}Poison"


def _copy_media(bridge: Bridge, body: bytes, attempt: int) -> None:
    from shared.media.copy import copy

    copy(bridge, read(bridge.storage, body))


def _deliver(bridge: Bridge, body: bytes, attempt: int) -> None:
    from shared.deliveries.drain import run

    run(bridge, body, attempt)


CONSUMERS: tuple[Consumer, ...] = (
    Consumer(queue="events", function="ProcessEvent", kind="event", run=process),
    Consumer(queue="media", function="CopyMedia", kind="media", run=_copy_media),
    Consumer(queue="deliveries", function="Deliver", kind="delivery", run=_deliver),
)


def consume(bridge: Bridge, consumer: Consumer, body: bytes, *, id: str, attempt: int) -> None:
    """Run a message; one that can never succeed becomes a dead letter at once, other failures go back to the queue."""
    try:
        consumer.run(bridge, body, attempt)
    except Unprocessable as error:
        dead_letter(bridge.storage, kind=consumer.kind, id=id, reason=str(error), body=body, attempts=attempt)


def drain(bridge: Bridge, consumer: Consumer, body: bytes, *, id: str, attempts: int) -> None:
    """Make a dead letter of a message that failed too often, under the id of its event where it tells one."""
    try:
        message = read(bridge.storage, body)
    except Unprocessable:
        message = {}
    name = f"{message['kind']}-{message.get('id')}" if "kind" in message else message.get("id")
    # The message itself, not its pointer: what a pointer leads to is cleared away in time.
    whole = encode(message) if message else body
    known = str(name) if is_name(name) else id
    dead_letter(bridge.storage, kind=consumer.kind, id=known, reason="failed too often", body=whole, attempts=attempts)
