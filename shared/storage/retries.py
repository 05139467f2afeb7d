"""Decides what a failed message becomes: put back to wait, or a dead letter (docs/decisions/0008)."""

from __future__ import annotations

import logging
import random
import socket
import ssl
from dataclasses import dataclass
from datetime import timedelta
from http.client import HTTPException
from pathlib import Path
from traceback import walk_tb
from typing import TYPE_CHECKING, Any

from shared import errors
from shared.storage.account import OVERLOADED
from shared.storage.messages import parse, send_again
from shared.times import iso, now, parse_time

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from shared.storage.account import Storage

logger = logging.getLogger(__name__)

LONGEST = timedelta(days=14)
JITTER = 0.2
_ROOT = Path(__file__).resolve().parents[2]
_RACES = (409, 412)


class Crashed(Exception):
    """The queue delivered the message again and again, and no run of it came to an end."""


@dataclass(frozen=True, slots=True)
class Policy:
    """A row: a reason to put a message back, and the seconds to wait each time; after the last it is given up."""

    name: str
    waits: tuple[int, ...]
    for_days: bool = True

    def wait(self, tries: int) -> float:
        """Return the seconds before the next try after so many."""
        return self.waits[min(tries, len(self.waits) - 1)] * random.uniform(1 - JITTER, 1)  # noqa: S311 - jitter


STORAGE = Policy("storage", (1, 2, 4, 8, 15, 30, 60))
BUDGET = Policy("budget", (5, 15, 60, 120, 300))
OTHERS = Policy("others", (5, 15, 60, 300, 900, 1800, 3600))
UNFORESEEN = Policy("unforeseen", (60, 300, 900, 2340), for_days=False)
# A queue's count also grows while nothing can be put back, and with deliveries that never came to run. So it costs a
# message a new count first, and its life only where that has happened several times with no run that ended between.
CRASHES = Policy("crashes", (1, 60, 300), for_days=False)

_KINDS: tuple[tuple[tuple[type[Exception], ...], Policy | None], ...] = (
    ((errors.Unprocessable, errors.Refused, errors.MediaRefused), None),
    ((errors.StorageUnavailable, errors.Conflict), STORAGE),
    ((errors.BudgetExhausted,), BUDGET),
    ((errors.PbxRetriable, errors.PbxForbidden, errors.PbxNotUnderstood), OTHERS),
    ((errors.MediaUnreachable, errors.ConfigError), OTHERS),
    ((ConnectionError, TimeoutError, HTTPException, socket.gaierror, ssl.SSLError), OTHERS),
    ((Crashed,), CRASHES),
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The meaning of an error for its message: a policy to wait by, or None where trying again is of no use."""

    policy: Policy | None
    reason: str
    least: float = 0.0


def decide(error: BaseException) -> Verdict:
    """
    Return the verdict on an error; of a group, on the one that is worth waiting for most.

    `reason` names no value: the error's own words where it is one of ours, else its type and place.
    """
    if isinstance(error, BaseExceptionGroup):
        order = (STORAGE, BUDGET, OTHERS, UNFORESEEN, CRASHES, None)
        return min(map(decide, error.exceptions), key=lambda verdict: order.index(verdict.policy))
    policy = _policy(error)
    if policy is None or policy is CRASHES:
        return Verdict(policy, str(error) or type(error).__name__)
    if policy is UNFORESEEN:
        return Verdict(UNFORESEEN, f"{type(error).__name__} at {_place(error)}")
    asked = 0 if policy is STORAGE else getattr(error, "retry_after", None) or 0
    return Verdict(policy, type(error).__name__, float(min(asked, policy.waits[-1])))


def handle_failure(
    storage: Storage, queue: str, body: bytes, error: BaseException, dead_letter: Callable[[str, int], None]
) -> None:
    """
    Put a failed message back, or have `dead_letter` keep it with a reason and its tries.

    Where a dead letter cannot be kept the message is put back as well. Raises StorageUnavailable where even that
    fails: then the queue itself brings it again.
    """
    verdict = decide(error)
    policy, reason = verdict.policy, verdict.reason
    try:
        message = parse(body)
    except errors.Unprocessable as unreadable:
        dead_letter(str(unreadable), 1)
        return
    tries = _tries(message)
    if policy is not CRASHES:
        # This run came to an end, if not a good one.
        tries.pop(CRASHES.name, None)
    total = sum(tries.values()) + 1
    if policy is None or _is_over(policy, tries.get(policy.name, 0), message):
        try:
            dead_letter(f"for {LONGEST.days} days: {reason}" if policy and policy.for_days else reason, total)
            return
        except errors.StorageUnavailable:
            policy = STORAGE
    before = tries.get(policy.name, 0)
    delay = max(1, round(max(policy.wait(before), verdict.least)))
    sent = message.get("sent") or iso(now())
    again = {"begun": True, "tries": tries | {policy.name: before + 1}, "sent": sent}
    send_again(storage, queue, body, again, delay=delay)
    logger.info("a message of queue %s comes again in %d s, try %d: %s", queue, delay, total, reason)


def _tries(message: Mapping[str, Any]) -> dict[str, int]:
    found = message.get("tries")
    counts = found.items() if isinstance(found, dict) else ()
    return {name: count for name, count in counts if isinstance(count, int)}


def _is_over(policy: Policy, tries: int, message: Mapping[str, Any]) -> bool:
    if not policy.for_days:
        return tries >= len(policy.waits)
    try:
        return now() - parse_time(message["sent"]) > LONGEST
    except (KeyError, ValueError, AttributeError):
        return False


def _policy(error: BaseException) -> Policy | None:
    import requests
    import urllib3
    from azure.core.exceptions import AzureError, ClientAuthenticationError, DecodeError, HttpResponseError

    for kinds, policy in _KINDS:
        if isinstance(error, kinds):
            return policy
    if isinstance(error, HttpResponseError) and not isinstance(error, (ClientAuthenticationError, DecodeError)):
        status = error.status_code or 500
        return STORAGE if status in (*_RACES, *OVERLOADED) or status >= 500 else UNFORESEEN
    if isinstance(error, AzureError):
        return STORAGE
    kinds = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)
    return OTHERS if isinstance(error, (*kinds, urllib3.exceptions.HTTPError)) else UNFORESEEN


def _place(error: BaseException) -> str:
    """Return the file and line of ours that was the last to run."""
    for frame, line in reversed(list(walk_tb(error.__traceback__))):
        file = Path(frame.f_code.co_filename)
        if file.is_relative_to(_ROOT) and not {"site-packages", ".venv"} & set(file.parts):
            return f"{file.relative_to(_ROOT).as_posix()}:{line}"
    return "an unknown place"
