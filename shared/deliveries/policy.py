"""Decide from values alone when a failed delivery is tried again, and when its subscriber counts as down."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from shared.deliveries.outbox import DEAD_LETTER, EPOCH

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
    """The consequences of a batch's answers: the new state, and the places that are finished or tried again."""

    state: State
    # With the result that their markers keep.
    finished: list[tuple[Place, str]] = field(default_factory=list)
    again: list[Place] = field(default_factory=list)
    # Those of the finished that become dead letters, each with its reason.
    dead: list[tuple[Place, str]] = field(default_factory=list)
    # The status of an answer that ends the subscription.
    gone: str = ""
    disable: bool = False
    recover: bool = False

    def give_up(self, place: Place, reason: str) -> None:
        """Finish a place with a dead letter."""
        self.finished.append((place, DEAD_LETTER))
        self.dead.append((place, reason))


def judge(state: State, results: Results, moment: datetime, *, disabled: bool, trying: bool = False) -> Ruling:
    """
    Return what follows from the answers to a batch.

    A failed event gets a schedule of its own. Where nothing gets through, five events are enough for the subscriber to
    count as down: then it waits as a whole, and its events stay as they are. Replays leave its state alone. `trying` is
    a disabled subscription that was asked for again.
    """
    ruling = Ruling(replace(state, holder=""))
    usual: list[tuple[Place, Outcome]] = []
    for place, outcome in results:
        if outcome.verdict == "gone":
            ruling.gone = outcome.result
        elif outcome.verdict == "lost":
            ruling.give_up(place, outcome.result)
        else:
            if outcome.verdict == "delivered":
                ruling.finished.append((replace(place, tries=place.tries + 1), outcome.result))
            if not place.is_replay:
                usual.append((place, outcome))
            elif outcome.verdict == "failed":
                _retry(ruling, place, outcome, moment, alone=False)
    if usual:
        _judge_subscriber(ruling, usual, moment, disabled=disabled)
        failing = ruling.state.failing
        if failing and (not disabled or trying):
            ruling.disable = failing <= moment - DISABLED_AFTER
        elif failing and failing <= moment - TRIED_FOR:
            ruling.state.resume = NEVER
    return ruling


def _judge_subscriber(ruling: Ruling, results: Results, moment: datetime, *, disabled: bool) -> None:
    state = ruling.state
    place, last = results[-1]
    state.result, state.at, state.attempt = last.result, moment, place.tries + 1
    state.milliseconds = round(last.seconds * 1000)
    failed, asked, pause = [], 0, 0
    for place, outcome in results:
        if outcome.verdict == "failed":
            failed.append((place, outcome))
            asked, pause = max(asked, outcome.wait), max(pause, outcome.pause)
    is_down = False
    if len(failed) < len(results):
        state.delivered, state.failing, state.streak, state.rounds, state.failures = moment, None, 0, 0, 0
        state.resume = moment + timedelta(seconds=pause) if pause else EPOCH
        ruling.recover = disabled
    else:
        state.failing = state.failing or moment
        state.failures += len(failed)
        for place, _ in failed:
            state.streak += not place.tries
        before = state.rounds
        is_down = disabled or before > 0 or state.streak >= DOWN_AFTER
        if is_down or pause:
            state.rounds += 1
            # The wait that it asks for is believed once.
            wait = timedelta() if pause and not before else _about(FIRST_WAIT * 2 ** min(before, 20), LONGEST_WAIT)
            state.resume = moment + max(wait, timedelta(seconds=asked))
    for place, outcome in failed:
        if not is_down and not outcome.pause:
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
        ruling.give_up(replace(place, tries=tries), f"the last attempt: {outcome.result}")
        return
    wait = _about(SCHEDULE[min(tries, len(SCHEDULE)) - 1], LONGEST_WAIT if alone else SCHEDULE[-1])
    due = moment + max(wait, timedelta(seconds=outcome.wait))
    ruling.again.append(replace(place, tries=tries, first=place.first if place.tries else moment, due=due))


def _about(seconds: float, most: float) -> timedelta:
    return timedelta(seconds=min(seconds, most) * random.uniform(1 - JITTER, 1 + JITTER))  # noqa: S311 - jitter
