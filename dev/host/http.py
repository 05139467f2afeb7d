"""The host's HTTP side as an ASGI app: routing, keys, and a request's way into a function and back."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from dev.host import protos
from dev.host.answers import Answer, from_returned
from dev.host.cors import preflight, with_cors
from dev.host.keys import FUNCTION, Keys
from dev.host.request import BadRequest, Request, read_request

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from dev.host.admin import Admin
    from dev.host.routes import Route, Routes
    from dev.host.settings import LocalSettings
    from dev.host.worker import Worker

    Receive = Callable[[], Awaitable[dict[str, Any]]]
    Send = Callable[[dict[str, Any]], Awaitable[None]]

_LIMIT_SETTING = "FUNCTIONS_REQUEST_BODY_SIZE_LIMIT"
_LIMIT = 104_857_600  # bytes
_HOME = b"<!doctype html><title>Functions</title><p>Your function app is up and running.</p>"
_NOT_FOUND = Answer(status=404)
_UNAUTHORIZED = Answer(status=401)
_NO_BODY = protos.TypedData()
_WITHOUT_LENGTH = (204, 304)


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
        self._custom = [(name.encode(), value.encode()) for name, value in custom_headers.items()]
        limit = os.environ.get(_LIMIT_SETTING, "")
        # A body over the limit of the setting is refused; one over the host's own is an error in its reading.
        self._limit, self._too_large = (
            (int(limit), Answer(status=413)) if limit.isdecimal() else (_LIMIT, Answer(status=500))
        )

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """One request."""
        try:
            request = read_request(scope)
            answer = preflight(request, self._local) or await self._answer(request, receive)
            headers = with_cors([*answer.headers, *self._custom], request, self._local)
        except BadRequest as refused:
            answer, headers = Answer(status=refused.status), [(b"connection", b"close")]
        except _Gone:
            return
        # As on the real host, an answer with a body goes out in chunks unless its function sets the length; HTTP/1.0
        # knows no chunks.
        chunked = answer.body and scope["http_version"] != "1.0"
        given = any(name.lower() == b"content-length" for name, _ in headers)
        if answer.status not in _WITHOUT_LENGTH and not chunked and not given:
            headers.append((b"content-length", str(len(answer.body)).encode()))
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": answer.body})

    async def _answer(self, request: Request, receive: Receive) -> Answer:
        if action := self._admin.action(request.method, request.path):
            if not action.anonymous and self._keys and (refused := self._keys.refused_admin(request.key)):
                return refused
            return action.answer(request.headers.get("content-type", ""), await _body(receive))
        if found := self._routes.find(request.method, request.path):
            return await self._invoke(request, receive, *found)
        if request.path == "/":
            return Answer(status=200, headers=((b"content-type", b"text/html"),), body=_HOME)
        return _NOT_FOUND

    async def _invoke(self, request: Request, receive: Receive, route: Route, params: Mapping[str, str]) -> Answer:
        function = route.function
        level = str(function.trigger.get("authLevel") or FUNCTION).upper()
        if self._keys and not self._keys.opens(function.name, level, request.key):
            return _UNAUTHORIZED
        if function.disabled and not (self._keys and self._keys.is_master(request.key)):
            return _NOT_FOUND
        if request.length > self._limit:
            return self._too_large
        # Of a body without an announced length the function sees nothing.
        body = await _body(receive) if request.length else b""
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


async def _body(receive: Receive) -> bytes:
    """The whole body; half a body is never one."""
    parts, more = [], True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _Gone
        parts.append(message.get("body", b""))
        more = message.get("more_body", False)
    return parts[0] if len(parts) == 1 else b"".join(parts)
