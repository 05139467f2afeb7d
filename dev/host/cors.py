"""What the local settings' CORS lets in: answers to preflights, and the headers of other answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dev.host.answers import Answer

if TYPE_CHECKING:
    from dev.host.request import Request
    from dev.host.settings import LocalSettings

    Header = tuple[bytes, bytes]


def preflight(request: Request, local: LocalSettings) -> Answer | None:
    """The answer to a browser's question whether it may ask, or None for any other request."""
    asked = request.headers.get("access-control-request-method")
    if not local.cors or request.method != "OPTIONS" or "origin" not in request.headers or asked is None:
        return None
    if not _allowed(request, local):
        return Answer(status=204)
    headers = [(b"access-control-allow-methods", asked.encode())]
    if wanted := request.headers.get("access-control-request-headers"):
        headers.append((b"access-control-allow-headers", wanted.encode()))
    return Answer(status=204, headers=tuple(headers))


def with_cors(headers: list[Header], request: Request, local: LocalSettings) -> list[Header]:
    """The headers of an answer; what the settings say of origins takes the place of what the function said."""
    if not local.cors or "origin" not in request.headers:
        return headers
    ours = _of_origin(request, local)
    names = {name for name, _ in ours}
    return [(name, value) for name, value in headers if name.lower() not in names] + ours


def _of_origin(request: Request, local: LocalSettings) -> list[Header]:
    if not _allowed(request, local):
        return []
    if "*" in local.cors and not local.cors_credentials:
        return [(b"access-control-allow-origin", b"*")]
    headers = [(b"access-control-allow-origin", request.headers["origin"].encode()), (b"vary", b"Origin")]
    if local.cors_credentials:
        headers.append((b"access-control-allow-credentials", b"true"))
    return headers


def _allowed(request: Request, local: LocalSettings) -> bool:
    return "*" in local.cors or request.headers["origin"] in local.cors
