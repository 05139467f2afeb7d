"""The host's HTTP side as an ASGI app: routing, keys, CORS, and a request's way into a function and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from dev.host import protos
from dev.host.answers import Answer, from_returned
from dev.host.keys import FUNCTION, HEADER, Keys

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    from dev.host.admin import Admin
    from dev.host.routes import Route, Routes
    from dev.host.settings import LocalSettings
    from dev.host.worker import Worker

    Receive = Callable[[], Awaitable[dict[str, Any]]]
    Send = Callable[[dict[str, Any]], Awaitable[None]]

MAX_BODY = 210 * 1024 * 1024
_HOME = b"<!doctype html><title>Functions</title><p>Your function app is up and running.</p>"
_NOT_FOUND = Answer(status=404)
_UNAUTHORIZED = Answer(status=401)
_TOO_LARGE = Answer(status=413)
_NO_BODY = protos.TypedData()


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """A request's line and headers; header names in lower case, repeated ones joined by a comma."""

    method: str
    scheme: str
    raw_path: str
    raw_query: str
    headers: Mapping[str, str]
    query: Mapping[str, str]

    @property
    def url(self) -> str:
        """The whole URL as the caller wrote it."""
        query = f"?{self.raw_query}" if self.raw_query else ""
        return f"{self.scheme}://{self.headers.get('host', '')}{self.raw_path}{query}"

    @property
    def key(self) -> str | None:
        """The key that came with it: the header's, else the query's."""
        if HEADER in self.headers:
            return self.headers[HEADER]
        return next((value for name, value in self.query.items() if name.lower() == "code"), None)


class _Gone(Exception):
    """The caller hung up before the whole request was here."""


class HttpApp:
    """Answers every request of the host; `keys` None leaves auth levels unenforced, as `func start` does."""

    def __init__(
        self,
        *,
        worker: Worker,
        routes: Routes,
        admin: Admin,
        keys: Keys | None,
        local: LocalSettings,
        custom_headers: Mapping[str, str],
    ) -> None:
        self._worker = worker
        self._routes = routes
        self._admin = admin
        self._keys = keys
        self._local = local
        self._custom = tuple((name.encode(), value.encode()) for name, value in custom_headers.items())

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """One request."""
        request = _request(scope)
        try:
            answer = _preflight(request, self._local) or await self._answer(request, receive)
        except _Gone:
            return
        headers = [*answer.headers, *self._custom]
        if self._local.cors and "origin" in request.headers:
            # What the host says of origins takes the place of what the function said.
            ours = _cors(request, self._local)
            names = {name.lower() for name, _ in ours}
            headers = [(name, value) for name, value in headers if name.lower() not in names] + [*ours]
        if answer.status >= 200 and answer.status not in (204, 304):
            headers.append((b"content-length", str(len(answer.body)).encode()))
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": answer.body})

    async def _answer(self, request: Request, receive: Receive) -> Answer:
        path = request.raw_path.strip("/").lower()
        if not path:
            return Answer(status=200, headers=((b"content-type", b"text/html"),), body=_HOME)
        if path == "admin" or path.startswith("admin/"):
            if self._keys and not self._keys.opens_admin(request.key):
                return _UNAUTHORIZED
            body = await _body(request, receive)
            return _TOO_LARGE if body is None else self._admin.answer(request.method, request.raw_path, body)
        found = self._routes.find(request.method, request.raw_path)
        return await self._invoke(request, receive, *found) if found else _NOT_FOUND

    async def _invoke(self, request: Request, receive: Receive, route: Route, params: Mapping[str, str]) -> Answer:
        function = route.function
        level = str(function.trigger.get("authLevel") or FUNCTION).upper()
        if self._keys and not self._keys.opens(function.name, level, request.key):
            return _UNAUTHORIZED
        body = await _body(request, receive)
        if body is None:
            return _TOO_LARGE
        call = protos.RpcHttp(
            method=request.method,
            url=request.url,
            headers=request.headers,
            query=request.query,
            params=params,
            body=protos.TypedData(bytes=body) if body else _NO_BODY,
        )
        outcome = await self._worker.invoke(function, protos.TypedData(http=call), {})
        return from_returned(outcome.returned) if outcome.succeeded else Answer(status=500)


def _request(scope: Mapping[str, Any]) -> Request:
    raw_query = scope["query_string"].decode("latin-1")
    return Request(
        method=scope["method"],
        scheme=scope["scheme"],
        raw_path=scope["raw_path"].decode("latin-1"),
        raw_query=raw_query,
        headers=_headers(scope["headers"]),
        query=_query(raw_query) if raw_query else {},
    )


def _headers(pairs: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for raw_name, raw_value in pairs:
        name, value = raw_name.decode("latin-1"), _text(raw_value)
        headers[name] = f"{headers[name]},{value}" if name in headers else value
    return headers


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def _query(raw: str) -> dict[str, str]:
    """The query as the host hands it to the worker: without parameters that have no value."""
    query: dict[str, str] = {}
    names: dict[str, str] = {}
    for name, value in parse_qsl(raw):
        known = names.setdefault(name.lower(), name)
        query[known] = f"{query[known]},{value}" if known in query else value
    return query


async def _body(request: Request, receive: Receive) -> bytes | None:
    """The whole body, or None when it is larger than Azure takes; half a body is never one."""
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > MAX_BODY:
        return None
    parts, size, more = [], 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _Gone
        part = message.get("body", b"")
        size += len(part)
        if size > MAX_BODY:
            return None
        parts.append(part)
        more = message.get("more_body", False)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _preflight(request: Request, local: LocalSettings) -> Answer | None:
    asked = request.headers.get("access-control-request-method")
    if not local.cors or request.method != "OPTIONS" or "origin" not in request.headers or asked is None:
        return None
    if not _allowed(request, local):
        return Answer(status=204)
    headers = [(b"access-control-allow-methods", asked.encode())]
    if wanted := request.headers.get("access-control-request-headers"):
        headers.append((b"access-control-allow-headers", wanted.encode()))
    return Answer(status=204, headers=tuple(headers))


def _cors(request: Request, local: LocalSettings) -> list[tuple[bytes, bytes]]:
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
