"""What becomes of an event, and of its subscriber, after a post."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from shared.deliveries import standing
from shared.deliveries.entries import EPOCH, Change
from shared.deliveries.schedule import DISABLED_AFTER, DOWN_AFTER, SCHEDULE, TRIED_FOR, own_wait, whole_wait
from shared.json_bodies import encode
from shared.storage.dead_letters import dead_letter
from shared.times import now

if TYPE_CHECKING:
    from datetime import datetime

    from shared.bridge import Bridge
    from shared.deliveries.entries import Place, State
    from shared.deliveries.post import Outcome
    from shared.subscriptions.subscription import Subscription

logger = logging.getLogger(__name__)

_NEVER = timedelta(days=3650)


class Verdicts:
    """The answers of one run; `ended` where the subscriber is gone."""

    def __init__(self, bridge: Bridge, one: Subscription, state: State) -> None:
        self._bridge, self._one, self._state = bridge, one, state
        self._down = self._throttled = self._delivered = self.ended = False
        self._probing = bool(state.rounds)
        self._asked = timedelta()
        self._throttled_until = EPOCH
        self._earliest: datetime | None = None

    @property
    def waits(self) -> bool:
        """Whether the subscriber is left alone after this run."""
        return self._down or self._throttled or self.ended

    @property
    def stopped(self) -> bool:
        """Whether no more is posted in this run; who is down already gets all that was chosen for the round."""
        return self.waits and not (self._down and self._probing)

    def of(self, place: Place, outcome: Outcome) -> list[Change]:
        """What becomes of an event's place."""
        state, moment = self._state, now()
        logger.info("delivery of %s to %s: %s", place.event, self._one.id, outcome.result)
        if outcome.verdict == "lost":
            return [self._dead_letter(place, outcome.result)]
        if outcome.verdict == "gone":
            logger.warning("subscription %s ended: its subscriber answered %s", self._one.id, outcome.result)
            self.ended = True
            return []
        state.note(outcome, place.tries + place.probes + 1, moment)
        if outcome.verdict == "delivered":
            self._delivered, self._down, self._probing = True, False, False
            if self._one.disabled:
                standing.recover(self._bridge, self._one)
                self._one = replace(self._one, disabled=None, trying=False)
            state.waiting -= bool(place.tries)
            return [Change(replace(place, tries=place.tries + 1), outcome.result)]
        return self._failed(place, outcome, moment)

    def _failed(self, place: Place, outcome: Outcome, moment: datetime) -> list[Change]:
        state, asked = self._state, timedelta(seconds=outcome.wait)
        if outcome.result == "429" and asked:
            # That much is too much, whichever event it was; who takes nothing at all is down, however it says so.
            self._throttled, self._down = True, self._down or not self._delivered
            self._throttled_until = max(self._throttled_until, moment + asked)
            return [Change(replace(place, probes=place.probes + 1))] if self._probing else []
        self._asked = max(self._asked, asked)
        if state.rounds or self._down or self._one.disabled:
            self._down = True
            return [Change(replace(place, probes=place.probes + 1))]
        state.streak += not place.tries
        self._down = state.streak >= DOWN_AFTER
        first = place.first if place.tries else moment
        alone, tries = not (state.delivered and state.delivered > first), place.tries + 1
        if tries >= len(SCHEDULE) and not alone:
            return [self._dead_letter(replace(place, tries=tries), f"the last attempt: {outcome.result}")]
        due = moment + max(own_wait(tries, alone=alone), asked)
        self._earliest = min(self._earliest or due, due)
        state.waiting += not place.tries
        return [Change(replace(place, tries=tries, first=first, due=due))]

    def leave(self, moment: datetime) -> datetime | None:
        """When to come again, as far as this run knows; None where nothing new waits."""
        state = self._state
        if state.failing and state.failing <= moment - DISABLED_AFTER and self._one.active:
            standing.disable(self._bridge, self._one, moment)
        if self._down:
            state.rounds += 1
            # What it asks for is believed once.
            wait = timedelta() if self._throttled and state.rounds == 1 else whole_wait(state.rounds)
            if self._one.disabled and state.failing and state.failing <= moment - TRIED_FOR:
                wait = _NEVER
            state.resume = max(state.resume, moment + max(wait, self._asked))
        # Not before: what was under way at the same time may have got through.
        state.resume = max(state.resume, self._throttled_until)
        if state.resume > moment:
            return state.resume if state.resume < moment + _NEVER / 2 else None
        return self._earliest

    def _dead_letter(self, place: Place, reason: str) -> Change:
        id = self._one.id
        body = encode({"kind": "deliver", "subscription": id, "event": place.event})
        storage, name = self._bridge.storage, f"{id}-{place.event}"
        dead_letter(storage, kind="delivery", id=name, reason=reason, body=body, attempts=place.tries)
        logger.warning("signal delivery_failed subscription=%s event=%s attempts=%d", id, place.event, place.tries)
        self._state.waiting -= place.due > EPOCH
        return Change(place, "dead letter")
