"""The queues' consumers: one table, and what happens to a message that failed."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shared.errors import Unprocessable
from shared.json_bodies import encode
from shared.storage.dead_letters import dead_letter
from shared.storage.messages import is_name, read
from shared.storage.retries import DOUBTED, Crashed, doubt, settle

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from shared.bridge import Bridge

    Message = Mapping[str, Any]

# A failure makes a new message: one that the queue brings so often, and then so often again, has ended its process.
_CRASHES = 5


@dataclass(frozen=True, slots=True)
class Consumer:
    """
    A row: a queue, the function that its messages start, and the kind its dead letters are of.

    `run` raises for a message that failed; what that means is for `storage/retries` to say. `work` names a message's
    work among the dead letters of its kind.
    """

    queue: str
    function: str
    kind: str
    run: Callable[[Bridge, Message], None]
    work: tuple[str, ...] = ("id",)

    @property
    def drain(self) -> str:
        """The name of the function that empties the queue's poison queue."""
        return f"Drain{self.queue.capitalize()}Poison"

    def work_of(self, message: Message) -> str | None:
        """What a message is about; None where it does not say."""
        parts = (str(message[part]) for part in self.work if message.get(part) not in (None, ""))
        name = "-".join(parts).replace(":", "")
        return name if is_name(name) else None


# Imported by the first message: no receiver's cold start waits for them.
def _process(bridge: Bridge, message: Message) -> None:
    from shared.pipeline.process import process

    process(bridge, message)


def _copy(bridge: Bridge, message: Message) -> None:
    from shared.media.copy import copy

    copy(bridge, message)


def _deliver(bridge: Bridge, message: Message) -> None:
    from shared.deliveries.drain import run

    run(bridge, message)


CONSUMERS: tuple[Consumer, ...] = (
    Consumer("events", "ProcessEvent", "event", _process),
    Consumer("media", "CopyMedia", "media", _copy, work=("kind", "id", "action")),
    Consumer("deliveries", "Deliver", "delivery", _deliver, work=("id", "since", "until", "token", "after")),
)


def consume(bridge: Bridge, consumer: Consumer, body: bytes, *, id: str, attempt: int) -> None:
    """
    Run a message; one that fails is put back, or becomes a dead letter.

    `id` is the queue's own name for the message, empty where somebody runs the function by hand, and `attempt` how
    often the queue has delivered it. Raises only where the message can be neither put back nor kept.
    """
    try:
        if attempt > _CRASHES:
            if not doubt(bridge.storage, consumer.queue, body):
                raise Crashed
            return
        message = read(bridge.storage, body)
        # What comes back of a run that ends is beyond doubt.
        message.pop(DOUBTED, None)
        consumer.run(bridge, {**message, "begun": True} if attempt > 1 else message)
    except Exception as error:  # noqa: BLE001 - every failure ends here, and one of a message is none of the function
        _settle(bridge, consumer, body, error, id)


def drain(bridge: Bridge, consumer: Consumer, body: bytes, *, id: str) -> None:
    """
    Bring a message back from the poison queue, which takes it where it could not be put back for hours.

    The second time it counts as a failure that nobody foresaw: after five it is a dead letter. Raises where storage is
    out of reach, and leaves it in the poison queue, which keeps it for seven days.
    """
    consume(bridge, consumer, body, id=id, attempt=_CRASHES + 1)


def _settle(bridge: Bridge, consumer: Consumer, body: bytes, error: Exception, id: str) -> None:
    def keep(reason: str, attempts: int) -> None:
        try:
            message = read(bridge.storage, body)
        except Unprocessable:
            message = {}
        # The message itself, not its pointer: what a pointer leads to is cleared away in time.
        whole = encode(message) if message else body
        known = consumer.work_of(message) or (id if is_name(id) else f"body-{hashlib.sha256(body).hexdigest()[:32]}")
        dead_letter(bridge.storage, kind=consumer.kind, id=known, reason=reason, body=whole, attempts=attempts)

    settle(bridge.storage, consumer.queue, body, error, keep)
