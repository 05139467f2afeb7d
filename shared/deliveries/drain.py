"""Draining an outbox: one at a time, from its head, several posts at once, and no longer than a while."""

from __future__ import annotations

import logging
import secrets
import time
from collections import deque
from contextlib import suppress
from datetime import timedelta
from threading import BoundedSemaphore
from typing import TYPE_CHECKING, Any

from shared.deliveries import standing
from shared.deliveries.fanout import RANGE, run_range
from shared.deliveries.outbox import Fenced, Outbox
from shared.deliveries.posts import LINED_UP, SLOW, Posts, is_quick
from shared.deliveries.verdicts import Verdicts
from shared.deliveries.wakes import KIND, wakes
from shared.errors import BridgeError, StorageUnavailable, Unprocessable
from shared.subscriptions.store import subscriptions
from shared.times import now

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from shared.bridge import Bridge
    from shared.deliveries.entries import Change, Place, State
    from shared.deliveries.outbox import Head
    from shared.subscriptions.subscription import Subscription

logger = logging.getLogger(__name__)

# No post is begun later: a function that runs for long is in the way of others, and of a deployment.
RUN_SECONDS = 20.0
# Slow, failing and unknown subscribers have so many of a process's threads at once; who finds none comes again.
SLOW_RUNS = 4
_SLOT_SECONDS, _NO_SLOT = 0.5, timedelta(seconds=10)
# What is put off may be seen a little early by another instance's clock.
_SKEW = timedelta(seconds=2)
_RACES = 16
_slow_runs = BoundedSemaphore(SLOW_RUNS)


def run(bridge: Bridge, message: Mapping[str, Any]) -> None:
    """Do what a message of queue `deliveries` asks; raises Unprocessable for one that is none."""
    kind, id = message.get("kind"), message.get("subscription")
    if not isinstance(id, str) or kind not in (KIND, RANGE):
        raise Unprocessable("the message asks for no delivery")
    if kind == RANGE:
        run_range(bridge, message)
    else:
        drain(bridge, id)


def drain(bridge: Bridge, id: str) -> None:
    """Post what is due in a subscriber's outbox, unless somebody does or its time has not come."""
    outbox, one = Outbox(bridge.storage, id), subscriptions(bridge).get(id)
    if one is None:
        if not outbox.drop(RUN_SECONDS):
            wakes(bridge.storage).wake_at(id, now())
        return
    for _ in range(_RACES):
        moment = now()
        head = outbox.read(moment)
        state = head.state
        if state.is_held(moment):
            if outbox.mark(state):
                return
        elif not head.places or state.resume > moment:
            if moment < state.wake < moment + _SKEW:
                wakes(bridge.storage).wake_at(id, state.wake + _SKEW / 2)
            return
        elif _drained(bridge, one, outbox, head):
            return


def _drained(bridge: Bridge, one: Subscription, outbox: Outbox, head: Head) -> bool:
    """Whether there is no more to do; False where somebody else was faster."""
    state = head.state
    known = state.is_quick and state.delivered is not None
    if not known and not _slow_runs.acquire(timeout=_SLOT_SECONDS):
        if _wake_by(bridge, one.id, state, now() + _NO_SLOT):
            outbox.note(state)
        return True
    holder = secrets.token_hex(8)
    try:
        if not outbox.take(state, holder):
            return False
        Drain(bridge, one, outbox, state).work(head)
    except Fenced:
        logger.info("the outbox of %s was taken over", one.id)
    except Exception:
        with suppress(StorageUnavailable):
            outbox.abandon(holder)
        raise
    finally:
        if not known:
            _slow_runs.release()
    return True


def _wake_by(bridge: Bridge, id: str, state: State, at: datetime) -> bool:
    """Have the outbox looked at then; False where a message for that is on its way."""
    if now() < state.wake <= at:
        return False
    wakes(bridge.storage).wake_at(id, at)
    state.wake = at
    return True


