"""When what failed is tried again: an event on a schedule of its own, or the subscriber as a whole."""

from __future__ import annotations

import random
from datetime import timedelta

# Seconds before each try of an event that is refused while others succeed; after the last one it is a dead letter.
SCHEDULE = (0, 5, 60, 300, 1800, 7200, 18_000, 36_000, 86_400)
# As many events whose first try fails, with no success in between, and the subscriber counts as down.
DOWN_AFTER = 5
# Then it is left alone for so long, twice as long each time, up to the longest.
FIRST_WAIT, LONGEST_WAIT = 10.0, 3600.0
# After so many days of failures alone a subscription is disabled; so long it is still tried, at the longest wait.
DISABLED_AFTER, TRIED_FOR = timedelta(days=5), timedelta(days=35)
JITTER = 0.1


def own_wait(tries: int, *, alone: bool) -> timedelta:
    """
    How long an event waits that has failed so many times.

    `alone`: nothing else has succeeded since, so the event may not be at fault: an hour at most.
    """
    seconds: float = SCHEDULE[min(tries, len(SCHEDULE) - 1)]
    return _about(min(seconds, LONGEST_WAIT) if alone else seconds)


def whole_wait(rounds: int) -> timedelta:
    """How long a subscriber is left alone after so many rounds in which everything failed."""
    return _about(min(FIRST_WAIT * 2 ** min(rounds - 1, 20), LONGEST_WAIT))


def _about(seconds: float) -> timedelta:
    return timedelta(seconds=seconds * random.uniform(1 - JITTER, 1 + JITTER))  # noqa: S311 - jitter
