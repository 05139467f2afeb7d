"""Verify the signature of a delivery as a subscriber does, by Standard Webhooks 1.0.0."""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Mapping

from shared.subscriptions import ID_HEADER, SIGNATURE_HEADER, TIME_HEADER, sign

_TOLERANCE_SECONDS = 5 * 60


class SignatureRefused(Exception):
    """The delivery has no valid signature, or is too old."""


def verify(headers: Mapping[str, str], body: bytes, secrets: Iterable[str], now: float) -> None:
    """
    Check the headers and the raw body of a delivery against the subscriber's secrets; `now` is a Unix time.

    Raise SignatureRefused unless a signature matches a secret and its time is within five minutes of `now`.
    """
    lowered = {name.lower(): value for name, value in headers.items()}
    id, moment, signatures = (lowered.get(name, "") for name in (ID_HEADER, TIME_HEADER, SIGNATURE_HEADER))
    if not id or not (moment.isascii() and moment.isdecimal() and len(moment) <= 12):
        raise SignatureRefused("the headers of a webhook are missing or malformed")
    if abs(now - int(moment)) > _TOLERANCE_SECONDS:
        raise SignatureRefused("the delivery is too old, or from the future")
    try:
        expected = [sign(secret, id, int(moment), body).encode() for secret in secrets]
    except ValueError:
        raise SignatureRefused("a secret cannot be read, or the id is not text") from None
    sent = [signature.encode(errors="replace") for signature in signatures.split(" ")]
    if not any(hmac.compare_digest(theirs, ours) for ours in expected for theirs in sent):
        raise SignatureRefused("no signature matches")
