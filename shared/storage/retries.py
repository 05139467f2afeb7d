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
from typing import TYPE_CHECKING, Any, NamedTuple

from shared import errors
from shared.storage.messages import parse, send
from shared.times import now, parse_time

if TYPE_CHECKING:
    from collections.abc import Callable

    from shared.storage.account import Storage

logger = logging.getLogger(__name__)

LONGEST = timedelta(days=14)
JITTER = 0.2
_ROOT = Path(__file__).resolve().parents[2]
# Statuses of the SDK's errors that pass: a lost race, and none where an answer broke off.
_PASSING = (409, 412, None)


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
# Of several errors the first of these counts.
_BY_WORTH = (STORAGE, BUDGET, OTHERS, UNFORESEEN, CRASHES, None)

_KINDS: tuple[tuple[Policy | None, tuple[type[Exception], ...]], ...] = (
    (None, (errors.Unprocessable, errors.Refused, errors.MediaRefused)),
    (STORAGE, (errors.StorageUnavailable, errors.Conflict)),
    (BUDGET, (errors.BudgetExhausted,)),
    (OTHERS, (errors.PbxRetriable, errors.PbxForbidden, errors.PbxNotUnderstood)),
    (OTHERS, (errors.MediaUnreachable, errors.ConfigError)),
    (OTHERS, (ConnectionError, TimeoutError, HTTPException, socket.gaierror, ssl.SSLError)),
    (CRASHES, (Crashed,)),
)


class Verdict(NamedTuple):
    """A policy to wait by, or None where trying again is of no use; why; and the seconds that the other side asks."""

    policy: Policy | None
    reason: str
    least: float = 0.0


def decide(error: BaseException) -> Verdict:
    """
    Return the verdict on an error; of a group, on the one that is worth waiting for most.

    `reason` names no value: the error's own words where it is one of ours, else its type and place.
    """
    if isinstance(error, BaseExceptionGroup):
        return min(map(decide, error.exceptions), key=lambda verdict: _BY_WORTH.index(verdict.policy))
    policy = _policy(error)
    if policy is None or policy is CRASHES:
        return Verdict(policy, str(error) or type(error).__name__)
    if policy is UNFORESEEN:
        return Verdict(policy, f"{type(error).__name__} at {_place(error)}")
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
    policy, reason, least = decide(error)
    try:
        message = parse(body)
    except errors.Unprocessable as unreadable:
        dead_letter(str(unreadable), 1)
        return
    found = message.get("tries")
    tries = {name: n for name, n in found.items() if isinstance(n, int)} if isinstance(found, dict) else {}
    if policy is not CRASHES:
        # This run came to an end, if not a good one.
        tries.pop(CRASHES.name, None)
    total = sum(tries.values()) + 1
    if policy is None or _is_over(policy, tries, message.get("sent")):
        try:
            dead_letter(f"for {LONGEST.days} days: {reason}" if policy and policy.for_days else reason, total)
            return
        except errors.StorageUnavailable:
            policy = STORAGE
    before = tries.get(policy.name, 0)
    delay = max(1, round(max(policy.wait(before), least)))
    again = {**message, "begun": True, "tries": tries | {policy.name: before + 1}}
    send(storage, queue, again, name="again", delay=delay)
    logger.info("a message of queue %s comes again in %d s, try %d: %s", queue, delay, total, reason)


def _is_over(policy: Policy, tries: dict[str, int], sent: Any) -> bool:
    if not policy.for_days:
        return tries.get(policy.name, 0) >= len(policy.waits)
    try:
        return now() - parse_time(sent) > LONGEST
    except (ValueError, AttributeError):
        return False


def _policy(error: BaseException) -> Policy | None:
    import requests
    import urllib3
    from azure.core.exceptions import AzureError

    for policy, kinds in _KINDS:
        if isinstance(error, kinds):
            return policy
    if isinstance(error, AzureError):
        return STORAGE if getattr(error, "status_code", None) in _PASSING else UNFORESEEN
    theirs = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)
    return OTHERS if isinstance(error, (*theirs, urllib3.exceptions.HTTPError)) else UNFORESEEN


def _place(error: BaseException) -> str:
    """Return the file and line of ours that was the last to run."""
    for frame, line in reversed(list(walk_tb(error.__traceback__))):
        file = Path(frame.f_code.co_filename)
        if file.is_relative_to(_ROOT) and not {"site-packages", ".venv"} & set(file.parts):
            return f"{file.relative_to(_ROOT).as_posix()}:{line}"
    return "an unknown place"
