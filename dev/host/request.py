"""A request as the real host's web server reads it: its path, query and headers, or the status that refuses it."""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, quote, unquote

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_HOST = re.compile(r"(?:[A-Za-z0-9!$&'()\-._~]+|\[[0-9A-Fa-f:.]+\])(?::\d+)?\Z")
# An encoded slash stays encoded in a path.
_PATH_ESCAPES = re.compile(r"(?:%(?!2[Ff])[0-9A-Fa-f]{2})+")
_LONE_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
# Kestrel's limits: the request line and all headers in bytes, and the headers' number.
_LONGEST_LINE, _LARGEST_HEADERS, _MOST_HEADERS = 8 * 1024, 32 * 1024, 100


def _escape_again(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    return "".join(f"%{byte:02X}" for byte in error.object[error.start : error.end]), error.end


# What is not UTF-8 behind its escapes stays escaped.
codecs.register_error("escape-again", _escape_again)


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """A request without its body.

    `path` is decoded and without dot segments; header names are in lower case, repeated ones joined by a comma;
    `query` has one entry a name in any letter case, and none without a value; `key` is the function key.
    """

    method: str
    path: str
    url: str
    headers: Mapping[str, str]
    query: Mapping[str, str]
    key: str | None

    @property
    def length(self) -> int:
        """The announced length of the body; 0 for none and for one in chunks."""
        announced = self.headers.get("content-length", "")
        return int(announced) if announced.isdecimal() else 0


def read_request(incoming: web.BaseRequest) -> Request:
    """Read a request; raise the HTTPException by which the real web server or host refuses it unseen."""
    # A method, two blanks, the version and the line's end stand around a target.
    if len(incoming.method) + len(incoming.raw_path) + 12 > _LONGEST_LINE:
        raise web.HTTPRequestURITooLong
    raw = incoming.raw_headers
    if len(raw) > _MOST_HEADERS or sum(len(name) + len(value) + 4 for name, value in raw) > _LARGEST_HEADERS:
        raise web.HTTPRequestHeaderFieldsTooLarge
    host, query = incoming.headers.get("Host", ""), incoming.rel_url.raw_query_string
    if "Host" in incoming.headers and not host:
        raise web.HTTPInternalServerError
    path = decoded_path(incoming.rel_url.raw_path)
    if "\0" in path or (host and not _HOST.match(host)):
        raise web.HTTPBadRequest
    pairs = parse_qsl(query, keep_blank_values=True, errors="escape-again")
    # The last spelling of a name counts; of several keys the first does, even where it is empty.
    spellings = {name.lower(): name for name, _ in pairs}
    code = next((value for name, value in pairs if name.lower() == "code"), None)
    shown = quote(_LONE_PERCENT.sub("%25", path), safe="/-._~!$&'()*+,;=:@%") + (f"?{query}" if query else "")
    return Request(
        method=incoming.method,
        path=path,
        url=f"http://{host}{shown}",
        headers=_joined((name.lower(), value) for name, value in incoming.headers.items()),
        query=_joined((spellings[name.lower()], value) for name, value in pairs if value),
        key=incoming.headers.get("x-functions-key", code),
    )


def decoded_path(raw: str) -> str:
    """Decode a path once and leave its dot segments out; an encoded slash stays, and so does what is not UTF-8."""
    path = _PATH_ESCAPES.sub(lambda found: unquote(found[0], errors="escape-again"), raw)
    if "/." not in path:
        return path
    kept: list[str] = []
    for segment in path.split("/"):
        if segment == ".." and len(kept) > 1:
            kept.pop()
        if segment not in (".", ".."):
            kept.append(segment)
    return "/".join(kept) + ("/" if path.endswith(("/.", "/..")) else "")


def _joined(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    values: dict[str, str] = {}
    for name, value in pairs:
        values[name] = f"{values[name]},{value}" if name in values else value
    return values
