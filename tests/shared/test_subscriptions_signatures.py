"""Signatures follow Standard Webhooks, and all others are refused."""

from __future__ import annotations

import base64
from dataclasses import replace
from typing import Any

import pytest

from dev.signatures import SignatureRefused, verify
from shared.subscriptions import Subscription, key_of, new_secret, sign

NOW = 1614265330.0
BODY = b'{"test": 2432232314}'
# The vector that the standard's own libraries are tested with.
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
ID = "msg_p5jXN8AQM9LWM0D4loKWxJek"
SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
GIVEN = {"webhook-id": ID, "webhook-timestamp": "1614265330", "webhook-signature": SIGNATURE}
OTHER = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"


def test_the_standard_s_own_vector_fits() -> None:
    assert sign(SECRET, ID, int(NOW), BODY) == SIGNATURE
    verify(GIVEN, BODY, [SECRET], NOW)


def test_while_rotating_either_secret_verifies() -> None:
    one = Subscription.new(event="CallStarted", endpoint="https://8.8.8.8/", secret=OTHER)
    made = replace(one, secrets=((OTHER, None), (SECRET, NOW + 1))).signed(ID, int(NOW), BODY)
    assert made["webhook-signature"].endswith(SIGNATURE)
    for held in ([SECRET], [OTHER], [new_secret(), SECRET]):
        verify(made, BODY, held, NOW)
    with pytest.raises(SignatureRefused):
        verify(made, BODY, [new_secret()], NOW)


def test_header_names_come_in_any_letter_case() -> None:
    verify({name.title(): value for name, value in GIVEN.items()}, BODY, [SECRET], NOW)


@pytest.mark.parametrize("seconds", [-300, 0, 300])
def test_five_minutes_either_way_are_tolerated(seconds: int) -> None:
    verify(GIVEN, BODY, [SECRET], NOW + seconds)


@pytest.mark.parametrize(
    ("change", "body", "held", "now"),
    [
        ({}, BODY + b" ", [SECRET], NOW),
        ({}, BODY, [OTHER], NOW),
        ({}, BODY, [SECRET], NOW + 301),
        ({}, BODY, [SECRET], NOW - 301),
        ({"webhook-id": "other"}, BODY, [SECRET], NOW),
        ({"webhook-id": "\ud800"}, BODY, [SECRET], NOW),
        ({"webhook-timestamp": "1614265331"}, BODY, [SECRET], NOW),
        ({"webhook-timestamp": "١٦١٤٢٦٥٣٣٠"}, BODY, [SECRET], NOW),
        ({"webhook-timestamp": "9" * 5000}, BODY, [SECRET], NOW),
        ({"webhook-signature": "v1,"}, BODY, [SECRET], NOW),
        ({"webhook-signature": SIGNATURE.removeprefix("v1,")}, BODY, [SECRET], NOW),
        ({"webhook-signature": SIGNATURE[:-1]}, BODY, [SECRET], NOW),
        ({"webhook-signature": "é \ud800 v1,é"}, BODY, [SECRET], NOW),
    ],
    ids=str,
)
def test_every_other_signature_is_refused_alike(change: Any, body: bytes, held: list[str], now: float) -> None:
    with pytest.raises(SignatureRefused):
        verify(GIVEN | change, body, held, now)


@pytest.mark.parametrize(("size", "fits"), [(23, False), (24, True), (64, True), (65, False), (0, False)])
def test_a_secret_has_24_to_64_bytes(size: int, fits: bool) -> None:
    secret = "whsec_" + base64.b64encode(b"k" * size).decode()
    if fits:
        assert key_of(secret) == b"k" * size
    else:
        with pytest.raises(ValueError, match="24 to 64"):
            key_of(secret)


@pytest.mark.parametrize(
    "text", ["", "secret", base64.b64encode(b"k" * 32).decode(), "whsec_" + "?" * 40, "whsec_é" * 9]
)
def test_an_invalid_secret_is_refused_with_the_format(text: str) -> None:
    with pytest.raises(ValueError, match="whsec_"):
        key_of(text)


def test_new_secrets_differ() -> None:
    assert len({new_secret() for _ in range(20)}) == 20
    assert len(key_of(new_secret())) == 32
