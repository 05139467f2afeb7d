"""What the app's HTTP clients share: sessions without the machine's settings, answers that end in time, Retry-After."""

from __future__ import annotations

import math
import time
from datetime import UTC
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import requests

LONGEST_WAIT = 24 * 3600


def plain_session(*, hosts: int, connections: int, kind: type[requests.Session] | None = None) -> requests.Session:
    """
    A session that keeps connections to so many `hosts`, and so many `connections` to each.

    Proxies and .netrc of the machine are not used (looking for them costs each request), and no cookie is kept.
    """
    from http.cookiejar import DefaultCookiePolicy

    import requests
    from requests.adapters import HTTPAdapter

    session = (kind or requests.Session)()
    session.trust_env = False
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(pool_connections=hosts, pool_maxsize=connections))
    return session


def read_part(raw: Any, size: int, until: float) -> bytes:
    """
    What one read of the socket brings of an answer, inflated, at most `size` bytes; none at its end.

    Raises TimeoutError after `until` (monotonic seconds), so that no drip outlasts it; urllib3's errors pass through.
    """
    part: bytes = raw.read1(size, decode_content=True)
    if time.monotonic() > until:
        raise TimeoutError("the answer came too slowly")
    return part


def retry_after(text: str | None) -> int | None:
    """Seconds that a Retry-After header asks for, as a number or a date, a day at most; None where it says neither."""
    from email.utils import parsedate_to_datetime

    text = (text or "").strip()
    if text.isascii() and text.isdecimal():
        return min(int(text[:9]), LONGEST_WAIT)
    try:
        moment = parsedate_to_datetime(text)
        seconds = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() - time.time()
    except (ValueError, TypeError, OverflowError):
        return None
    return min(max(math.ceil(seconds), 0), LONGEST_WAIT)
