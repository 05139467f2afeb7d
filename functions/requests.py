"""What the rest of the app needs to know of an HTTP request, without the types of Azure Functions."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, urlsplit

import azure.functions as func

from shared.api.parameters import Given

_HOST = re.compile(r"(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")


def given(req: func.HttpRequest) -> Given:
    """The parts of its path, its query and its body."""
    # The host keeps parameters without a value from the worker: only the address still has them.
    pairs = parse_qsl(urlsplit(req.url).query, keep_blank_values=True)
    blank = {name: "" for name, value in pairs if not value}
    return Given(path=req.route_params, query={**blank, **req.params}, body=req.get_body() or b"")


def origin(req: func.HttpRequest) -> tuple[str, str]:
    """The scheme and host that the caller used, as far as they can be told; the host may carry a port."""
    parts = urlsplit(req.url)
    forwarded = (req.headers.get("X-Forwarded-Proto") or "").split(",")[0].strip().lower()
    scheme = forwarded if forwarded in ("http", "https") else parts.scheme
    # The front end passes on whatever the caller wrote.
    host = parts.netloc if _HOST.fullmatch(parts.netloc) else "localhost"
    return scheme, host
