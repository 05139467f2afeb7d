"""The host's HTTP side: routes, keys, admin calls, and the invocation of HTTP functions."""

from __future__ import annotations

import asyncio
import codecs
import json
import logging
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, quote, unquote

from aiohttp import HttpVersion11, web
from azure_functions_runtime.bindings.datumdef import Datum
from yarl import URL

from dev.host.settings import HostError, Keys
from dev.host.triggers import Timer
from dev.host.worker import Function, Worker

_PARAMETER = re.compile(r"\{(?P<rest>\*?)(?P<name>\w+)(?::(?P<rule>\w+)(?:\((?P<argument>.*)\))?)?(?P<optional>\??)\}")
# By route constraint: the pattern to find in a value, formatted with the constraint's argument.
_RULES = {"int": r"\A[+-]?\d+\Z", "length": r"\A.{{{}}}\Z", "regex": "{}"}
# An encoded slash stays encoded in a path.
_PATH_ESCAPES = re.compile(r"(?:%(?!2[Ff])[0-9A-Fa-f]{2})+")
_LONE_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_HOST = re.compile(r"(?:[A-Za-z0-9!$&'()\-._~]+|\[[0-9A-Fa-f:.]+\])(?::\d+)?\Z")
_JSON = re.compile(r"(?:application/(?:[\w.+-]+\+)?|text/)json\s*(?:;|\Z)", re.IGNORECASE)
# Kestrel's limits: the request line and all headers in bytes, and the headers' number.
_LONGEST_LINE, _LARGEST_HEADERS, _MOST_HEADERS = 8 * 1024, 32 * 1024, 100
_LARGEST_BODY = 104_857_600  # bytes
# Longer than clients keep an idle connection, so that the host does not close one under a request.
_KEEP_ALIVE_SECONDS = 130


