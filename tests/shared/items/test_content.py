"""Equal answers have one hash however they are written, and an edit has another."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.items.content import canonical, content_hash
from tests.growth import LINEAR, growth

if TYPE_CHECKING:
    from shared.items.reader import Item

LARGEST = 2**63 - 1


@pytest.mark.parametrize(
    "part", ["/?", "/", "?", "&", "=", "&a=", "https://", "a?", "sig=", "token", "x-amz-", "2018-04-25T13:"]
)
@pytest.mark.parametrize("begin", ["", "/", "https://a/?", "/a?b="])
@pytest.mark.parametrize("end", ["", " ", "x"])
def test_a_long_text_is_compared_in_time_that_grows_as_it_does(part: str, begin: str, end: str) -> None:
    assert growth(lambda size: canonical(begin + part * (size // len(part)) + end)) < LINEAR


def test_an_address_is_a_place_and_a_query_without_blanks() -> None:
    for text, same in (
        ("https://a.example/x?sig=1", "https://a.example/x?sig=2"),
        ("/x?y=1&token=1", "/x?y=1"),
        ("/a?b?sig=1", "/a?b?sig=1"),
        ("https://m/J\u0101nis B.png?Expires=1&Signature=a", "https://m/J\u0101nis B.png?Expires=2&Signature=b"),
        ("/files/J\u0101nis B.png?token=a", "/files/J\u0101nis B.png?token=b"),
        ("files/a.png?Expires=1", "files/a.png?Expires=2"),
        ("a.png?token=1", "a.png"),
        ("cdn.example/x?sig=1", "cdn.example/x?sig=2"),
        ("//cdn.example/x?sig=1", "//cdn.example/x?sig=2"),
        (" https://a.example/x?sig=1", "https://a.example/x?sig=2 "),
    ):
        assert canonical(text) == canonical(same)
    for text in ("/x?sig=1 or so", "see /x?sig=1", "see a.b?sig=1", "/x", "https://a.example/?", " x "):
        assert canonical(text) == text


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ({"a": 1, "b": None, "c": ""}, {"a": 1}, True),
        ({"created": "2026-01-05T08:00:00+0000"}, {"created": "2026-01-05T10:00:00.25+02:00"}, True),
        ({"members": [{"id": 2}, {"id": 1}]}, {"members": [{"id": 1}, {"id": 2}]}, True),
        ({"contactID": 5, "groups": [{"groupID": 7}]}, {"contactID": "5", "groups": [{"groupID": " 007.0"}]}, True),
        ({"groups": [{"groupID": 7}]}, {"groups": [{"groupID": "8"}]}, False),
        ({"members": [{"id": 2}, {"id": 1}]}, {"members": {"0": {"id": 1}, "1": {"id": 2}}}, True),
        ({"members": [{"id": 2}, {"id": 1}]}, {"members": {"3": {"id": 1}, "7": {"id": 2}}}, True),
        ({"members": ["a", "b"]}, {"members": {"1": "a", "0": "b"}}, True),
        ({"members": []}, {"members": {}}, True),
        ({"members": [{"id": 1}]}, {"members": {"0": {"id": 2}}}, False),
        ({"keys": {"1": "sales", "2": "help"}}, {"keys": {"1": "help", "2": "sales"}}, False),
        ({"keys": {"1": "sales"}}, {"keys": {"2": "sales"}}, False),
        ({"members": {"a": {"id": 1}}}, {"members": [{"id": 1}]}, False),
        ({"id": True}, {"id": 1}, False),
        ({"a": 1}, {"a": "1"}, False),
        ({"a": False}, {"a": 0}, False),
        ({"id": LARGEST}, {"id": LARGEST - 1}, False),
        ({"name": "2026-99-99T99:99"}, {"name": "2026-99-99T99:98"}, False),
    ],
)
def test_the_same_content_has_the_same_hash(one: Item, other: Item, same: bool) -> None:
    assert (content_hash(one) == content_hash(other)) is same


AVATAR = "https://files.example/avatars/5.png"
SIGNATURES = [
    ("Expires=1&Signature=a&Key-Pair-Id=k", "Expires=2&Signature=b&Key-Pair-Id=k"),
    ("X-Amz-Date=1&X-Amz-Expires=60&X-Amz-Signature=a", "X-Amz-Date=2&X-Amz-Expires=60&X-Amz-Signature=b"),
    ("X-Goog-Algorithm=x&X-Goog-Signature=a", "X-Goog-Algorithm=x&X-Goog-Signature=b"),
    ("sv=2024-11-04&st=1&se=2&sr=b&sp=r&sig=a", "sv=2024-11-04&st=3&se=4&sr=b&sp=r&sig=b"),
    ("token=a", "token=b"),
    ("access_token=a&size=2", "size=2&access_token=b"),
    ("exp=1&hmac=a", "exp=2&hmac=b"),
    ("size=2&v=1", "v=1&size=2&expires=5"),
    ("EXPIRES=1&SIGNATURE=a", ""),
    ("auth_key=1-0-0-a", "auth_key=2-0-0-b"),
    (
        "q-sign-algorithm=sha1&q-ak=k&q-sign-time=1;2&q-key-time=1;2&q-signature=a",
        "q-sign-algorithm=sha1&q-signature=b",
    ),
    ("verify=1-a", "verify=2-b"),
    ("jwt=a.b.c", "jwt=d.e.f"),
    ("access_key=a&valid_until=1", "access_key=b&valid_until=2"),
    ("ex=1&is=2&hm=a", "ex=3&is=4&hm=b"),
    ("wsSecret=a&wsTime=1", "wsSecret=b&wsTime=2"),
    ("__token__=a&KeyName=k", "__token__=b&KeyName=k"),
]
EDITS = [
    (AVATAR + "?Expires=1", "https://files.example/avatars/6.png?Expires=1"),
    (AVATAR + "?size=1&token=a", AVATAR + "?size=2&token=a"),
    (AVATAR + "?token=a", "https://other.example/avatars/5.png?token=a"),
    (AVATAR, AVATAR.upper()),
    ("is it ?token=a", "is it ?token=b"),
    ("?token=a", "?token=b"),
    ("J\u0101nis B.png?token=a", "J\u0101nis B.png?token=b"),
    ("really?token=a", "really?token=b"),
    ("https://m/J\u0101nis B.png?token=a", "https://m/J\u0101nis C.png?token=a"),
    ("files/a.png?page=1&token=a", "files/a.png?page=2&token=a"),
    ("files/a.png?verified=1", "files/a.png?verified=2"),
    ("files/a.png?example=1&hmm=1", "files/a.png?example=2&hmm=1"),
]


@pytest.mark.parametrize(("one", "other"), SIGNATURES)
@pytest.mark.parametrize("place", [AVATAR, "/avatars/5.png"], ids=["whole", "relative"])
def test_another_signature_is_no_edit(place: str, one: str, other: str) -> None:
    before, after = (
        {"avatar": address, "group": [{"logo": address}]}
        for address in (f"{place}?{query}".removesuffix("?") for query in (one, other))
    )
    assert content_hash(before) == content_hash(after)


@pytest.mark.parametrize(("one", "other"), EDITS)
def test_another_place_is_an_edit(one: str, other: str) -> None:
    assert content_hash({"avatar": one}) != content_hash({"avatar": other})


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("ab", max_size=2), inner, max_size=4),
    max_leaves=8,
)


@given(st.lists(VALUES.filter(lambda value: value not in (None, "")), max_size=6), st.randoms())
def test_a_list_is_the_same_in_any_order_and_as_an_object(value: list[object], chance: object) -> None:
    places = list(range(len(value)))
    chance.shuffle(places)  # type: ignore[attr-defined]
    assert canonical({str(place): value[place] for place in places}) == canonical(value)


@given(VALUES)
def test_what_is_canonical_stays_so(value: object) -> None:
    assert canonical(canonical(value)) == canonical(value)