class Drain:
    """One run over an outbox that is held."""

    def __init__(self, bridge: Bridge, one: Subscription, outbox: Outbox, state: State) -> None:
        self._bridge, self._one, self._outbox, self._state = bridge, one, outbox, state
        self._verdicts = Verdicts(bridge, one, state)
        self._width = LINED_UP if state.is_quick else SLOW
        self._until = time.monotonic() + RUN_SECONDS
        self._trouble: BridgeError | None = None
        self._queue: deque[Place] = deque()
        self._more, self._last = False, ""
        self._marked = False

    def work(self, head: Head) -> None:
        """Post until nothing is due, nothing gets through or the time is over, and give the outbox back."""
        self._line_up(head)
        with Posts(self._bridge, self._one, lambda: not self._may_post()) as posts:
            while True:
                self._read_on()
                while self._queue and len(posts) < (1 if self._state.rounds else self._width) and self._may_post():
                    posts.begin(self._queue.popleft())
                changes = self._judge(posts) if posts else []
                leave = not posts and not (self._may_post() and (self._queue or self._more))
                if self._verdicts.ended or self._settle(changes, leave=leave):
                    break
        if self._verdicts.ended:
            standing.end(self._bridge, self._one.id)
        if self._trouble is not None:
            raise self._trouble

    def _line_up(self, head: Head) -> None:
        """Begin at the head; a subscriber that is down gets its oldest event and the one it refused least."""
        places, more = head.places, head.more
        self._last = places[-1].key if places else ""
        if self._state.rounds:
            other = min(places[1:], key=lambda place: place.tries + place.probes, default=None)
            places, more = [*places[:1], *([other] if other else [])], False
            # Silence may be the event's fault, too, and leaves no time for a second one.
            if self._state.result == "timeout" and self._state.rounds % 2 == 0:
                places.reverse()
        self._queue, self._more = deque(places), more

    def _read_on(self) -> None:
        while self._more and not self._queue and self._may_post():
            head = self._outbox.read(now(), after=self._last)
            self._queue.extend(head.places)
            self._more = head.more
            self._last = head.places[-1].key if head.places else self._last

    def _may_post(self) -> bool:
        return not self._verdicts.stopped and self._trouble is None and time.monotonic() < self._until

    def _judge(self, posts: Posts) -> list[Change]:
        """Wait for an answer, and say what becomes of each event that was answered."""
        changes: list[Change] = []
        down = bool(self._state.rounds)
        for place, future in posts.answers():
            try:
                outcome = future.result()
                if outcome is None:
                    self._marked = True
                    continue
                self._width = LINED_UP if is_quick(outcome) else SLOW
                changes += self._verdicts.of(place, outcome)
            except BridgeError as error:
                self._trouble = error
        if not self._may_post():
            # What has not begun stays where it is.
            self._marked = posts.cancel() or self._marked
        if down and not self._state.rounds:
            # It answers again: from the head, in order.
            self._line_up(self._outbox.read(now()))
            under_way = {place.key for place in (*posts.places, *(change.place for change in changes))}
            self._queue = deque(place for place in self._queue if place.key not in under_way)
        return changes

    def _settle(self, changes: list[Change], *, leave: bool) -> bool:
        """Write down what came of it; whether the outbox was given back. Who found a mark looks once more before."""
        look = leave and self._marked and self._may_post()
        if leave and not look:
            self._wake_later()
        undisturbed = self._outbox.save(self._state, changes, leave=leave and not look)
        self._marked = not undisturbed or (self._marked and not look)
        if look:
            self._line_up(self._outbox.read(now()))
        return leave and not look and undisturbed

    def _wake_later(self) -> None:
        """Before one leaves, for who dies in between must leave a message rather than none."""
        state, moment = self._state, now()
        if not self._verdicts.waits and self._trouble is None and (self._queue or self._more or self._marked):
            wakes(self._bridge.storage).wake_at(self._one.id, moment)
            return
        at = self._verdicts.leave(moment)
        if at is None and state.waiting and state.wake <= moment:
            at = self._outbox.next_due(moment)
            state.waiting = state.waiting if at else 0
        if at is not None:
            _wake_by(self._bridge, self._one.id, state, at)
