"""HTTP answers, and how what a function returned becomes one."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dev.host import protos

# The server frames the body itself, but for a Content-Length that the function sets.
_OURS = ("transfer-encoding", "connection")


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """A status, headers in the order they are sent, and a body, which the server frames."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...] = ()
    body: bytes = b""


def from_returned(returned: protos.TypedData | None) -> Answer:
    """The answer for a function's return value: an `http` message, or a bare text as 200."""
    if returned is None or returned.kind is None:
        return Answer(status=204)
    if returned.kind != "http":
        return Answer(
            status=200,
            headers=((b"content-type", b"text/plain; charset=utf-8"),),
            body=_bytes(returned.value),
        )
    http: protos.RpcHttp = returned.value
    headers = [
        (name.encode("latin-1"), str(value).encode("utf-8"))
        for name, value in http.headers.items()
        if name.lower() not in _OURS
    ]
    headers += [(b"set-cookie", _cookie(cookie).encode("utf-8")) for cookie in http.cookies or ()]
    return Answer(
        status=int(http.status_code),
        headers=tuple(headers),
        body=_bytes(http.body.value) if http.body and http.body.kind else b"",
    )


def _bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


def _cookie(cookie: protos.RpcHttpCookie) -> str:
    return "; ".join((f"{cookie.name}={cookie.value}", *_attributes(cookie)))


def _attributes(cookie: protos.RpcHttpCookie) -> Iterator[str]:
    if cookie.expires:
        moment = datetime.fromtimestamp(cookie.expires.value.seconds, UTC)
        yield f"expires={format_datetime(moment, usegmt=True)}"
    if cookie.max_age:
        yield f"max-age={int(cookie.max_age.value)}"
    if cookie.domain and cookie.domain.value:
        yield f"domain={cookie.domain.value}"
    if cookie.path and cookie.path.value:
        yield f"path={cookie.path.value}"
    if cookie.secure and cookie.secure.value:
        yield "secure"
    if cookie.same_site:
        yield f"samesite={cookie.same_site.lower()}"
    if cookie.http_only and cookie.http_only.value:
        yield "httponly"
