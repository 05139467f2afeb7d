"""JSON bodies: an unreadable character is replaced, and everything else is kept."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import Refused
from shared.values import SPOILT, encode, is_spoilt, parse_body

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"x", b"\xff\xfe", b'{"a": NaN}', b'{"a": Infinity}', b'{"a": 1e999}'),
        *(b"1" * 5_000, b'{"a": \xe71}', b'\xe7{"a": 1}', b'{"a" \x0b: 1}'),
    ],
    ids=lambda body: repr(body[:20]),
)
def test_invalid_json_is_an_error(body: bytes) -> None:
    with pytest.raises(Refused):
        parse_body(body)


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
@pytest.mark.parametrize("levels", [31, 32, 900])
def test_values_deeper_than_32_levels_are_kept_as_text(opening: str, closing: str, levels: int) -> None:
    body = opening * levels + "[1]" + closing * levels
    value, depth = parse_body(body.encode()), 0
    while isinstance(value, (list, dict)) and value:
        value, depth = (value[0] if isinstance(value, list) else value["a"]), depth + 1
    assert depth == min(levels + 1, 32)
    assert value == (1 if levels == 31 else body[32 * len(opening) : len(body) - 32])


@pytest.mark.parametrize(
    "body", [b"", b"x", b'{"a":', b'{"a": nan}', b'{"a": 1e}', b'{"a": +1}', b"[" * 60_000], ids=repr
)
def test_invalid_json_with_odd_numbers_is_an_error(body: bytes) -> None:
    with pytest.raises(Refused):
        parse_body(body, odd_numbers=True)


ODD = ["NaN", "-Infinity", "1E+400", "1" * 5_000, f"{'9' * 400}.5"]


@pytest.mark.parametrize("number", ODD, ids=lambda number: number[:10])
@pytest.mark.parametrize("around", ["{}", '{{"a": [1, {}], "b": "\\ud83d"}}'])
def test_a_number_that_nothing_can_hold_is_its_text(number: str, around: str) -> None:
    value = parse_body(around.format(number).encode(), odd_numbers=True)
    assert json.dumps(number) in encode(value).decode()
    assert parse_body(encode(value)) == value
    with pytest.raises(Refused):
        parse_body(around.format(number).encode())


@pytest.mark.parametrize("number", ["1e308", "-0.0", "1e-999", "9" * 300, "1.7976931348623157e308", "0.1" + "1" * 400])
def test_a_number_that_can_be_held_is_one(number: str) -> None:
    assert type(parse_body(number.encode(), odd_numbers=True)) in (int, float)
    assert parse_body(number.encode(), odd_numbers=True) == json.loads(number)


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b'["\\ud83d", "\\ud83d\\ude00"]', [SPOILT, "\U0001f600"]),
        (b'["\xed\xa0\xbd", "\xf0\x9f\x98\x80"]', [SPOILT * 3, "\U0001f600"]),
        (b'{"a": "Gon\xe7alves", "b": 1}', {"a": f"Gon{SPOILT}alves", "b": 1}),
        (b'{"a": "\xe7", "b": "\xc3"}', {"a": SPOILT, "b": SPOILT}),
        (b'{"\xff\xfe": "B\xc4\x93rzi\xc5\x86a"}', {SPOILT * 2: "B\u0113rzi\u0146a"}),
        (b'{"a": "\x00b\x1bc"}', {"a": f"{SPOILT}b{SPOILT}c"}),
    ],
)
def test_a_character_that_cannot_be_read_spoils_itself(body: bytes, value: Any) -> None:
    assert parse_body(body) == value
    assert is_spoilt(value)


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b'{"a": "\xc4\x81\\u0000"}', {"a": "\u0101\0"}),
        (b'{"a": "one\ttwo\r\nthree"}', {"a": "one\ttwo\r\nthree"}),
        (b'{"a": 1}\x00\x00', {"a": 1}),
        *(
            (json.dumps({"a": "ā😀"}, ensure_ascii=False).encode(name), {"a": "ā😀"})
            for name in ("utf-8-sig", "utf-16")
        ),
        (json.dumps({"a": "ā"}, ensure_ascii=False).encode("utf-16-be"), {"a": "ā"}),
        (json.dumps({"a": "ā"}, ensure_ascii=False).encode("utf-32"), {"a": "ā"}),
    ],
)
def test_readable_values_are_kept(body: bytes, value: Any) -> None:
    assert parse_body(body) == value
    assert not is_spoilt(value)


@given(VALUES)
def test_written_values_are_read_back(value: Any) -> None:
    assert parse_body(encode(value)) == value


@given(text=st.text(st.characters(codec="utf-8"), min_size=1), byte=st.integers(0x80, 0xFF), place=st.integers(0))
def test_one_bad_byte_leaves_the_other_fields_as_they_were(text: str, byte: int, place: int) -> None:
    sent = json.dumps({"name": "NAME", "text": text}, ensure_ascii=False).encode()
    at = place % 5
    name = b"NAME"[:at] + bytes([byte]) + b"NAME"[at:]
    assert parse_body(sent.replace(b"NAME", name, 1)) == {"name": f"{'NAME'[:at]}{SPOILT}{'NAME'[at:]}", "text": text}


@given(st.binary(max_size=60) | st.text('0123456789.eE+-NaInfity[]{},"', max_size=30).map(str.encode), st.booleans())
def test_any_bytes_are_a_value_that_can_be_sent_on_or_no_json(body: bytes, odd_numbers: bool) -> None:
    try:
        value = parse_body(body, odd_numbers=odd_numbers)
    except Refused:
        return
    assert parse_body(encode(value)) == value
