"""The host's HTTP side: keys, admin calls, routing, a request's way into a function and back, and the server."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import re
import socket
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any

import uvicorn

from dev.host.request import BadRequest, Request, read_request
from dev.host.settings import HostError
from dev.host.worker import Message

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping

    from dev.host.routes import Routes
    from dev.host.settings import Keys
    from dev.host.worker import Function, Worker

    Receive = Callable[[], Awaitable[dict[str, Any]]]
    Send = Callable[[dict[str, Any]], Awaitable[None]]
    ByHand = Callable[[Function, str], tuple[Message, dict[str, Message]]]

_LIMIT = 104_857_600  # bytes
_HOME = b"<!doctype html><title>Functions</title><p>Your function app is up and running.</p>"
_FUNCTION = re.compile(r"/admin/functions/([^/]+)/?\Z", re.IGNORECASE)
_JSON = re.compile(r"(?:application/(?:[\w.+-]+\+)?|text/)json\s*(?:;|\Z)", re.IGNORECASE)
_BACKLOG = 1024
# Kestrel's: longer than any client's own, so that a kept connection is not closed under a request.
_KEEP_ALIVE = 130


@dataclass(frozen=True, slots=True)
class Answer:
    """A status, a body, and headers in the order they are sent."""

    status: int
    body: bytes = b""
    headers: tuple[tuple[bytes, bytes], ...] = ()


_PING = Answer(200, headers=((b"cache-control", b"no-store,no-cache"), (b"pragma", b"no-cache")))


class _Gone(Exception):
    """The caller hung up before the whole request was here."""


class HttpApp:
    """Answers every request of the host, as an ASGI app; without `keys` every auth level is open."""

    def __init__(self, worker: Worker, routes: Routes, keys: Keys | None, by_hand: ByHand) -> None:
        self._worker, self._routes, self._keys, self._by_hand = worker, routes, keys, by_hand
        self._runs: set[asyncio.Task[Any]] = set()
        limit = os.environ.get("FUNCTIONS_REQUEST_BODY_SIZE_LIMIT", "")
        self._limit = int(limit) if limit.isdecimal() else _LIMIT

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """Answer one request."""
        try:
            answer = await self._answer(read_request(scope), receive)
        except BadRequest as refused:
            answer = Answer(refused.status, headers=((b"connection", b"close"),))
        except _Gone:
            return
        headers = list(answer.headers)
        announced = any(name.lower() == b"content-length" for name, _ in headers)
        # As on the real host, an answer with a body goes out in chunks unless its function sets the length; HTTP/1.0
        # knows no chunks.
        in_chunks = answer.body and scope["http_version"] != "1.0"
        if not announced and not in_chunks and answer.status not in (204, 304):
            headers.append((b"content-length", str(len(answer.body)).encode()))
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": answer.body})

    async def _answer(self, request: Request, receive: Receive) -> Answer:
        path = request.path.lower().removesuffix("/")
        if path == "/admin/host/ping" and request.method in ("GET", "POST"):
            return _PING
        if named := _FUNCTION.match(request.path):
            return self._refused(request.key) or await self._admin_function(named[1].lower(), request, receive)
        if (request.method, path) == ("GET", "/admin/host/status"):
            return self._refused(request.key) or _json(self._status())
        if (request.method, path) == ("GET", "/admin/functions"):
            return self._refused(request.key) or _json([_described(each) for each in self._worker.functions])
        if found := self._routes.find(request.method, request.path):
            return await self._invoke(request, receive, found[0].function, found[1])
        return Answer(200, _HOME, ((b"content-type", b"text/html"),)) if request.path == "/" else Answer(404)

    async def _invoke(
        self, request: Request, receive: Receive, function: Function, params: Mapping[str, str]
    ) -> Answer:
        level = str(function.trigger.get("authLevel") or "FUNCTION").upper()
        if self._keys and not self._keys.opens(function.name, level, request.key):
            return Answer(401)
        if function.disabled and not (self._keys and self._keys.is_master(request.key)):
            return Answer(404)
        if request.length > self._limit:
            raise BadRequest(500)
        # Of a body without an announced length the function sees nothing.
        body = await _body(receive) if request.length else b""
        call = Message(
            method=request.method,
            url=request.url,
            headers=request.headers,
            query=request.query,
            params=params,
            body=Message(bytes=body) if body else Message(),
        )
        outcome = await self._worker.invoke(function, Message(http=call), {})
        return _returned(outcome.returned) if outcome.succeeded else Answer(500)

    def _refused(self, key: str | None) -> Answer | None:
        """Return the answer to a key that does not open /admin, or None for one that does."""
        if self._keys is None or self._keys.is_master(key):
            return None
        return Answer(403) if self._keys.is_host(key) else Answer(401, headers=((b"www-authenticate", b"Bearer"),))

    async def _admin_function(self, name: str, request: Request, receive: Receive) -> Answer:
        function = next((each for each in self._worker.functions if each.name.lower() == name), None)
        if request.method == "GET" and function:
            return _json(_described(function))
        if request.method != "POST":
            return Answer(404)
        if not _JSON.match(request.headers.get("content-type", "")):
            return Answer(415)
        try:
            text = json.loads(await _body(receive)).get("input")
        except (ValueError, AttributeError, RecursionError):
            return Answer(400)
        if isinstance(text, dict | list) or function is None:
            return Answer(404 if function is None else 400)
        run = self._worker.invoke(function, *self._by_hand(function, "" if text is None else str(text)))
        task = asyncio.create_task(run)
        self._runs.add(task)
        task.add_done_callback(self._runs.discard)
        return Answer(202)

    def _status(self) -> dict[str, Any]:
        worker = self._worker
        return {"id": "local", "state": "Running", "running": worker.running, "executed": dict(worker.executed)}


async def _body(receive: Receive) -> bytes:
    """Read the whole body; half a body is never one."""
    parts, more = [], True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _Gone
        parts.append(message.get("body", b""))
        more = message.get("more_body", False)
    return b"".join(parts)


def _described(function: Function) -> dict[str, Any]:
    return {"name": function.name, "isDisabled": function.disabled, "config": {"bindings": function.bindings}}


def _json(body: Any) -> Answer:
    return Answer(200, json.dumps(body).encode(), ((b"content-type", b"application/json; charset=utf-8"),))


def _returned(returned: Message | None) -> Answer:
    """Return the answer of a function's return value: an `http` message, or a bare text as 200."""
    kind = returned.WhichOneof("data") if returned else None
    if returned is None or kind is None:
        return Answer(204)
    if kind != "http":
        return Answer(200, _bytes(returned), ((b"content-type", b"text/plain; charset=utf-8"),))
    http = returned.http
    headers = [
        (name.encode("latin-1"), str(value).encode())
        for name, value in http.headers.items()
        if name.lower() not in ("transfer-encoding", "connection")
    ]
    headers += [(b"set-cookie", "; ".join(_cookie(cookie)).encode()) for cookie in http.cookies or ()]
    return Answer(int(http.status_code), _bytes(http.body), tuple(headers))


