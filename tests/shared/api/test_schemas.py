"""Named schemas end up in one place, each name for one shape."""

from __future__ import annotations

from typing import Any

import pytest

from shared.api.schemas import hoisted, named, title


@pytest.mark.parametrize(
    ("name", "described"),
    [
        ("callStarted", "Call Started"),
        ("recordingURL", "Recording URL"),
        ("previous_contactID", "Previous Contact ID"),
        ("callerid", "Caller ID"),
    ],
)
def test_a_field_s_title_is_its_name_in_words(name: str, described: str) -> None:
    assert title(name) == described


def test_a_named_schema_is_put_aside_wherever_it_stands_and_what_is_in_it_too() -> None:
    inner = named("Member", {"type": "object"})
    outer = named("Group", {"type": "object", "properties": {"members": {"type": "array", "items": inner}}})
    definitions: dict[str, Any] = {}
    there = hoisted({"a": outer, "b": [inner, 1, None]}, definitions)
    reference = {"$ref": "#/definitions/Member"}
    assert there == {"a": {"$ref": "#/definitions/Group"}, "b": [reference, 1, None]}
    assert definitions == {
        "Member": {"type": "object"},
        "Group": {"type": "object", "properties": {"members": {"type": "array", "items": reference}}},
    }
    with pytest.raises(ValueError, match="Member"):
        hoisted(named("Member", {"type": "string"}), definitions)
