"""
Posts an outbox: a batch at a time, under a lease, until nothing is due or the time is over.

A batch is posted side by side, judged by its answers, and completed in one transaction. A failing event is tried again
on a schedule of its own. A failing subscriber waits as a whole, longer each time, and is disabled after days.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial

from shared import people
from shared.bridge import Bridge
from shared.deliveries.outbox import DEAD_LETTER, EPOCH, Outbox, Place, State, end, set_disabled
from shared.deliveries.post import Outcome, Stored, read_event, send_event
from shared.events import store
from shared.storage.messages import dead_letter
from shared.subscriptions import Subscription, subscriptions
from shared.times import now
from shared.values import encode

logger = logging.getLogger(__name__)

BATCH = 8
# No batch is begun later: a function that runs for long is in the way of others, and of a deployment.
RUN_SECONDS = 20.0
# Events that are due within a second count as due: by this instance's clock their message may arrive early.
_SKEW = timedelta(seconds=1)
# Seconds before each further try of an event that is refused while others succeed; then it is a dead letter.
SCHEDULE = (5, 60, 300, 1800, 7200, 18_000, 36_000, 86_400)
# Answers that refuse an event, whatever its subscriber's state: it keeps its schedule while the subscriber is down.
REFUSED = ("400", "413", "415", "422")
# The subscriber is down after the first tries of so many events have failed, with no success in between.
DOWN_AFTER = 5
# Seconds until a subscriber that is down is tried again, doubled each time up to the longest.
FIRST_WAIT, LONGEST_WAIT = 10.0, 3600.0
# The time without a success until a subscription is disabled, and until it is tried no more.
DISABLED_AFTER, TRIED_FOR = timedelta(days=5), timedelta(days=35)
NEVER = datetime(2100, 1, 1, tzinfo=EPOCH.tzinfo)
JITTER = 0.1

Results = Sequence[tuple[Place, Outcome]]


def drain(bridge: Bridge, id: str) -> None:
    """Post an outbox's due events, unless another process does; drop the outbox of an ended subscription."""
    known, outbox, until = subscriptions(bridge), Outbox(bridge.storage, id), time.monotonic() + RUN_SECONDS
    if known.get(id) is None:
        if not outbox.drop(RUN_SECONDS):
            outbox.wake(now())
        return
    with ThreadPoolExecutor(BATCH) as pool:
        # Look for due events after the last batch too, so that events that arrive meanwhile are not missed.
        while (subscription := known.get(id)) and subscription.readable:
            if not _post_batch(bridge, subscription, outbox, pool):
                return
            if time.monotonic() > until:
                outbox.wake(now())
                return


def wake_waiting(bridge: Bridge) -> None:
    """
    Wake the outboxes with due events, in case their messages were lost.

    Secrets that an older key has sealed are sealed again with the newest.
    """
    known = subscriptions(bridge)
    known.reseal()
    for subscription in known.all():
        outbox, moment = Outbox(bridge.storage, subscription.id), now()
        state, places = outbox.due(moment, 1)
        if places and not (state.holder and state.until > moment):
            outbox.wake()


def _post_batch(bridge: Bridge, subscription: Subscription, outbox: Outbox, pool: ThreadPoolExecutor) -> bool:
    """Post the next due events; return False if there are none, or another process posts."""
    moment = now()
    state, places = outbox.due(moment + _SKEW, BATCH)
    if not places or (state.holder and state.until > moment):
        return False
    # Read before the lease is taken: a failure here has posted nothing and holds up no other process.
    events = list(pool.map(partial(read_event, bridge.storage), [place.event for place in places]))
    if not outbox.take(state):
        return False
    outcomes = pool.map(partial(_post, bridge, subscription), events)
    _complete(bridge, subscription, outbox, state, list(zip(places, outcomes, strict=True)))
    return True


def _post(bridge: Bridge, subscription: Subscription, event: Stored | str) -> Outcome:
    if isinstance(event, str):
        return Outcome("lost", event)
    try:
        outcome = send_event(bridge, subscription, event)
    except Exception as error:
        logger.exception("an event could not be sent")
        outcome = Outcome("failed", type(error).__name__)
    logger.info("delivery of %s to %s: %s", event[0]["RowKey"], subscription.id, outcome.result)
    return outcome


def _complete(bridge: Bridge, subscription: Subscription, outbox: Outbox, state: State, results: Results) -> None:
    """
    Store the ruling on a batch's answers, unless another process has taken over the outbox.

    If an operator has changed the state since the batch began, the answers are judged again; twice is harmless.
    """
    holder = state.holder
    while state.holder == holder:
        ruling = judge(state, results, now(), subscription)
        finished = ruling.delivered.copy()
        for place, reason in ruling.dead:
            _dead_letter(bridge, subscription, place, reason)
            finished.append((place, DEAD_LETTER))
        if ruling.disabled is not None:
            set_disabled(bridge, subscription, ruling.disabled)
        # Send a message for each time at which an event is due again. While the subscriber is down, LookAfter finds it.
        for place in ruling.again:
            if place.is_replay or not ruling.state.rounds:
                outbox.wake(place.due)
        if state.resume < ruling.state.resume < NEVER:
            outbox.wake(ruling.state.resume)
        if outbox.complete(ruling.state, finished, ruling.again):
            if ruling.gone:
                end(bridge, subscription.id, answer=ruling.gone)
            return
        state = outbox.state()
    logger.info("the outbox of %s was taken over", subscription.id)