def _bytes(data: Message | None) -> bytes:
    kind = data.WhichOneof("data") if data else None
    value = getattr(data, kind) if kind else b""
    return value if isinstance(value, bytes) else str(value).encode()


def _cookie(cookie: Message) -> Iterator[str]:
    """Yield a cookie's parts as the real host writes them: domain and path are there even where they are empty."""
    yield f"{cookie.name}={cookie.value}"
    if cookie.expires:
        yield f"expires={format_datetime(datetime.fromtimestamp(cookie.expires.value.seconds, UTC), usegmt=True)}"
    if cookie.max_age:
        yield f"max-age={int(cookie.max_age.value)}"
    yield f"domain={cookie.domain.value if cookie.domain else ''}"
    yield f"path={cookie.path.value if cookie.path else ''}"
    if cookie.secure and cookie.secure.value:
        yield "secure"
    if cookie.same_site:
        yield f"samesite={cookie.same_site}"
    if cookie.http_only and cookie.http_only.value:
        yield "httponly"


def listen(port: int) -> socket.socket:
    """Listen on this machine; port 0 takes a free one. HostError when the port is taken."""
    # asyncio turns Nagle's delay off only where the protocol is named, which socket.create_server does not do.
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("127.0.0.1", port))
        listening.listen(_BACKLOG)
    except OSError as error:
        listening.close()
        if error.errno == errno.EADDRINUSE:
            raise HostError(f"port {port} is in use; choose another one") from error
        raise HostError(f"cannot listen on port {port}: {error.strerror}") from error
    return listening


class Server(uvicorn.Server):
    """Uvicorn without its signal handlers: the host decides when it ends."""

    def __init__(self, app: HttpApp, ready: Callable[[], None]) -> None:
        super().__init__(
            uvicorn.Config(
                app, http="httptools", ws="none", lifespan="off", log_config=None, access_log=False,
                server_header=False, proxy_headers=False, backlog=_BACKLOG, timeout_keep_alive=_KEEP_ALIVE,
            )
        )  # fmt: skip
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to accept, then say so."""
        await super().startup(sockets)
        if self.started:
            self._ready()

    def cut_off(self) -> None:
        """Hang up on the callers that still wait; their functions go on."""
        for connection in list(self.server_state.connections):
            connection.transport.abort()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to the host."""
        yield
