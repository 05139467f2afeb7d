"""Faults on demand: rules that spoil an operation, a file or a webhook delivery."""

from __future__ import annotations

import random
import threading
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

API_KINDS = (
    "status", "body-status", "html", "cut", "truncated", "oversize", "empty", "not-json", "slow", "reset", "redirect",
    "wrapper",
)  # fmt: skip
DELIVERY_KINDS = ("drop", "duplicate", "disorder", "delay", "spelling", "extra", "blank", "rewrite")


@dataclass
class Fault:
    """
    One rule. It matches an operationId or event name by `match` (a shell pattern, as is `path`), skips the first
    `after` matches, and then acts `times` times (None: always) with the given probability.

    `status`: answer with that HTTP status (`retry_after` becomes the header). `body-status`: HTTP 200 with `status`
    in the body. `cut`: half of the JSON. `truncated`: half of the announced length, then the connection closes.
    `wrapper`: HTTP 200 with the fields in `value` in place of the true answer's (without `before`, after its effect).
    `slow`: `delay` seconds before the true answer. `redirect`: to `location`. `oversize`: `size` bytes of JSON.
    Deliveries: `delay` by `delay` seconds, `spelling` sends `value` as eventType, `extra` and `rewrite` merge `value`
    into `data`, `blank` sets the fields named in `value` to "" (or to null with `status` 0).
    """

    kind: str
    match: str = "*"
    path: str = "*"
    times: int | None = None
    probability: float = 1.0
    after: int = 0
    status: int = 503
    retry_after: str | None = None
    delay: float = 1.0
    size: int = 9 << 20
    location: str = ""
    value: Any = None
    before: bool = True  # a status, reset or cut comes before the operation has its effect
    hits: int = field(default=0)
    seen: int = field(default=0)


class Faults:
    """The rules in force, in order; the first that acts wins."""

    def __init__(self, kinds: tuple[str, ...], seed: int = 0) -> None:
        self._kinds = kinds
        self._random = random.Random(seed)  # noqa: S311 - repeatable, not secret
        self._lock = threading.Lock()
        self.rules: list[Fault] = []

    def add(self, kind: str, match: str = "*", **fields: Any) -> Fault:
        """Adds a rule and returns it, so that its `hits` can be read; ValueError for an unknown kind."""
        if kind not in self._kinds:
            raise ValueError(f"unknown fault {kind!r}: one of {', '.join(self._kinds)}")
        fault = Fault(kind, match, **fields)
        with self._lock:
            self.rules.append(fault)
        return fault

    def clear(self) -> None:
        """Removes every rule."""
        with self._lock:
            self.rules.clear()

    def pick(self, name: str, path: str = "") -> Fault | None:
        """The rule that acts on this one, counted as a hit."""
        if not self.rules:
            return None
        with self._lock:
            for rule in self.rules:
                if not (fnmatchcase(name, rule.match) and fnmatchcase(path, rule.path)):
                    continue
                rule.seen += 1
                if rule.seen <= rule.after or (rule.times is not None and rule.hits >= rule.times):
                    continue
                if rule.probability < 1 and self._random.random() >= rule.probability:
                    continue
                rule.hits += 1
                return rule
        return None
