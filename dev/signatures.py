"""Verify the signature of a delivery as a subscriber does, by Standard Webhooks 1.0.0."""

from __future__ import annotations

import hmac
import re
from typing import TYPE_CHECKING

from shared.subscriptions.subscription import ID_HEADER, SIGNATURE_HEADER, TIME_HEADER, sign

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

TOLERANCE_SECONDS = 5 * 60
_SECONDS = re.compile(r"[0-9]{1,12}", re.ASCII)


class SignatureRefused(Exception):
    """The delivery is not signed by a holder of the secret, or not now."""


def verify(headers: Mapping[str, str], body: bytes, secrets: Iterable[str], now: float) -> None:
    """
    Check a delivery: its headers, its body as it came, the secrets that may have signed it, and the Unix time.

    Header names are taken in any letter case. Raises SignatureRefused unless one of the signatures was made with one
    of the secrets, no more than five minutes from now. Signatures are compared in constant time.
    """
    lower = {name.lower(): value for name, value in headers.items()}
    id, timestamp, signatures = (lower.get(name, "") for name in (ID_HEADER, TIME_HEADER, SIGNATURE_HEADER))
    if not id or not _SECONDS.fullmatch(timestamp):
        raise SignatureRefused("the headers of a webhook are missing or malformed")
    if abs(now - int(timestamp)) > TOLERANCE_SECONDS:
        raise SignatureRefused("the delivery is too old, or from the future")
    sent = [one.encode(errors="replace") for one in signatures.split(" ")]
    try:
        expected = [sign(secret, id, int(timestamp), body).encode() for secret in secrets]
    except ValueError:
        raise SignatureRefused("a secret cannot be read, or the id is not text") from None
    matches = [hmac.compare_digest(one, ours) for ours in expected for one in sent]
    if not any(matches):
        raise SignatureRefused("no signature matches")
