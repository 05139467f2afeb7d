"""The table of operations: rows that make sense."""

from __future__ import annotations

import pytest

from shared.pbx.operations import OPERATIONS, Operation, operation


@pytest.mark.parametrize("row", OPERATIONS, ids=lambda row: row.id)
def test_an_operation_is_found_by_its_id_and_described_by_a_title_and_sentences(row: Operation) -> None:
    assert operation(row.id) is row
    assert row.summary != row.description
    assert not row.summary.endswith(".")
    assert all(text.endswith(".") for text in (row.description, *(field.description for field in row.parameters)))
    for parameter in row.parameters:
        if parameter.where == "query" and parameter.required:
            assert (parameter.visibility, parameter.default) == ("internal", 0)


def test_only_reads_are_repeatable() -> None:
    assert {row.id for row in OPERATIONS if not row.repeatable} >= {"Dial", "Subscribe", "DeleteWebhookByID"}
