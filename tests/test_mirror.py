"""Each module has a test of its name in the same place, or a row with the test that covers it."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping

import pytest

ROOT = pathlib.Path(__file__).parents[1]
MODULES = sorted(
    path.relative_to(ROOT).as_posix()
    for room in ("shared", "functions")
    for path in (ROOT / room).rglob("*.py")
    if path.name != "__init__.py"
)
TESTS = {path.relative_to(ROOT / "tests").as_posix() for path in (ROOT / "tests").rglob("test_*.py")}
# Modules that are covered by the test of another module.
COVERED: Mapping[str, str] = {
    "shared/api/envelopes.py": "shared/api/test_actions.py",
    "shared/api/subscribe.py": "functions/test_subscriptions.py",
    "shared/api/operations.py": "shared/api/test_definition.py",
    "shared/bridge.py": "shared/polling/test_poll.py",
    "shared/events/store.py": "shared/api/test_calls_events.py",
    "shared/privacy/holdings.py": "shared/privacy/test_erase.py",
    "shared/privacy/jobs.py": "shared/privacy/test_erase.py",
    "shared/pbx/fields.py": "contract/test_operations.py",
}
# Tests of a whole room rather than of a module.
OF_ROOMS = {"functions/test_fresh_account.py", "functions/test_routes.py", "functions/test_timers.py"}


def own(module: str) -> set[str]:
    """Return the test modules that begin with a module's name: `api` has `test_api_lists`."""
    path = pathlib.PurePosixPath(module)
    names = (f"test_{path.stem}.py", f"test_{path.stem}_")
    return {test for test in TESTS if test.startswith(tuple(f"{path.parent}/{name}" for name in names))}


@pytest.mark.parametrize("module", MODULES)
def test_every_module_has_its_test(module: str) -> None:
    assert own(module) or COVERED.get(module) in TESTS, f"write tests/{module} or add a line to COVERED"


def test_every_row_is_needed() -> None:
    assert not [module for module in COVERED if module not in MODULES or own(module)]
    assert not OF_ROOMS - TESTS


def test_every_test_of_a_trigger_has_its_module() -> None:
    mirrored = set[str]().union(*(own(module) for module in MODULES))
    assert {test for test in TESTS if test.startswith("functions/")} - mirrored - OF_ROOMS == set()
