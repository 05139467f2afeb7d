"""The list differ on generated oddities: what means the same is no edit, what differs is, and nothing breaks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypothesis import given
from hypothesis import strategies as st

from shared.items.content import content_hash
from shared.json_bodies import encode
from shared.polling.changes import digest

if TYPE_CHECKING:
    import random

NAMES = st.sampled_from(["contactID", "avatar", "created", "members", "firstname"]) | st.text(max_size=5)
TEXTS = st.text(max_size=12) | st.sampled_from(
    [
        "",
        "2026-01-01T00:00:00+0000",
        "2026-13-99T99:99:99Z",
        "https://[",
        "/a?Expires=1",
        "https://a.example/x?sig=%ff&&=",
    ]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)
ITEMS = st.dictionaries(NAMES, VALUES, max_size=6)
LISTS = st.dictionaries(st.integers(0, 2**63 - 1), ITEMS, max_size=6)
SIGNATURES = st.dictionaries(
    st.sampled_from(["Expires", "Signature", "X-Amz-Date", "X-Amz-Signature", "sig", "se", "st", "token"]),
    st.integers(0, 10**9),
    min_size=1,
)


def shuffled(value: Any, chance: random.Random) -> Any:
    """The value in another order, with absent fields beside it."""
    if isinstance(value, dict):
        pairs = [(name, shuffled(part, chance)) for name, part in value.items()]
        chance.shuffle(pairs)
        return dict(pairs) | {"nobody knows it": chance.choice(["", None])}
    if isinstance(value, list):
        parts = [shuffled(part, chance) for part in value]
        chance.shuffle(parts)
        return parts
    return value


@given(LISTS, st.randoms(use_true_random=False))
def test_another_order_is_the_same_list(listed: dict[int, Any], chance: random.Random) -> None:
    pairs = [(number, shuffled(item, chance)) for number, item in listed.items()]
    chance.shuffle(pairs)
    assert digest(dict(pairs)) == digest(listed)


@given(ITEMS, SIGNATURES, SIGNATURES)
def test_another_signature_is_the_same_item(item: dict[str, Any], one: dict[str, int], other: dict[str, int]) -> None:
    def signed(values: dict[str, int]) -> dict[str, Any]:
        query = "&".join(f"{name}={value}" for name, value in values.items())
        return item | {"avatar": f"https://files.example/a.png?size=2&{query}"}

    assert content_hash(signed(one)) == content_hash(signed(other))
    assert content_hash(signed(one)) != content_hash(signed(one) | {"avatar": "https://files.example/b.png?size=2"})


@given(LISTS, st.integers(0, 2**63 - 1), st.text(min_size=1, max_size=5, alphabet="abc"))
def test_an_item_more_less_or_another_is_another_list(listed: dict[int, Any], number: int, name: str) -> None:
    more = listed | {number: {"firstname": f"{name}!"}}
    assert digest(more) != digest({one: item for one, item in listed.items() if one != number})
    assert digest(more | {number: {"firstname": f"{name}?"}}) != digest(more)


@given(ITEMS)
def test_any_item_can_be_stored(item: dict[str, Any]) -> None:
    assert isinstance(encode(item), bytes)
