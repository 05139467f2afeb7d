"""An item in another spelling is unchanged; an item with another value is edited."""

from __future__ import annotations

import unicodedata
from typing import Any

import pytest

from shared.items.content import content_hash, drift
from shared.pbx.fields import CALL, CONTACT, GROUP, Shape

ANNA = {"contactID": 966, "firstname": "Jānis", "number": "26550103", "archived": 0}
ANNA |= {"created": "2026-01-05T10:00:00+0000"}
AVATAR = "https://files.example/a.png"


def same(one: Any, other: Any, shape: Shape = CONTACT) -> bool:
    return content_hash(one, shape, "LV") == content_hash(other, shape, "LV")


@pytest.mark.parametrize(
    "changes",
    [
        {"archived": "0"},
        {"archived": False},
        {"archived": 0.0},
        {"contactID": "966"},
        {"contactID": "000966"},
        {"firstname": "Jānis "},
        {"firstname": unicodedata.normalize("NFD", "Jānis")},
        {"lastname": None},
        {"lastname": " "},
        {"group_membership": []},
        {"group_membership": {}},
        {"number": 26550103},
        {"number": "+371 26 550 103"},
        {"created": "2026-01-05 10:00:00Z"},
        {"created": "2026-01-05T12:00:00.250+02:00"},
        {"created": "2026-01-05T10:00:00"},
        {"pets": 2},
    ],
    ids=str,
)
def test_another_spelling_is_no_edit(changes: dict[str, Any]) -> None:
    assert same(ANNA, ANNA | changes)


@pytest.mark.parametrize("query", ["?Expires=1&Signature=x", "?v=2", "?", ""])
def test_an_address_is_compared_without_its_query(query: str) -> None:
    assert same({"avatar": AVATAR}, {"avatar": AVATAR + query})
    assert same({"avatar": "/files/a.png"}, {"avatar": "/files/a.png" + query})
    assert not same({"avatar": AVATAR}, {"avatar": AVATAR.replace("a.png", "b.png") + query})
    assert not same({"firstname": "Kas/tur ?"}, {"firstname": "Kas/tur ? Es"})


def test_members_in_another_order_are_the_same() -> None:
    members = [{"contactID": 1}, {"contactID": 2}]
    assert same({"members": members}, {"members": members[::-1]}, GROUP)
    assert same({"members": members}, {"members": [members[1], members[0] | {"since": "now"}]}, GROUP)
    assert not same({"members": members}, {"members": members[:1]}, GROUP)


@pytest.mark.parametrize(
    "changes",
    [{"firstname": "Janis"}, {"archived": 1}, {"archived": True}, {"number": "26550104"}, {"created": "2026-01-05"}],
    ids=str,
)
def test_another_value_is_an_edit(changes: dict[str, Any]) -> None:
    assert not same(ANNA, ANNA | changes)


def test_drift_names_fields_that_are_unknown_or_do_not_fit() -> None:
    item = {"callID": "5", "status": "many", "callStarted": "soon", "pets": 2, "caller": None, "direction": " "}
    assert drift(item, CALL) == {"status", "callStarted", "pets"}
    assert drift({"members": [{"contactID": 1, "role": "x"}]}, GROUP) == {"members.role"}
    assert drift({"members": ["x"]}, GROUP) == {"members"}
    assert drift({"firstname": "J\ufffd"}, CONTACT) == {"encoding"}
