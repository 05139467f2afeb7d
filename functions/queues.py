"""Queue triggers: one for each consumer, and one for its poison queue."""

from __future__ import annotations

from typing import TYPE_CHECKING

import azure.functions as func

from shared.bridge import bridge
from shared.pipeline.queues import CONSUMERS, Consumer, consume, drain
from shared.settings import DATA_STORAGE
from shared.storage.account import POISON

if TYPE_CHECKING:
    from shared.bridge import Bridge
    from shared.pipeline.queues import Message

blueprint = func.Blueprint()


# Imported by the first message: no receiver's cold start waits for it.
def _serve_person(bridge: Bridge, message: Message) -> None:
    from shared.privacy.jobs import run

    run(bridge, message)


# The pipeline's, and the one that stands above it.
ALL: tuple[Consumer, ...] = (*CONSUMERS, Consumer("privacy", "ServePerson", "privacy", _serve_person))


def _register(consumer: Consumer) -> None:
    @blueprint.function_name(consumer.function)
    @blueprint.queue_trigger("msg", consumer.queue, DATA_STORAGE)
    def run(msg: func.QueueMessage) -> None:
        consume(bridge(), consumer, msg.get_body(), id=msg.id or "", attempt=msg.dequeue_count or 1)

    @blueprint.function_name(consumer.drain)
    @blueprint.queue_trigger("msg", consumer.queue + POISON, DATA_STORAGE)
    def dead_letter(msg: func.QueueMessage) -> None:
        drain(bridge(), consumer, msg.get_body(), id=msg.id or "")


for _consumer in ALL:
    _register(_consumer)
