"""Routes by the host's own rule: the first matching function, in order of names, gets the request."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from itertools import combinations, starmap
from pathlib import Path

import pytest

from dev.host.http import first_match
from shared.events.table import EVENTS, find_event
from shared.values import LARGEST_ID
from tests.indexed import Indexed, functions, hosted

_PLACEHOLDER = re.compile(r"\{(\*?\w+)(?::regex\([^{}]+\))?\}")
_RULE = re.compile(r"\{\w+:regex\(([^{}]+)\)\}")
# A catch-all matches the rest of a path, with its slashes.
_REST = "{*"
_NUMBERS = ("1", str(LARGEST_ID))
_IDS = ("0" * 32, "ab" * 16, *_NUMBERS)
# What each parameter of a route is for. A parameter of another name stands for a number.
_FOR: dict[str, tuple[str, ...]] = {
    "event": (
        *(event.name for event in EVENTS),
        *(event.name.lower() for event in EVENTS),
        "unsubscribe",
        "LostCallerCreated",
    ),
    "webhook_id": _IDS,
    "subscription": _IDS,
    "*path": ("calls", "calls/1"),
}


def http_functions() -> list[Indexed]:
    return [one for one in functions() if one.methods]


def examples(one: Indexed) -> Iterator[str]:
    """Yield paths that fit a function's own route."""
    (function,) = (function for function in hosted() if function.name == one.name)
    names = _PLACEHOLDER.findall(one.route)
    for values in zip(*(_FOR.get(name, _NUMBERS) for name in names), strict=True) if names else [()]:
        path = "/api/" + _PLACEHOLDER.sub("{}", one.route).format(*values)
        if first_match([function], min(one.methods), path):
            yield path


def overlap(one: Indexed, other: Indexed) -> bool:
    """Return True if any path and method fits both."""
    here, there = one.route.lower().split("/"), other.route.lower().split("/")
    has_rest = _REST in one.route + other.route
    if not one.methods & other.methods or (len(here) != len(there) and not has_rest):
        return False
    return all(starmap(meet, zip(here, there, strict=not has_rest)))


def meet(left: str, right: str) -> bool:
    """Return True if any segment fits both."""
    for template, other in ((left, right), (right, left)):
        if (rule := _RULE.fullmatch(template)) and "{" not in other:
            return re.search(rule[1], other, re.IGNORECASE) is not None
    return left == right or "{" in left or "{" in right


def test_the_host_runs_each_function_for_its_own_paths() -> None:
    for one in http_functions():
        for path in examples(one):
            assert {first_match(hosted(), method, path) for method in one.methods} == {one.name}, path


def test_no_path_fits_two_functions() -> None:
    both = [(one.name, other.name) for one, other in combinations(http_functions(), 2) if overlap(one, other)]
    assert both == []


@pytest.mark.parametrize(
    ("first", "second", "found"),
    [
        ("POST v2/webhooks/{event}", "POST v2/webhooks/unsubscribe", True),
        ("GET v2/{kind}", "GET V2/one", True),
        ("GET board/{*path}", "GET board/a/b", True),
        ("POST v2/webhooks/{event:regex(^(?!(other)$))}", "POST v2/webhooks/other", False),
        ("POST v2/webhooks/{event}", "DELETE v2/webhooks/unsubscribe", False),
        ("POST v2/webhooks/{event}", "POST v2/webhooks/{webhook_id}/rotate", False),
    ],
)
def test_overlapping_routes_are_detected(first: str, second: str, found: bool) -> None:
    one, other = (Indexed(line, frozenset({line.split()[0]}), line.split()[1]) for line in (first, second))
    assert overlap(one, other) == found


def test_no_event_is_spelled_like_the_word_that_ends_subscriptions() -> None:
    for word in ("unsubscribe", "Unsubscribe", "UNSUBSCRIBE"):
        assert find_event(word) is None


def test_the_app_loads_neither_polling_nor_processing_before_they_are_asked_for() -> None:
    code, root = "import sys, function_app; print('\\n'.join(sys.modules))", Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    early = {"pydantic", "requests", "azure.core", "azure.data.tables", "cryptography", "phonenumbers"}
    rooms = ("shared.polling.", "shared.media.copy", "shared.deliveries.", "shared.webhooks")
    assert not loaded & early
    assert [name for name in loaded if name.startswith(rooms)] == []
