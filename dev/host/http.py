"""The host's HTTP side: keys, admin calls, routing, a request's way into a function and back, and the server."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote

from aiohttp import HttpVersion11, web
from azure_functions_runtime.bindings.datumdef import Datum

from dev.host.routes import decoded_path
from dev.host.settings import HostError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from http.cookies import Morsel

    from dev.host.routes import Routes
    from dev.host.settings import Keys
    from dev.host.worker import Function, Worker

    ByHand = Callable[[Function, str], tuple[Datum, dict[str, Datum]]]

_LIMIT = 104_857_600  # bytes
_FUNCTION = re.compile(r"/admin/functions/([^/]+)/?\Z", re.IGNORECASE)
_JSON = re.compile(r"(?:application/(?:[\w.+-]+\+)?|text/)json\s*(?:;|\Z)", re.IGNORECASE)
# Longer than any client's own, so that a kept connection is not closed under a request.
_KEEP_ALIVE_SECONDS = 130
_HOST = re.compile(r"(?:[A-Za-z0-9!$&'()\-._~]+|\[[0-9A-Fa-f:.]+\])(?::\d+)?\Z")
_LONE_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
# Kestrel's limits: the request line and all headers in bytes, and the headers' number.
_LONGEST_LINE, _LARGEST_HEADERS, _MOST_HEADERS = 8 * 1024, 32 * 1024, 100


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


def _joined(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    values: dict[str, str] = {}
    for name, value in pairs:
        values[name] = f"{values[name]},{value}" if name in values else value
    return values


class HttpApp:
    """Answers every request of the host; without `keys` every auth level is open."""

    def __init__(self, worker: Worker, routes: Routes, keys: Keys | None, by_hand: ByHand) -> None:
        self._worker, self._routes, self._keys, self._by_hand = worker, routes, keys, by_hand
        self._runs: set[asyncio.Task[Any]] = set()
        self._limit = int(os.environ.get("FUNCTIONS_REQUEST_BODY_SIZE_LIMIT") or _LIMIT)

    async def serve(self, listening: socket.socket, grace: float) -> web.ServerRunner:
        """Begin to answer on a socket; `cleanup` of the result ends that, and hangs up on who still waits then."""
        # Limits are those of `read_request`. What breaks off or is no HTTP is no error of the host.
        logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)
        loop = asyncio.get_running_loop()
        server = web.Server(
            self._respond,
            request_factory=lambda message, body, protocol, writer, task: web.BaseRequest(
                message, body, protocol, writer, task, loop, client_max_size=0
            ),
            max_line_size=1 << 17,
            max_field_size=1 << 17,
            max_headers=1000,
            keepalive_timeout=_KEEP_ALIVE_SECONDS,
            access_log=None,
        )
        runner = web.ServerRunner(server, shutdown_timeout=grace)
        await runner.setup()
        await web.SockSite(runner, listening, backlog=1024).start()
        return runner

    async def _respond(self, incoming: web.BaseRequest) -> web.Response:
        response = await self._answer(read_request(incoming), incoming)
        # As on the real host, an answer with a body goes out in chunks unless its function sets the length.
        if response.body and "Content-Length" not in response.headers and incoming.version == HttpVersion11:
            response.enable_chunked_encoding()
        return response

    async def _answer(self, request: Request, incoming: web.BaseRequest) -> web.Response:
        path = request.path.lower().removesuffix("/")
        if path == "/admin/host/ping" and request.method in ("GET", "POST"):
            return web.Response(headers={"Cache-Control": "no-store,no-cache"})
        if named := _FUNCTION.match(request.path):
            return self._refused(request.key) or await self._run(named[1].lower(), request, incoming)
        if (request.method, path) == ("GET", "/admin/host/status"):
            return self._refused(request.key) or self._status()
        if (request.method, path) == ("GET", "/admin/functions"):
            return self._refused(request.key) or web.json_response([_described(one) for one in self._worker.functions])
        if found := self._routes.find(request.method, request.path):
            return await self._invoke(found[0].function, found[1], request, incoming)
        return web.Response(text="Your function app is up and running.") if path == "" else web.Response(status=404)

    async def _invoke(
        self, function: Function, params: Mapping[str, str], request: Request, incoming: web.BaseRequest
    ) -> web.Response:
        asked = str(function.trigger.get("authLevel") or "FUNCTION").upper()
        level = self._keys.level(request.key, function.name) if self._keys else "master"
        if (asked == "FUNCTION" and not level) or (asked == "ADMIN" and level != "master"):
            return web.Response(status=401)
        if function.disabled and level != "master":
            return web.Response(status=404)
        if request.length > self._limit:
            return web.Response(status=500, headers={"Connection": "close"})
        call = {
            "method": Datum(request.method, "string"),
            "url": Datum(request.url, "string"),
            "headers": _texts(request.headers),
            "query": _texts(request.query),
            "params": _texts(params),
            # Of a body without an announced length the function sees nothing.
            "body": Datum(await incoming.read() if request.length else b"", "bytes"),
        }
        # The function goes on where its caller is cut off.
        run = asyncio.shield(self._worker.invoke(function, Datum(call, "http"), {}))
        succeeded, returned = await run
        return _returned(returned) if succeeded else web.Response(status=500)

    def _refused(self, key: str | None) -> web.Response | None:
        """Return the answer to a key that does not open /admin, or None for one that does."""
        level = self._keys.level(key) if self._keys else "master"
        if level == "host":
            return web.Response(status=403)
        return None if level == "master" else web.Response(status=401, headers={"WWW-Authenticate": "Bearer"})

    async def _run(self, name: str, request: Request, incoming: web.BaseRequest) -> web.Response:
        """Begin a run of a function by hand."""
        function = next((each for each in self._worker.functions if each.name.lower() == name), None)
        if request.method != "POST" or function is None:
            return web.Response(status=404)
        if not _JSON.match(request.headers.get("content-type", "")):
            return web.Response(status=415)
        try:
            text = json.loads(await incoming.read()).get("input")
        except (ValueError, AttributeError, RecursionError):
            return web.Response(status=400)
        if isinstance(text, dict | list):
            return web.Response(status=400)
        run = self._worker.invoke(function, *self._by_hand(function, "" if text is None else str(text)))
        task = asyncio.create_task(run)
        self._runs.add(task)
        task.add_done_callback(self._runs.discard)
        return web.Response(status=202)

    def _status(self) -> web.Response:
        worker = self._worker
        return web.json_response({"state": "Running", "running": worker.running, "executed": worker.executed})


def _texts(values: Mapping[str, str]) -> dict[str, Datum]:
    return {name: Datum(value, "string") for name, value in values.items()}


def _described(function: Function) -> dict[str, Any]:
    return {"name": function.name, "isDisabled": function.disabled, "config": {"bindings": function.bindings}}


def _returned(returned: Datum | None) -> web.Response:
    """Return the answer of a function's return value: a response, or a bare text as 200."""
    if returned is None:
        return web.Response(status=204)
    if returned.type != "http":
        return web.Response(text=returned.value)
    http = returned.value
    response = web.Response(body=http["body"].value, status=int(http["status_code"].value))
    for name, value in http["headers"].items():
        response.headers[name] = str(value.value)
    for cookies in http["cookies"] or ():
        for cookie in cookies.values():
            response.headers.add("Set-Cookie", "; ".join(_cookie(cookie)))
    return response


def _cookie(cookie: Morsel[str]) -> Iterable[str]:
    """Yield a cookie's parts as the real host writes them: domain and path are there even where they are empty."""
    yield f"{cookie.key}={cookie.value}"
    for name in ("expires", "max-age", "domain", "path", "secure", "samesite", "httponly"):
        value = cookie[name]
        if value is True:
            yield name
        elif value or name in ("domain", "path"):
            yield f"{name}={value.lower() if name == 'samesite' else value}"


def listen(port: int) -> socket.socket:
    """Listen on this machine; port 0 takes a free one. HostError when the port is taken."""
    # asyncio turns Nagle's delay off only where the protocol is named, which socket.create_server does not do.
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind(("127.0.0.1", port))
        listening.listen()
    except OSError as error:
        listening.close()
        raise HostError(f"port {port} is in use; choose another one") from error
    return listening
