"""Queue triggers: one for each consumer, and one for its poison queue."""

from __future__ import annotations

import azure.functions as func

from shared.bridge import bridge
from shared.pipeline.queues import CONSUMERS, Consumer, consume, drain
from shared.privacy.jobs import CONSUMER as OF_PEOPLE
from shared.settings import DATA_STORAGE
from shared.storage.account import POISON

blueprint = func.Blueprint()


def _register(consumer: Consumer) -> None:
    @blueprint.function_name(consumer.function)
    @blueprint.queue_trigger("msg", consumer.queue, DATA_STORAGE)
    def run(msg: func.QueueMessage) -> None:
        consume(bridge(), consumer, msg.get_body(), id=msg.id or "", attempt=msg.dequeue_count or 1)

    @blueprint.function_name(consumer.drain)
    @blueprint.queue_trigger("msg", consumer.queue + POISON, DATA_STORAGE)
    def dead_letter(msg: func.QueueMessage) -> None:
        drain(bridge(), consumer, msg.get_body(), id=msg.id or "")


for _consumer in (*CONSUMERS, OF_PEOPLE):
    _register(_consumer)
