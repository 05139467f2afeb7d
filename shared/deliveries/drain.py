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
from shared.deliveries.fanout import WAKE, wake
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
    from collections.abc import Mapping, Sequence

    from shared.bridge import Bridge
    from shared.deliveries.outbox import Place, State
    from shared.deliveries.policy import Results, Ruling
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
    outbox, until = Outbox(bridge.storage, id), time.monotonic() + RUN_SECONDS
    if subscriptions(bridge).get(id) is None:
        if not outbox.drop(RUN_SECONDS):
            wake(bridge.storage, id, now())
        return
    with ThreadPoolExecutor(BATCH) as pool:
        # Each batch begins with a look at what is due, also after the last one: nothing that comes meanwhile is missed.
        while (one := subscriptions(bridge).get(id)) and one.readable and _post_batch(bridge, one, outbox, pool):
            if time.monotonic() > until:
                wake(bridge.storage, id, now())
                return


def _post_batch(bridge: Bridge, one: Subscription, outbox: Outbox, pool: ThreadPoolExecutor) -> bool:
    """Post the next events that are due; return False where there are none, or somebody else posts."""
    moment = now() + _SKEW
    state, places = outbox.read(moment, BATCH)
    if state.is_held(now()):
        return False
    if state.resume > moment:
        places = outbox.replays(moment, BATCH)
    elif state.rounds % _FOURTH == _FOURTH - 1 and len(places) == BATCH:
        _, found = outbox.read(moment, _CHOICE)
        places[-1] = random.choice(found[BATCH - 1 :])  # noqa: S311 - any will do
    if not places:
        _wake_later(bridge, one.id, outbox, state)
        return False
    if not outbox.take(state):
        return False
    results, errors = _post_all(bridge, one, places, pool)
    _complete(bridge, one, outbox, state, results)
    if errors:
        raise errors[0]
    return True


def _post_all(
    bridge: Bridge, one: Subscription, places: Sequence[Place], pool: ThreadPoolExecutor
) -> tuple[list[tuple[Place, Outcome]], list[Exception]]:
    """Post events side by side; return the answers, and the errors of our own."""
    work = map if len(places) == 1 else pool.map
    found = list(work(partial(_post, bridge, one), places))
    results = [(place, outcome) for place, outcome in zip(places, found, strict=True) if isinstance(outcome, Outcome)]
    return results, [error for error in found if isinstance(error, Exception)]


def _post(bridge: Bridge, one: Subscription, place: Place) -> Outcome | Exception:
    try:
        outcome = send_event(bridge, one, read_event(bridge.storage, place.event))
    except Unprocessable as error:
        return Outcome("lost", str(error), 0.0)
    except Exception as error:  # noqa: BLE001 - raised once the answers to the others are written down
        return error
    logger.info("delivery of %s to %s: %s", place.event, one.id, outcome.result)
    return outcome


def _complete(bridge: Bridge, one: Subscription, outbox: Outbox, state: State, results: Results) -> None:
    """Write down what follows from the answers, unless the outbox was taken over meanwhile."""
    holder = state.holder
    for _ in range(_RACES):
        ruling = judge(state, results, now(), disabled=one.disabled is not None, trying=one.trying)
        _carry_out(bridge, one, ruling)
        if outbox.complete(ruling):
            break
        state = outbox.state()
        if state.holder != holder:
            logger.info("the outbox of %s was taken over", one.id)
            return
    else:
        raise Conflict(f"the outbox of {one.id} kept changing")
    if ruling.gone:
        lifecycle.end(bridge, one.id, answer=ruling.gone)


def _carry_out(bridge: Bridge, one: Subscription, ruling: Ruling) -> None:
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
    state, moment = ruling.state, now()
    state.later = state.later or bool(ruling.again)
    times = [place.due for place in ruling.again]
    at = min([*times, state.resume] if moment < state.resume < NEVER else times, default=None)
    if at is not None and not moment < state.wake <= at:
        wake(bridge.storage, one.id, at)
        state.wake = at


def _wake_later(bridge: Bridge, id: str, outbox: Outbox, state: State) -> None:
    """Have the outbox looked at when the next place is due, unless a message for it is on its way."""
    moment = now() + _SKEW
    if state.wake > moment or not (state.later or moment < state.resume < NEVER):
        return
    at = outbox.next_due(state, moment)
    state.later = at is not None
    if at is not None and at < NEVER:
        wake(bridge.storage, id, at)
        state.wake = at
    outbox.note(state)


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
