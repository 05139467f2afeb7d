"""Signatures of deliveries by Standard Webhooks 1.0.0."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

ID_HEADER = "webhook-id"
TIME_HEADER = "webhook-timestamp"
SIGNATURE_HEADER = "webhook-signature"
PREFIX = "whsec_"
SHORTEST, LONGEST = 24, 64  # bytes of a secret
_BYTES = 32
_VERSION = "v1"


def new_secret() -> str:
    """Return a secret of 32 random bytes: `whsec_` and base64."""
    return PREFIX + base64.b64encode(secrets.token_bytes(_BYTES)).decode()


def key_of(secret: str) -> bytes:
    """Return the bytes of a secret; raise ValueError unless it is `whsec_` and base64 of 24 to 64 bytes."""
    try:
        key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except ValueError:
        key = b""
    if not secret.startswith(PREFIX) or not SHORTEST <= len(key) <= LONGEST:
        raise ValueError(f"{PREFIX} and base64 of {SHORTEST} to {LONGEST} bytes is expected")
    return key


def sign(secret: str, id: str, timestamp: int, body: bytes) -> str:
    """Return the signature of a body that is sent under an id at a Unix time."""
    digest = hmac.new(key_of(secret), f"{id}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    return f"{_VERSION},{base64.b64encode(digest).decode()}"


def headers(held: Iterable[str], id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """Return the three headers of a delivery, signed with each of the secrets."""
    signatures = []
    for secret in held:
        signatures.append(sign(secret, id, timestamp, body))
    return {ID_HEADER: id, TIME_HEADER: str(timestamp), SIGNATURE_HEADER: " ".join(signatures)}
