"""Reads HTTP requests for the rest of the app, which knows no types of Azure Functions."""

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
    """Return the body; raise Refused for one in chunks, which the host does not pass on."""
    body = req.get_body() or b""
    if not body and req.headers.get("Transfer-Encoding"):
        raise Refused(NO_LENGTH)
    return body


def request_of(req: func.HttpRequest, *, with_body: bool = False, base: str = "") -> Request:
    """Return a request in the app's own form, with its body only if `with_body`."""
    blank = {name: "" for name, value in _query(req) if not value}
    body = body_of(req) if with_body else b""
    return Request(req.route_params, {**blank, **req.params}, body, req.headers, base)


def is_dry(req: func.HttpRequest, *others: str) -> bool:
    """Return `dry_run`, false by default; raises Invalid for other values, and for parameters beside the `others`."""
    query = dict(_query(req))
    check_names(query, ("dry_run", *others))
    chosen = query.get("dry_run", "false").lower()
    if chosen not in ("true", "false"):
        raise Invalid({"dry_run": "true or false is expected"})
    return chosen == "true"


def query_of(req: func.HttpRequest) -> dict[str, str]:
    """Return the query without the key; blank values are left out."""
    return {name: value for name, value in req.params.items() if name.lower() != _KEY_PARAMETER}


def keys_of(req: func.HttpRequest) -> tuple[str, ...]:
    """Return the keys that the caller sent: the first `?code=`, which counts for the host too, and the header."""
    codes = [value for name, value in _query(req) if name.lower() == _KEY_PARAMETER]
    return tuple(filter(None, (*codes[:1], req.headers.get(_KEY_HEADER))))


def address(req: func.HttpRequest) -> str:
    """Return the app's own address for answers: PUBLIC_BASE_URL, or else the one that the caller used."""
    return settings().public_base_url.rstrip("/") or "://".join(origin(req))


def origin(req: func.HttpRequest) -> tuple[str, str]:
    """Return the scheme and host that the caller used, as far as the request has them; the host may have a port."""
    parts = urlsplit(req.url)
    forwarded = (req.headers.get("X-Forwarded-Proto") or "").split(",")[0].strip().lower()
    scheme = forwarded if forwarded in ("http", "https") else parts.scheme
    # The front end passes on anything that the caller wrote.
    host = parts.netloc if _HOST.fullmatch(parts.netloc) else "localhost"
    return scheme, host


def _query(req: func.HttpRequest) -> list[tuple[str, str]]:
    # The host keeps parameters without a value from the worker: only the address still has them.
    return parse_qsl(urlsplit(req.url).query, keep_blank_values=True)
