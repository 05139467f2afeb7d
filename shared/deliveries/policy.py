"""When a failed delivery is tried again, and when its subscriber counts as down: decided from values alone."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from shared.deliveries.outbox import EPOCH

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared.deliveries.outbox import Place, State
    from shared.deliveries.post import Outcome

    Results = Sequence[tuple[Place, Outcome]]

# Seconds before each further try of an event that is refused while others succeed; then it is a dead letter.
SCHEDULE = (5, 60, 300, 1800, 7200, 18_000, 36_000, 86_400)
# So many events whose first try fails, with no success in between, and the subscriber is down.
DOWN_AFTER = 5
# It is left alone for so long then, twice as long each time, up to the longest.
FIRST_WAIT, LONGEST_WAIT = 10.0, 3600.0
# A subscription is disabled after so long without a success, and still tried for so long.
DISABLED_AFTER, TRIED_FOR = timedelta(days=5), timedelta(days=35)
NEVER = datetime(2100, 1, 1, tzinfo=EPOCH.tzinfo)
JITTER = 0.1


@dataclass(slots=True)
class Ruling:
    """What follows from the answers to a batch: the new state, and the places that go, change or are given up."""

    state: State
    delivered: list[tuple[Place, str]] = field(default_factory=list)
    again: list[Place] = field(default_factory=list)
    dead: list[tuple[Place, str]] = field(default_factory=list)
    # The status of an answer that ends the subscription.
    gone: str = ""
    disable: bool = False
    recover: bool = False


def judge(state: State, results: Results, moment: datetime, *, disabled: bool, trying: bool = False) -> Ruling:
    """
    Return what follows from the answers to a batch.

    A failed event gets a schedule of its own. Where nothing gets through, five events are enough for the subscriber to
    count as down: then it waits as a whole, and its events stay as they are. Replays leave its state alone. `trying` is
    a disabled subscription that was asked for again.
    """
    ruling = Ruling(replace(state))
    ruling.gone = next((outcome.result for _, outcome in results if outcome.verdict == "gone"), "")
    ruling.delivered = [(place, outcome.result) for place, outcome in results if outcome.verdict == "delivered"]
    ruling.dead = [(place, outcome.result) for place, outcome in results if outcome.verdict == "lost"]
    replays: list[tuple[Place, Outcome]] = []
    others: list[tuple[Place, Outcome]] = []
    for place, outcome in results:
        if outcome.verdict in ("delivered", "failed"):
            (replays if place.is_replay else others).append((place, outcome))
    if others:
        _judge_subscriber(ruling, others, moment, disabled=disabled)
        if (failing := ruling.state.failing) and (not disabled or trying):
            ruling.disable = failing <= moment - DISABLED_AFTER
        elif failing and failing <= moment - TRIED_FOR:
            ruling.state.resume = NEVER
    for place, outcome in replays:
        if outcome.verdict == "failed":
            _retry(ruling, place, outcome, moment, alone=False)
    return ruling


def _judge_subscriber(ruling: Ruling, results: Results, moment: datetime, *, disabled: bool) -> None:
    state, before = ruling.state, ruling.state.rounds
    failed = [(place, outcome) for place, outcome in results if outcome.verdict == "failed"]
    gets_through = len(failed) < len(results)
    place, last = results[-1]
    state.result, state.at, state.attempt = last.result, moment, place.tries + 1
    state.milliseconds = round(last.seconds * 1000)
    if gets_through:
        state.delivered, state.failing, state.resume = moment, None, EPOCH
        state.streak = state.rounds = state.failures = 0
        ruling.recover = disabled
    else:
        state.failures += len(failed)
        state.failing = state.failing or moment
        state.streak += sum(not place.tries for place, _ in failed)
    throttled = [(place, outcome) for place, outcome in failed if outcome.result == "429" and outcome.wait]
    is_down = not gets_through and bool(before or disabled or state.streak >= DOWN_AFTER)
    if is_down or (throttled and not gets_through):
        state.rounds += 1
        # The wait that it asks for is believed once.
        wait = timedelta() if throttled and not before else _about(FIRST_WAIT * 2 ** min(before, 20), LONGEST_WAIT)
        state.resume = moment + max(wait, _asked(failed))
    elif throttled:
        state.resume = moment + _asked(throttled)
    for place, outcome in failed:
        if not is_down and (place, outcome) not in throttled:
            alone = not (state.delivered and place.tries and state.delivered > place.first)
            _retry(ruling, place, outcome, moment, alone=alone)


def _retry(ruling: Ruling, place: Place, outcome: Outcome, moment: datetime, *, alone: bool) -> None:
    """
    Give an event its next try, or give it up after the last.

    With `alone` nothing has succeeded since its first try, so the event may not be at fault: it waits an hour at most
    and is not given up.
    """
    tries = place.tries + 1
    if tries > len(SCHEDULE) and not alone:
        ruling.dead.append((replace(place, tries=tries), f"the last attempt: {outcome.result}"))
        return
    wait = _about(SCHEDULE[min(tries, len(SCHEDULE)) - 1], LONGEST_WAIT if alone else SCHEDULE[-1])
    due = moment + max(wait, timedelta(seconds=outcome.wait))
    ruling.again.append(replace(place, tries=tries, first=place.first if place.tries else moment, due=due))


def _asked(results: Results) -> timedelta:
    return timedelta(seconds=max(outcome.wait for _, outcome in results))


def _about(seconds: float, most: float) -> timedelta:
    return timedelta(seconds=min(seconds, most) * random.uniform(1 - JITTER, 1 + JITTER))  # noqa: S311 - jitter
