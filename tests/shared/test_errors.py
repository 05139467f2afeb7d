"""Redaction: numbers and secrets go, the rest stays readable."""

from __future__ import annotations

import string
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import redact


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("destination 27771153 is wrong", "destination … is wrong"),
        ("+371 27 771 153", "…"),
        ("call 1524664459097344 not found", "call … not found"),
        ("at most 1000 items, page 2", "at most 1000 items, page 2"),
        ("٢٧٧٧١١٥٣", "…"),
        ("see https://host.example/files/AbC=?code=s3 now", "see https://host.example/… now"),
        ("Authorization: Bearer OnYSrLTH3i2qiyb", "Authorization: Bearer …"),
        ("bearer abc, then more", "bearer …, then more"),
        ('{"api_key": "abc"}', '{"api_key": …'),
        ("?code=abc&limit=5", "?code=…&limit=5"),
        ("x-functions-key: abc", "x-functions-key: …"),
        ("x-ms-secret=abc", "x-ms-secret=…"),
        ("barcode=abc monkey business", "barcode=abc monkey business"),
        ("-code=abc --key=abc", "-code=… --key=…"),
        ("", ""),
    ],
    ids=lambda value: value[:24] or "empty",
)
def test_numbers_and_secrets_are_hidden(text: str, shown: str) -> None:
    assert redact(text) == shown


@given(st.text(string.printable + "0123456789" * 3 + "ā😀\u00a0"))
def test_garbage_keeps_no_number(text: str) -> None:
    assert "27771153" not in redact(f"{text} 27771153 {text}")


def seconds(text: str) -> float:
    def once() -> float:
        began = time.thread_time()
        redact(text)
        return time.thread_time() - began

    return min(once() for _ in range(3))


@pytest.mark.slow
@pytest.mark.parametrize(
    "part",
    ["1 ", "1-", "(", "a", "a-", "a.", "-key", "key-", "key ", "key=  ", "code=", "sig-x", "_token", "a://", "a://b@",
     "basic ", "\u00a01", "x-" * 40 + " ", '"key" '],
)  # fmt: skip
@pytest.mark.parametrize(("before", "after"), [("", ""), ("a-", "="), ("ab://", "@")], ids=["alone", "name", "address"])
def test_time_grows_as_the_text_does(part: str, before: str, after: str) -> None:
    small, large = (before + part * (size // len(part)) + after for size in (2_000, 32_000))
    # Sixteen times the text takes 256 times as long in quadratic time.
    assert seconds(large) < 80 * seconds(small) + 0.005
