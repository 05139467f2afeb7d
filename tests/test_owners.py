"""Each table has one owner: no other module has a client for it."""

from __future__ import annotations

import ast
import pathlib
from collections.abc import Iterator
from importlib import import_module

import pytest

from shared.storage.account import TABLES

ROOT = pathlib.Path(__file__).parents[1]
OWNERS = {
    "events": "shared.events",
    "feed": "shared.events",
    "numbers": "shared.people",
    "calls": "shared.calls",
    "lostcallers": "shared.calls",
    "ended": "shared.calls",
    "deadletters": "shared.storage.messages",
    "media": "shared.media.blobs",
    "checkpoints": "shared.polling.run",
    "resources": "shared.items",
    "health": "shared.health",
    "webhooks": "shared.webhooks",
    "budget": "shared.pbx.budget",
    "subscriptions": "shared.subscriptions",
    "deliveries": "shared.deliveries",
    "dials": "shared.calls.dials",
    "audit": "shared.audit",
    "board": "board.access",
    "forgotten": "shared.people",
    "privacy": "shared.privacy.jobs",
}
# The module that makes clients, and the module that searches every table for one person.
GIVEN = {
    "shared.storage.account",
    "shared.privacy.holdings",
}

# The SDK's calls for one row; only `rows` handles their lost answers.
SINGLE = {"get_entity", "create_entity", "update_entity", "upsert_entity", "delete_entity"}


def clients(source: str) -> Iterator[ast.expr]:
    """Yield the argument of each call that makes a table's client."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "table":
            yield from (node.args or [keyword.value for keyword in node.keywords])[:1]


def table_of(module: str, name: ast.expr) -> str:
    """Return the table of an argument in a module; only literals and names of constants are known."""
    if isinstance(name, ast.Constant):
        return str(name.value)
    path = ast.unparse(name).split(".")
    value = import_module(module)
    for part in path:
        value = getattr(value, part, f"{module}: {ast.unparse(name)} is no constant")
    return str(value)


def is_of(module: str, owner: str | None) -> bool:
    return owner is not None and f"{module}.".startswith(f"{owner}.")


def modules() -> Iterator[tuple[str, str]]:
    for room in ("shared", "functions", "board"):
        for path in (ROOT / room).rglob("*.py"):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            if name not in GIVEN:
                yield name, path.read_text()


def test_nobody_but_a_tables_owner_has_its_client() -> None:
    found = [(module, table_of(module, name)) for module, source in modules() for name in clients(source)]
    assert [(module, table) for module, table in found if not is_of(module, OWNERS.get(table))] == []
    assert {table for _, table in found} == OWNERS.keys() == set(TABLES)


def test_single_rows_are_read_and_written_by_one_module() -> None:
    found = {
        (module, node.attr)
        for module, source in modules()
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Attribute) and node.attr in SINGLE
    }
    assert {module for module, _ in found} == {"shared.storage.rows"}
    assert {call for _, call in found} == SINGLE


@pytest.mark.parametrize(
    ("source", "table"),
    [
        ("bridge.storage.table('events').get_entity('p', 'r')", "events"),
        ("rows.get(storage.table(TABLE), 'p', 'r')", "dials"),
        ("client = self._storage.table(name=TABLE)", "dials"),
        ("storage.table(rows.WRITER)", "writer"),
        ("for name in names: storage.table(name)", "shared.calls.dials: name is no constant"),
    ],
)
def test_every_way_to_a_client_is_seen(source: str, table: str) -> None:
    assert [table_of("shared.calls.dials", name) for name in clients(source)] == [table]


def test_a_package_owns_its_modules_and_no_other_of_a_like_name() -> None:
    assert is_of("shared.events", "shared.events") and is_of("shared.events.store", "shared.events")
    assert not is_of("shared.events_of", "shared.events") and not is_of("shared.events", "shared.events.store")
    assert not is_of("shared.events", None)
