"""Posting an outbox: a batch at a time, under a lease, until nothing is due or the time is over."""

from __future__ import annotations

import logging
import random
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from shared import people
from shared.deliveries import lifecycle
from shared.deliveries.fanout import WAKE, wake, wake_at
from shared.deliveries.outbox import Outbox
from shared.deliveries.policy import NEVER, judge
from shared.deliveries.post import Outcome, read_event, send_event
from shared.errors import Conflict, Unprocessable
from shared.events import store
from shared.json_bodies import encode
from shared.storage.dead_letters import dead_letter
from shared.subscriptions.store import subscriptions
from shared.times import now

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shared.bridge import Bridge
    from shared.deliveries.outbox import State
    from shared.deliveries.policy import Results, Ruling
    from shared.deliveries.post import Stored
    from shared.subscriptions.subscription import Subscription

logger = logging.getLogger(__name__)

BATCH = 8
# No batch is begun later: a function that runs for long is in the way of others, and of a deployment.
RUN_SECONDS = 20.0
# Every fourth time that a subscriber is down, one of its first hundred events is tried too: the oldest may be at fault.
_FOURTH, _CHOICE = 4, 100
# What is due in a moment is due: the message for it may be seen a little early by this instance's clock.
_SKEW = timedelta(seconds=1)
_RACES = 16


def run(bridge: Bridge, message: Mapping[str, Any]) -> None:
    """Do what a wake-up asks for; raises Unprocessable for another message."""
    id = message.get("subscription")
    if not isinstance(id, str) or message.get("kind") != WAKE:
        raise Unprocessable("the message asks for no delivery")
    drain(bridge, id)


def drain(bridge: Bridge, id: str) -> None:
    """Post what is due in an outbox, unless somebody else does; drop that of a subscription that is gone."""
    known, outbox, until = subscriptions(bridge), Outbox(bridge.storage, id), time.monotonic() + RUN_SECONDS
    if known.get(id) is None:
        if not outbox.drop(RUN_SECONDS):
            wake_at(bridge.storage, id, now())
        return
    with ThreadPoolExecutor(BATCH) as pool:
        # Each batch begins with a look at what is due, also after the last one: nothing that comes meanwhile is missed.
        while (one := known.get(id)) and one.readable and _post_batch(bridge, one, outbox, pool):
            if time.monotonic() > until:
                wake_at(bridge.storage, id, now())
                return


def _post_batch(bridge: Bridge, one: Subscription, outbox: Outbox, pool: ThreadPoolExecutor) -> bool:
    """Post the next events that are due; return False where there are none, or somebody else posts."""
    moment = now() + _SKEW
    state, places = outbox.read(moment, BATCH)
    if state.is_held(moment - _SKEW):
        return False
    if state.resume > moment:
        places = outbox.replays(moment, BATCH)
    elif state.rounds % _FOURTH == _FOURTH - 1 and len(places) == BATCH:
        _, found = outbox.read(moment, _CHOICE)
        places[-1] = random.choice(found[BATCH - 1 :])  # noqa: S311 - any will do
    if not places:
        return False
    # Read before the lease is taken: what fails here has posted nothing and holds up nobody.
    events = list(pool.map(partial(read_event, bridge.storage), [place.event for place in places]))
    if not outbox.take(state):
        return False
    outcomes = pool.map(partial(_post, bridge, one), events)
    _complete(bridge, one, outbox, state, list(zip(places, outcomes, strict=True)))
    return True


def _post(bridge: Bridge, one: Subscription, event: Stored | str) -> Outcome:
    if isinstance(event, str):
        return Outcome("lost", event, 0.0)
    try:
        outcome = send_event(bridge, one, event)
    except Exception as error:
        logger.exception("an event could not be sent")
        outcome = Outcome("failed", type(error).__name__, 0.0)
    logger.info("delivery of %s to %s: %s", event[0]["RowKey"], one.id, outcome.result)
    return outcome


def _complete(bridge: Bridge, one: Subscription, outbox: Outbox, state: State, results: Results) -> None:
    """Write down what follows from the answers, unless the outbox was taken over meanwhile."""
    holder = state.holder
    for _ in range(_RACES):
        ruling = judge(state, results, now(), disabled=one.disabled is not None, trying=one.trying)
        _carry_out(bridge, one, state, ruling)
        if outbox.complete(ruling):
            if ruling.gone:
                lifecycle.end(bridge, one.id, answer=ruling.gone)
            return
        state = outbox.state()
        if state.holder != holder:
            logger.info("the outbox of %s was taken over", one.id)
            return
    raise Conflict(f"the outbox of {one.id} kept changing")


def _carry_out(bridge: Bridge, one: Subscription, before: State, ruling: Ruling) -> None:
    """Do what has to be done before it is written down, each of it harmless twice."""
    for place, reason in ruling.dead:
        body = encode({"kind": "deliver", "subscription": one.id, "event": place.event})
        name = f"{one.id}-{place.event}"
        row = store.get(bridge.storage, place.event, select=["caller", "destination"])
        people.add_dead_letter(bridge.storage, bridge.settings.default_region, "delivery", name, row)
        dead_letter(bridge.storage, kind="delivery", id=name, reason=reason, body=body, attempts=place.tries)
        logger.warning("signal delivery_failed subscription=%s event=%s attempts=%d", one.id, place.event, place.tries)
    if ruling.disable:
        lifecycle.disable(bridge, one)
    if ruling.recover:
        lifecycle.recover(bridge, one)
    # A message for each time at which something is due again.
    for place in ruling.again:
        wake_at(bridge.storage, one.id, place.due)
    if before.resume < ruling.state.resume < NEVER:
        wake_at(bridge.storage, one.id, ruling.state.resume)


def wake_waiting(bridge: Bridge) -> None:
    """
    Wake the outboxes that have something due, for those whose message got lost.

    Secrets that are sealed by an older key are sealed by the newest on the way.
    """
    known = subscriptions(bridge)
    known.reseal()
    for one in known.all():
        moment = now()
        state, places = Outbox(bridge.storage, one.id).read(moment, 1)
        if places and not state.is_held(moment) and (state.resume <= moment or places[0].is_replay):
            wake(bridge.storage, one.id)
