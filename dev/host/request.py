"""A request as the real host's web server reads it: its path, query and headers, or the status that refuses it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Mapping

_HOST = re.compile(r"(?:[A-Za-z0-9!$&'()\-._~]+|\[[0-9A-Fa-f:.]+\])(?::\d+)?\Z")
_ESCAPES = re.compile(r"(?:%[0-9A-Fa-f]{2})+")
# An encoded slash stays encoded in a path.
_PATH_ESCAPES = re.compile(r"(?:%(?!2[Ff])[0-9A-Fa-f]{2})+")
_LONE_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
# Kestrel's limits: the request line and all headers in bytes, and the headers' number.
_LONGEST_LINE, _LARGEST_HEADERS, _MOST_HEADERS = 8 * 1024, 32 * 1024, 100


class BadRequest(Exception):
    """The request goes no further than the web server, which answers with `status`."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """A request without its body.

    `path` is decoded and without dot segments; header names are in lower case, repeated ones joined by a comma;
    `query` has one entry a name in any letter case, and none without a value; `key` is the function key.
    """

    method: str
    scheme: str
    path: str
    raw_query: str
    headers: Mapping[str, str]
    query: Mapping[str, str]
    key: str | None

    @property
    def url(self) -> str:
        """The URL that the function sees: the path is encoded again, the query is as it was written."""
        path = quote(_LONE_PERCENT.sub("%25", self.path), safe="/-._~!$&'()*+,;=:@%")
        query = f"?{self.raw_query}" if self.raw_query else ""
        return f"{self.scheme}://{self.headers['host']}{path}{query}"

    @property
    def length(self) -> int:
        """The announced length of the body; 0 for none and for one in chunks."""
        announced = self.headers.get("content-length", "")
        return int(announced) if announced.isdecimal() else 0


def read_request(scope: Mapping[str, Any]) -> Request:
    """Read the request of an ASGI scope; BadRequest where the real web server or host refuses it unseen."""
    headers: list[tuple[bytes, bytes]] = scope["headers"]
    raw_path, raw_query = scope["raw_path"].decode("latin-1"), scope["query_string"].decode("latin-1")
    # A method, two blanks, the version and the line's end stand around a target.
    if len(scope["method"]) + len(raw_path) + len(raw_query) + bool(raw_query) + 12 > _LONGEST_LINE:
        raise BadRequest(414)
    if len(headers) > _MOST_HEADERS or sum(len(name) + len(value) + 4 for name, value in headers) > _LARGEST_HEADERS:
        raise BadRequest(431)
    _check_host([value for name, value in headers if name == b"host"], scope["http_version"])
    path = decoded_path(raw_path)
    if "\0" in path or not raw_path.isascii() or not raw_query.isascii():
        raise BadRequest(400)
    pairs = _pairs(raw_query)
    # The header's key goes before the query's; of several the first, even where it is empty.
    keys = [value.decode("latin-1").strip() for name, value in headers if name == b"x-functions-key"]
    keys += [value for name, value in pairs if name.lower() == "code"]
    return Request(
        method=scope["method"],
        scheme=scope["scheme"],
        path=path,
        raw_query=raw_query,
        headers={"host": ""} | _headers(headers),
        query=_query(pairs),
        key=keys[0] if keys else None,
    )


def decoded_path(raw: str) -> str:
    """Decode a path once and leave its dot segments out; an encoded slash stays, and so does what is not UTF-8."""
    path = _PATH_ESCAPES.sub(_unescaped, raw)
    if "/." not in path:
        return path
    kept: list[str] = []
    segments = path.split("/")
    for index, segment in enumerate(segments):
        if segment == ".." and len(kept) > 1:
            kept.pop()
        if segment not in (".", ".."):
            kept.append(segment)
        elif index == len(segments) - 1:
            kept.append("")
    return "/".join(kept)


def _check_host(hosts: list[bytes], version: str) -> None:
    if len(hosts) != 1:
        if hosts or version == "1.1":
            raise BadRequest(400)
    elif not hosts[0]:
        raise BadRequest(500)
    elif not _HOST.match(hosts[0].decode("latin-1")):
        raise BadRequest(400)


def _unescaped(escapes: re.Match[str]) -> str:
    written = escapes[0]
    rest, text = bytes.fromhex(written.replace("%", "")), ""
    while rest:
        try:
            return text + rest.decode()
        except UnicodeDecodeError as error:
            text += rest[: error.start].decode()
            at = len(written) - 3 * (len(rest) - error.start)
            text += written[at : at + 3 * (error.end - error.start)]
            rest = rest[error.end :]
    return text


def _pairs(raw: str) -> list[tuple[str, str]]:
    parts = (part.replace("+", " ").partition("=") for part in raw.split("&") if part)
    return [(_ESCAPES.sub(_unescaped, name), _ESCAPES.sub(_unescaped, value)) for name, _, value in parts]


def _query(pairs: list[tuple[str, str]]) -> dict[str, str]:
    # The last spelling of a name counts.
    spellings = {name.lower(): name for name, _ in pairs}
    values: dict[str, list[str]] = {}
    for name, value in pairs:
        if value:
            values.setdefault(spellings[name.lower()], []).append(value)
    return {name: ",".join(each) for name, each in values.items()}


def _headers(pairs: list[tuple[bytes, bytes]]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for raw_name, raw_value in pairs:
        name = raw_name.decode("latin-1")
        try:
            value = raw_value.decode()
        except UnicodeDecodeError:
            value = raw_value.decode("latin-1")
        headers[name] = f"{headers[name]},{value}" if name in headers else value
    return headers
