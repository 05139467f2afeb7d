"""What the app's HTTP clients share: sessions without the machine's settings, answers that end in time, Retry-After."""

from __future__ import annotations

import io
import math
import time
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    import requests

LONGEST_WAIT = 24 * 3600
# Until when this thread's answer may take, for the connection that it happens to use.
_until: ContextVar[float | None] = ContextVar("until", default=None)


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


@contextmanager
def ending_by(until: float) -> Iterator[None]:
    """Have answers of a `timely` session that this thread asks for inside end by then (monotonic seconds)."""
    token = _until.set(until)
    try:
        yield
    finally:
        _until.reset(token)


def timely(session: requests.Session, *kinds: type) -> requests.Session:
    """
    The session, whose answers end by the time of `ending_by`, headers included, also where they come byte by byte.

    A read that waits for longer ends as one that its own timeout ends. Connections are of these `kinds`, too.
    """
    from http.client import HTTPResponse

    class Timely(HTTPResponse):
        def __init__(self, sock: Any, *args: Any, **options: Any) -> None:
            super().__init__(sock, *args, **options)
            if (until := _until.get()) is not None:
                self.fp = io.BufferedReader(_Timed(self.fp.detach(), sock, until))

    def timed(pool: Any) -> Any:
        connection = type("Connection", (*kinds, pool.ConnectionCls), {"response_class": Timely})
        return type("Pool", (pool,), {"ConnectionCls": connection})

    for adapter in session.adapters.values():
        manager: Any = vars(adapter)["poolmanager"]
        manager.pool_classes_by_scheme = {name: timed(pool) for name, pool in manager.pool_classes_by_scheme.items()}
    return session


class _Timed(io.RawIOBase):
    """A socket's stream that waits for no byte beyond a moment."""

    def __init__(self, raw: Any, sock: Any, until: float) -> None:
        self._raw, self._sock, self._until = raw, sock, until

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left, usual = self._until - time.monotonic(), self._sock.gettimeout()
        if left <= 0:
            raise TimeoutError("the answer takes too long")
        self._sock.settimeout(left if usual is None else min(left, usual))
        try:
            count: int | None = self._raw.readinto(buffer)
        finally:
            self._sock.settimeout(usual)
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


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