def _escape_again(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    return "".join(f"%{byte:02X}" for byte in error.object[error.start : error.end]), error.end


# Escapes that are not UTF-8 stay escapes.
codecs.register_error("escape-again", _escape_again)


@dataclass(frozen=True, slots=True)
class Route:
    """One function's paths and methods; without methods it accepts any."""

    function: Function
    methods: frozenset[str]
    pattern: re.Pattern[str]
    rules: Mapping[str, re.Pattern[str]]

    def match(self, path: str) -> dict[str, str] | None:
        """Return the route's parameters, without the absent ones; None if the decoded path does not match."""
        if not (found := self.pattern.match(path)):
            return None
        values = {name: value for name, value in found.groupdict().items() if value}
        fits = all(rule.search(values[name]) for name, rule in self.rules.items() if name in values)
        return values if fits else None


class Routes:
    """The routes of an app; the host tries them in the order of the functions' names."""

    def __init__(self, functions: Iterable[Function], prefix: str) -> None:
        # .NET's OrdinalIgnoreCase compares upper-case letters, and sorts an underscore after all of them.
        http = (function for function in functions if function.trigger["type"] == "httpTrigger")
        self._all = [_route(function, prefix) for function in sorted(http, key=lambda function: function.name.upper())]

    def find(self, method: str, path: str) -> tuple[Function, dict[str, str]] | None:
        """Return the function of the first route that matches the method and decoded path, and its parameters."""
        for route in self._all:
            if (not route.methods or method in route.methods) and (values := route.match(path)) is not None:
                return route.function, values
        return None


def first_match(functions: Iterable[Function], method: str, path: str) -> str | None:
    """Return the name of the HTTP function that the host runs for an encoded path; None for the host's own 404."""
    found = Routes(functions, "api").find(method, _decoded(path))
    return found[0].name if found else None


def _route(function: Function, prefix: str) -> Route:
    route = str(function.trigger.get("route") or function.name).strip("/")
    if route.lower().startswith(("admin", "runtime")):
        raise HostError(f"function {function.name}: a route cannot begin with admin or runtime")
    pattern, rules = "", {}
    for segment in f"{prefix}/{route}".strip("/").split("/"):
        found = _PARAMETER.fullmatch(segment)
        if found is None and "{" not in segment:
            pattern += f"/{re.escape(segment)}"
            continue
        if found is None or (found["rule"] and found["rule"] not in _RULES):
            raise HostError(f"function {function.name}: this host cannot read {segment} in the route {route}")
        if found["rule"]:
            rules[found["name"]] = re.compile(_RULES[found["rule"]].format(found["argument"]), re.IGNORECASE)
        # Only a catch-all may match empty segments.
        value = f"/(?P<{found['name']}>{'[^/].*' if found['rest'] else '[^/]+'})"
        pattern += f"(?:{value})?" if found["rest"] or found["optional"] else value
    methods = frozenset(method.upper() for method in function.trigger.get("methods") or ())
    # One trailing slash is ignored.
    return Route(function, methods, re.compile(pattern + r"/?\Z", re.IGNORECASE | re.DOTALL), rules)


def _decoded(raw: str) -> str:
    """Decode a path once and resolve its dot segments; encoded slashes and escapes that are not UTF-8 stay."""
    path = _PATH_ESCAPES.sub(lambda found: unquote(found[0], errors="escape-again"), raw)
    return URL.build(scheme="http", host="host", path=path).path


def _checked_path(incoming: web.BaseRequest) -> str:
    """Return the decoded path; raise the HTTPException with which the real web server or host refuses a request."""
    # 12 bytes: two blanks, the version and the line's end.
    if len(incoming.method) + len(incoming.raw_path) + 12 > _LONGEST_LINE:
        raise web.HTTPRequestURITooLong
    raw = incoming.raw_headers
    if len(raw) > _MOST_HEADERS or sum(len(name) + len(value) + 4 for name, value in raw) > _LARGEST_HEADERS:
        raise web.HTTPRequestHeaderFieldsTooLarge
    host = incoming.headers.get("Host")
    if host == "":
        raise web.HTTPInternalServerError
    path = _decoded(incoming.rel_url.raw_path)
    if "\0" in path or (host and not _HOST.match(host)):
        raise web.HTTPBadRequest
    return path


def _query(incoming: web.BaseRequest) -> list[tuple[str, str]]:
    return parse_qsl(incoming.rel_url.raw_query_string, keep_blank_values=True, errors="escape-again")


def _call(incoming: web.BaseRequest, path: str, params: Mapping[str, str], body: bytes) -> Datum:
    """Return the trigger input of a request."""
    query, written = _query(incoming), incoming.rel_url.raw_query_string
    # A name keeps its last spelling; a parameter without a value is left out.
    spellings = {name.lower(): name for name, _ in query}
    shown = quote(_LONE_PERCENT.sub("%25", path), safe="/-._~!$&'()*+,;=:@%") + (f"?{written}" if written else "")
    return Datum(
        {
            "method": Datum(incoming.method, "string"),
            "url": Datum(f"http://{incoming.headers.get('Host', '')}{shown}", "string"),
            "headers": _texts((name.lower(), value) for name, value in incoming.headers.items()),
            "query": _texts((spellings[name.lower()], value) for name, value in query if value),
            "params": _texts(params.items()),
            "body": Datum(body, "bytes"),
        },
        "http",
    )


def _texts(pairs: Iterable[tuple[str, str]]) -> dict[str, Datum]:
    """Return texts by name; texts of the same name are joined by commas."""
    texts: dict[str, Datum] = {}
    for name, value in pairs:
        texts[name] = Datum(f"{texts[name].value},{value}" if name in texts else value, "string")
    return texts


class HttpApp:
    """Answers every request of the host; without `keys` every auth level is open."""

    def __init__(self, worker: Worker, routes: Routes, keys: Keys | None, timers: Mapping[str, Timer]) -> None:
        self._worker, self._routes, self._keys, self._timers = worker, routes, keys, timers
        self._runs: set[asyncio.Task[Any]] = set()
        self._largest_body = int(os.environ.get("FUNCTIONS_REQUEST_BODY_SIZE_LIMIT") or _LARGEST_BODY)

    async def serve(self, port: int, grace: float) -> web.ServerRunner:
        """Listen on a port of this machine, 0 for any free one; HostError if it is in use.

        `cleanup` of the result stops it, and closes the connections that still wait after `grace` seconds.
        """
        # A broken connection, or one without HTTP, is no error of the host.
        logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)
        # Higher than the real host's limits, which `_checked_path` applies.
        limits: Any = {"max_line_size": 1 << 17, "max_field_size": 1 << 17, "max_headers": 1000}
        server = web.Server(self._respond, keepalive_timeout=_KEEP_ALIVE_SECONDS, access_log=None, **limits)
        runner = web.ServerRunner(server, shutdown_timeout=grace)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", port, backlog=1024).start()
        except OSError as error:
            raise HostError(f"port {port} is in use; choose another one") from error
        return runner

    async def _respond(self, incoming: web.BaseRequest) -> web.Response:
        response = await self._answer(incoming, _checked_path(incoming))
        # As on the real host, an answer with a body is chunked unless its function sets the length.
        if response.body and "Content-Length" not in response.headers and incoming.version == HttpVersion11:
            response.enable_chunked_encoding()
        return response

    async def _answer(self, incoming: web.BaseRequest, path: str) -> web.Response:
        plain = path.lower().removesuffix("/")
        if plain == "/admin/host/ping" and incoming.method in ("GET", "POST"):
            return web.Response(headers={"Cache-Control": "no-store,no-cache"})
        if plain.startswith("/admin/"):
            return await self._administer(incoming, plain)
        if found := self._routes.find(incoming.method, path):
            return await self._invoke(incoming, path, *found)
        return web.Response(text="Your function app is up and running.") if plain == "" else web.Response(status=404)

    def _level(self, incoming: web.BaseRequest, function: str = "") -> str:
        """Return the level of a request's key: of the header, else of the first `code`, even if that is empty."""
        code = next((value for name, value in _query(incoming) if name.lower() == "code"), None)
        key = incoming.headers.get("x-functions-key", code)
        return self._keys.level(key, function) if self._keys else "master"

    async def _administer(self, incoming: web.BaseRequest, path: str) -> web.Response:
        level, worker = self._level(incoming), self._worker
        if level == "host":
            return web.Response(status=403)
        if level != "master":
            return web.Response(status=401, headers={"WWW-Authenticate": "Bearer"})
        match incoming.method, path.removeprefix("/admin/").split("/"):
            case "GET", ["host", "status"]:
                running = len(worker.running)
                return web.json_response({"state": "Running", "running": running, "executed": worker.executed})
            case "GET", ["functions"]:
                return web.json_response([_described(function) for function in worker.functions])
            case "POST", ["functions", name]:
                named = next((function for function in worker.functions if function.name.lower() == name), None)
                return await self._begin(incoming, named) if named else web.Response(status=404)
        return web.Response(status=404)

    async def _begin(self, incoming: web.BaseRequest, function: Function) -> web.Response:
        """Start a run by hand; a queue function gets the input as its message, without an id."""
        if not _JSON.match(incoming.headers.get("Content-Type", "")):
            return web.Response(status=415)
        try:
            text = json.loads(await incoming.content.read()).get("input")
        except (ValueError, AttributeError, RecursionError):
            return web.Response(status=400)
        if isinstance(text, dict | list):
            return web.Response(status=400)
        timer = self._timers.get(function.name)
        data = timer.data() if timer else Datum("" if text is None else str(text), "string")
        run = asyncio.create_task(self._worker.invoke(function, data, {"Id": Datum("", "string")}))
        self._runs.add(run)
        run.add_done_callback(self._runs.discard)
        return web.Response(status=202)

    async def _invoke(
        self, incoming: web.BaseRequest, path: str, function: Function, params: Mapping[str, str]
    ) -> web.Response:
        required = str(function.trigger.get("authLevel") or "FUNCTION").upper()
        level = self._level(incoming, function.name)
        if (required == "FUNCTION" and not level) or (required == "ADMIN" and level != "master"):
            return web.Response(status=401)
        if function.disabled and level != "master":
            return web.Response(status=404)
        length = int(incoming.headers.get("Content-Length", 0))
        if length > self._largest_body:
            return web.Response(status=500, headers={"Connection": "close"})
        # Without a Content-Length the body does not reach the function.
        data = _call(incoming, path, params, await incoming.content.read() if length else b"")
        # The function finishes even if its caller disconnects.
        succeeded, returned = await asyncio.shield(self._worker.invoke(function, data, {}))
        return _returned(returned) if succeeded else web.Response(status=500)


def _described(function: Function) -> dict[str, Any]:
    return {"name": function.name, "isDisabled": function.disabled, "config": {"bindings": function.bindings}}


def _returned(returned: Datum | None) -> web.Response:
    """Return the HTTP response of a function's return value: its response, or 200 for a text."""
    if returned is None:
        return web.Response(status=204)
    if returned.type != "http":
        return web.Response(text=returned.value)
    http = returned.value
    response = web.Response(body=http["body"].value, status=int(http["status_code"].value))
    for name, value in http["headers"].items():
        response.headers[name] = str(value.value)
    for cookie in (cookie for cookies in http["cookies"] or () for cookie in cookies.values()):
        # The real host writes domain and path even if they are empty.
        empty = "".join(f"; {name}=" for name in ("domain", "path") if not cookie[name])
        response.headers.add("Set-Cookie", cookie.OutputString() + empty)
    return response
