"""Signatures of what we send, as Standard Webhooks 1.0.0 has them: made and checked."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import secrets
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

ID_HEADER = "webhook-id"
TIME_HEADER = "webhook-timestamp"
SIGNATURE_HEADER = "webhook-signature"
TOLERANCE_SECONDS = 5 * 60
PREFIX = "whsec_"
SHORTEST, LONGEST = 24, 64  # bytes of a secret
_BYTES = 32
_VERSION = "v1"
_SECONDS = re.compile(r"[0-9]{1,12}", re.ASCII)


class SignatureRefused(Exception):
    """What came is not signed by a holder of the secret, or not now."""


def new_secret() -> str:
    """A secret of 32 random bytes: `whsec_` and base64."""
    return PREFIX + base64.b64encode(secrets.token_bytes(_BYTES)).decode()


def key_of(secret: str) -> bytes:
    """The bytes that a secret spells; raises ValueError unless it is `whsec_` and base64 of 24 to 64 bytes."""
    expected = f"{PREFIX} and base64 of {SHORTEST} to {LONGEST} bytes is expected"
    if not secret.startswith(PREFIX):
        raise ValueError(expected)
    try:
        key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(expected) from None
    if not SHORTEST <= len(key) <= LONGEST:
        raise ValueError(expected)
    return key


def sign(secret: str, id: str, timestamp: int, body: bytes) -> str:
    """The signature of a body sent at a time, in Unix seconds, under an id."""
    digest = hmac.new(key_of(secret), f"{id}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    return f"{_VERSION},{base64.b64encode(digest).decode()}"


def headers(held: Iterable[str], id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """The three headers of a delivery, signed with each of the secrets."""
    return {
        ID_HEADER: id,
        TIME_HEADER: str(timestamp),
        SIGNATURE_HEADER: " ".join(sign(secret, id, timestamp, body) for secret in held),
    }


def verify(given: Mapping[str, str], body: bytes, held: Iterable[str], now: float) -> None:
    """
    Check a delivery: its headers, its body as it came, the secrets that may have signed it, and the Unix time.

    Header names are taken in any letter case. Raises SignatureRefused unless one of the signatures was made with one
    of the secrets, no more than five minutes from now. Signatures are compared in constant time.
    """
    headers = {name.lower(): value for name, value in given.items()}
    id, timestamp, signatures = (headers.get(name, "") for name in (ID_HEADER, TIME_HEADER, SIGNATURE_HEADER))
    if not id or not _SECONDS.fullmatch(timestamp):
        raise SignatureRefused("the headers of a webhook are missing or malformed")
    if abs(now - int(timestamp)) > TOLERANCE_SECONDS:
        raise SignatureRefused("the delivery is too old, or from the future")
    sent = [one.encode(errors="replace") for one in signatures.split(" ")]
    try:
        expected = [sign(secret, id, int(timestamp), body).encode() for secret in held]
    except ValueError:
        raise SignatureRefused("a secret cannot be read, or the id is not text") from None
    genuine = False
    for ours in expected:
        for one in sent:
            genuine |= hmac.compare_digest(one, ours)
    if not genuine:
        raise SignatureRefused("no signature matches")
