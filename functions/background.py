"""
Timer and queue triggers.

Each resource has a timer that polls it; one timer polls lost calls, and one does all other periodic work. Each
consumer's queue has a trigger, and so has its poison queue.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import azure.functions as func

from shared.bridge import Bridge, bridge
from shared.pbx.resources import RESOURCES, Resource
from shared.pipeline.queues import CONSUMERS, DELIVERIES, Consumer, Message, consume
from shared.settings import DATA_STORAGE
from shared.settings import schedule as schedule_of
from shared.storage.account import POISON

blueprint = func.Blueprint()


# Imports are inside these functions, so that no receiver's cold start loads them.
def _poll(bridge: Bridge, resource: Resource) -> None:
    from shared.polling.poll import poll

    poll(bridge, resource)


def _poll_lost_calls(bridge: Bridge) -> None:
    from shared.polling.poll import poll_lost_calls

    poll_lost_calls(bridge)


def _look_after(bridge: Bridge) -> None:
    from functions.look_after import look_after

    look_after(bridge)


def _serve_person(bridge: Bridge, message: Message) -> None:
    from shared.privacy.jobs import run

    run(bridge, message)


TIMERS: tuple[tuple[str, str, Callable[[Bridge], object]], ...] = (
    *((row.function, row.schedule, partial(_poll, resource=row)) for row in RESOURCES),
    ("PollLostCalls", "POLL_LOST_CALLS_SCHEDULE", _poll_lost_calls),
    ("LookAfter", "LOOK_AFTER_SCHEDULE", _look_after),
)
# The consumers of the pipeline and of shared/privacy, which the pipeline may not import.
ALL_CONSUMERS: tuple[Consumer, ...] = (*CONSUMERS, Consumer("privacy", "ServePerson", "privacy", _serve_person))


def runs_often(schedule: str) -> bool:
    """
    Return True if an NCRONTAB schedule runs several times in every hour.

    Such a timer needs no schedule monitor of the host, which costs some writes a run: the next run, minutes later,
    makes up for a missed one.
    """
    _, minute, *later = schedule.split()
    return later == ["*"] * 4 and (minute == "*" or "/" in minute)


def _register_timer(name: str, schedule: str, work: Callable[[Bridge], object]) -> None:
    @blueprint.function_name(name)
    @blueprint.timer_trigger(
        "timer",
        schedule=f"%{schedule}%",
        # The app's address or key may have changed while it was stopped.
        run_on_startup=name == "LookAfter",
        use_monitor=not runs_often(schedule_of(schedule)),
    )
    def run(timer: func.TimerRequest) -> None:
        work(bridge())


def _register_queue(consumer: Consumer) -> None:
    @blueprint.function_name(consumer.function)
    @blueprint.queue_trigger("msg", consumer.queue, DATA_STORAGE)
    def run(msg: func.QueueMessage) -> None:
        consume(bridge(), consumer, msg.get_body(), id=msg.id or "", attempt=msg.dequeue_count or 1)

    @blueprint.function_name(f"Drain{consumer.queue.capitalize()}Poison")
    @blueprint.queue_trigger("msg", consumer.queue + POISON, DATA_STORAGE)
    def drain(msg: func.QueueMessage) -> None:
        # Handled as delivered too often; a poison queue would delete the message after seven days.
        consume(bridge(), consumer, msg.get_body(), id=msg.id or "", attempt=DELIVERIES + 1)


for _timer in TIMERS:
    _register_timer(*_timer)
for _consumer in ALL_CONSUMERS:
    _register_queue(_consumer)
