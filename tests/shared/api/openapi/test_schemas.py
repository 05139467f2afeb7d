"""Named schemas end up in one place, each name for one shape."""

from __future__ import annotations

from typing import Any

import pytest

from shared.api.openapi.definition import definition
from shared.api.openapi.schemas import hoisted, named


def test_a_named_schema_is_put_aside_wherever_it_stands_and_what_is_in_it_too() -> None:
    inner = named("Member", {"type": "object"})
    outer = named("Group", {"type": "object", "properties": {"members": {"type": "array", "items": inner}}})
    definitions: dict[str, Any] = {}
    there = hoisted({"a": outer, "b": [inner, 1, None]}, definitions)
    assert there == {"a": {"$ref": "#/definitions/Group"}, "b": [{"$ref": "#/definitions/Member"}, 1, None]}
    items = {"$ref": "#/definitions/Member"}
    assert definitions == {
        "Member": {"type": "object"},
        "Group": {"type": "object", "properties": {"members": {"type": "array", "items": items}}},
    }


def test_a_name_is_for_one_shape() -> None:
    with pytest.raises(ValueError, match="Member"):
        hoisted([named("Member", {"type": "object"}), named("Member", {"type": "string"})], {})


def test_an_enum_has_one_name_and_one_set_of_values_wherever_it_stands() -> None:
    found: dict[str, list[str]] = {}

    def walk(part: Any) -> None:
        for one in part if isinstance(part, list) else part.values() if isinstance(part, dict) else ():
            if isinstance(one, dict) and "enum" in one:
                name = one["x-ms-enum"]["name"]
                assert found.setdefault(name, one["enum"]) == one["enum"]
            walk(one)

    walk(definition("https", "app.example"))
    assert {"CallDirection", "EventName"} <= found.keys()
    assert not {"Type", "Format", "Direction"} & found.keys()
