"""Reads HTTP requests for the rest of the app, which uses no types of Azure Functions."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, urlsplit

import azure.functions as func

from shared.api.parameters import Request, check_names
from shared.errors import NO_LENGTH, Invalid, Refused
from shared.settings import settings

_HOST = re.compile(r"(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
_KEY_HEADER, _KEY_PARAMETER = "x-functions-key", "code"


def body_of(req: func.HttpRequest) -> bytes:
    """Return the body; raises Refused for a chunked body, which the host does not pass on."""
    body = req.get_body() or b""
    if not body and req.headers.get("Transfer-Encoding"):
        raise Refused(NO_LENGTH)
    return body


def request_of(req: func.HttpRequest, *, with_body: bool = False, base: str = "") -> Request:
    """Return a request in the app's own type, with its body only if `with_body`."""
    blank = {name: "" for name, value in _query(req) if not value}
    body = body_of(req) if with_body else b""
    return Request(req.route_params, {**blank, **req.params}, body, req.headers, base)


def is_dry(req: func.HttpRequest, *others: str) -> bool:
    """Return `dry_run`, false by default; raises Invalid for other values, and for unknown parameters."""
    query = dict(_query(req))
    check_names(query, ("dry_run", *others))
    value = query.get("dry_run", "false").lower()
    if value not in ("true", "false"):
        raise Invalid({"dry_run": "true or false is expected"})
    return value == "true"


def query_of(req: func.HttpRequest) -> dict[str, str]:
    """Return the query without the key and without blank values."""
    return {name: value for name, value in req.params.items() if name.lower() != _KEY_PARAMETER}


def keys_of(req: func.HttpRequest) -> tuple[str, ...]:
    """Return the keys of a request: the first `?code=`, as the host reads it, and the header."""
    codes = [value for name, value in _query(req) if name.lower() == _KEY_PARAMETER]
    return tuple(filter(None, (*codes[:1], req.headers.get(_KEY_HEADER))))


def address(req: func.HttpRequest) -> str:
    """Return the app's address for links in answers: PUBLIC_BASE_URL, or else the address that the caller used."""
    return settings().public_base_url.rstrip("/") or "://".join(origin(req))


def origin(req: func.HttpRequest) -> tuple[str, str]:
    """Return the scheme, and the host with any port, that the caller used."""
    parts = urlsplit(req.url)
    forwarded = (req.headers.get("X-Forwarded-Proto") or "").split(",")[0].strip().lower()
    scheme = forwarded if forwarded in ("http", "https") else parts.scheme
    # The front end passes on any Host header.
    host = parts.netloc if _HOST.fullmatch(parts.netloc) else "localhost"
    return scheme, host


def _query(req: func.HttpRequest) -> list[tuple[str, str]]:
    # The host drops parameters without a value; only the URL still has them.
    return parse_qsl(urlsplit(req.url).query, keep_blank_values=True)
