"""Faults on demand: rules that spoil operations and webhook deliveries."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

_KINDS = (
    "status", "body-status", "html", "cut", "truncated", "empty", "slow", "reset", "redirect", "wrapper", "drop",
)  # fmt: skip


@dataclass
class Fault:
    """
    A rule for the operationIds or event names that match the shell pattern `match`.

    It lets the first `after` of them pass, then acts `times` times; None is always. `kind` is one of these. `status`:
    answer with that HTTP status, and `retry_after` as header. `body-status`: HTTP 200 with `status` in the body.
    `cut`: half of the JSON. `truncated`: half of the announced length, then the connection closes. `wrapper`: HTTP 200
    with the fields of `value` over those of the true answer. `slow`: the true answer after `delay` seconds.
    `redirect`: to `location`. `drop`: no delivery. `html`, `empty` and `reset` replace the answer.
    """

    kind: str
    match: str = "*"
    times: int | None = None
    after: int = 0
    status: int = 503
    retry_after: str | None = None
    delay: float = 1.0
    location: str = ""
    value: Any = None
    before: bool = True  # the operation has no effect; False: only its answer is replaced
    hits: int = 0
    seen: int = 0


class Faults:
    """The active rules, in order; the first one that acts wins."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.rules: list[Fault] = []

    def add(self, kind: str, match: str = "*", **fields: Any) -> Fault:
        """Add a rule and return it, so that its `hits` can be read; raise ValueError for an unknown kind."""
        if kind not in _KINDS:
            raise ValueError(f"unknown fault {kind!r}: one of {', '.join(_KINDS)}")
        fault = Fault(kind, match, **fields)
        with self._lock:
            self.rules.append(fault)
        return fault

    def clear(self) -> None:
        """Remove every rule."""
        with self._lock:
            self.rules.clear()

    def pick(self, name: str) -> Fault | None:
        """Return the rule that acts on an operation or event, and count the hit; None without one."""
        with self._lock:
            for rule in self.rules:
                if not fnmatchcase(name, rule.match):
                    continue
                rule.seen += 1
                if rule.seen > rule.after and (rule.times is None or rule.hits < rule.times):
                    rule.hits += 1
                    return rule
        return None
