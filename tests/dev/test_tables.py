"""The page of tables says what the app writes, in the types that it writes."""

from __future__ import annotations

import pathlib
import re
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pytest

from dev.columns import TABLES
from dev.described import KEYS, OWN
from dev.tables import PRIVATE
from shared.storage.account import TABLES as NAMES
from shared.storage.account import Storage
from tests.filled import fill

if TYPE_CHECKING:
    from shared.settings import Settings

FIXTURES = pathlib.Path(__file__).parents[1] / "fixtures" / "events"
# Text that is a time and nothing else.
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\S*")
TYPES = {str: "String", bool: "Boolean", int: "Int32", float: "Double", bytes: "Binary"}


@pytest.fixture
def filled(settings: Settings) -> Storage:
    return fill(settings, FIXTURES)


def kind_of(value: Any) -> str:
    if isinstance(value, datetime):
        return "DateTime"
    edm = getattr(value, "edm_type", None)
    return str(getattr(edm, "value", edm)).removeprefix("Edm.") if edm else TYPES[type(value)]


def test_every_table_is_described() -> None:
    assert {*TABLES, *PRIVATE} == set(NAMES)


@pytest.mark.slow
def test_every_row_that_the_app_writes_is_picked_by_one_filter_and_described(filled: Storage) -> None:
    for name, kinds in TABLES.items():
        everything = list(filled.table(name).list_entities())
        assert everything, name
        picked = 0
        for rows in kinds:
            for row in filled.table(name).query_entities(rows.filter):
                picked += 1
                for column, value in row.items():
                    if column not in (*KEYS, *OWN):
                        assert column in rows.columns, (name, column)
                        assert kind_of(value) == rows.columns[column][0], (name, column)
        assert picked == len(everything), name


def test_no_time_is_text(filled: Storage) -> None:
    for name in NAMES:
        for row in filled.table(name).list_entities():
            texts = {column: value for column, value in row.items() if isinstance(value, str)}
            assert not [column for column, value in texts.items() if TIME.fullmatch(value)], name