def _dead_letter(bridge: Bridge, subscription: Subscription, place: Place, reason: str) -> None:
    body = encode({"kind": "deliver", "subscription": subscription.id, "event": place.event})
    name = f"{subscription.id}-{place.event}"
    row = store.get(bridge.storage, place.event, select=["caller", "destination"])
    people.add_dead_letter(bridge.storage, bridge.settings.default_region, "delivery", name, row)
    dead_letter(bridge.storage, kind="delivery", id=name, reason=reason, body=body, attempts=place.tries)
    logger.warning(
        "signal delivery_failed subscription=%s event=%s attempts=%d", subscription.id, place.event, place.tries
    )


@dataclass(slots=True)
class Ruling:
    """The consequences of a batch's answers: the new state, and the places that are finished or due again."""

    state: State
    # Places with the result for their marker, and with the reason for their dead letter.
    delivered: list[tuple[Place, str]] = field(default_factory=list)
    dead: list[tuple[Place, str]] = field(default_factory=list)
    again: list[Place] = field(default_factory=list)
    # The status of an answer that ends the subscription.
    gone: str = ""
    # True to disable the subscription, False if it has recovered.
    disabled: bool | None = None


def judge(state: State, results: Results, moment: datetime, subscription: Subscription) -> Ruling:
    """
    Return the ruling on a batch's answers, computed from these values alone.

    A failed event gets a schedule of its own. While the subscriber is down, or asks for a pause, events stay as they
    are, except those that it refuses, which would hold up all others. Replays do not change the state.
    """
    ruling, answered = Ruling(replace(state, holder="")), ("delivered", "failed")
    tried = [(place, outcome) for place, outcome in results if outcome.verdict in answered and not place.is_replay]
    is_down = bool(tried) and _judge_subscriber(ruling, tried, moment, subscription)
    for place, outcome in results:
        if outcome.verdict == "gone":
            ruling.gone = outcome.result
        elif outcome.verdict == "lost":
            ruling.dead.append((place, outcome.result))
        elif outcome.verdict == "delivered":
            ruling.delivered.append((replace(place, tries=place.tries + 1), outcome.result))
        elif place.is_replay or (not outcome.pause and (not is_down or outcome.result in REFUSED)):
            _retry(ruling, place, outcome, moment)
    return ruling


def _judge_subscriber(ruling: Ruling, tried: Results, moment: datetime, subscription: Subscription) -> bool:
    """Update the state by these tries; return True if the subscriber is down (see DOWN_AFTER)."""
    state, failed, pause, least = ruling.state, 0, 0, 0
    for place, outcome in tried:
        state.result, state.at, state.attempt = outcome.result, moment, place.tries + 1
        state.milliseconds = round(outcome.seconds * 1000)
        if outcome.verdict == "failed":
            failed += 1
            pause, least = max(pause, outcome.pause), max(least, outcome.wait)
            state.streak += not place.tries
    if failed < len(tried):
        state.delivered, state.failing, state.streak, state.rounds, state.failures = moment, None, 0, 0, 0
        state.resume = moment + timedelta(seconds=pause) if pause else EPOCH
        ruling.disabled = False if subscription.disabled else None
        return False
    state.failing = state.failing or moment
    state.failures += failed
    is_down = subscription.disabled is not None or state.rounds > 0 or state.streak >= DOWN_AFTER
    if is_down or pause:
        # The first time, a pause is as long as the subscriber asks for.
        wait = 0 if pause and not state.rounds else min(FIRST_WAIT * 2 ** min(state.rounds, 20), LONGEST_WAIT)
        state.resume = moment + _wait(wait, least)
        state.rounds += 1
    if subscription.disabled and state.failing <= moment - TRIED_FOR:
        state.resume = NEVER
    elif not subscription.disabled and state.failing <= moment - DISABLED_AFTER:
        ruling.disabled = True
    return is_down


def _retry(ruling: Ruling, place: Place, outcome: Outcome, moment: datetime) -> None:
    """
    Schedule the next try of an event, or give it up after the last.

    If nothing has succeeded since its first try, the event may not be at fault: it waits an hour at most and is not
    given up. A replay is given up all the same.
    """
    tries, delivered = place.tries + 1, ruling.state.delivered
    others_succeeded = delivered is not None and place.tries > 0 and delivered > place.first
    may_end = place.is_replay or others_succeeded
    if tries > len(SCHEDULE) and may_end:
        ruling.dead.append((replace(place, tries=tries), f"the last attempt: {outcome.result}"))
        return
    wait = min(SCHEDULE[min(tries, len(SCHEDULE)) - 1], SCHEDULE[-1] if may_end else LONGEST_WAIT)
    due = moment + _wait(wait, outcome.wait)
    ruling.again.append(replace(place, tries=tries, first=place.first if place.tries else moment, due=due))


def _wait(seconds: float, least: int) -> timedelta:
    return timedelta(seconds=max(seconds * random.uniform(1 - JITTER, 1 + JITTER), least))  # noqa: S311 - jitter
