"""ASP.NET route templates, as the real host matches them."""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import unquote

from dev.host.settings import HostError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from dev.host.worker import Function

_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "CONNECT")
_PARAMETER = re.compile(r"\{(?P<rest>\*?)(?P<name>\w+)(?::(?P<rule>\w+)(?:\((?P<argument>.*)\))?)?(?P<optional>\??)\}")
# An encoded slash stays encoded in a path.
_PATH_ESCAPES = re.compile(r"(?:%(?!2[Ff])[0-9A-Fa-f]{2})+")
# Of the real host's constraints those in use: the pattern that a value has to contain, made of the rule's argument.
_RULES = {"int": r"\A[+-]?\d+\Z", "length": r"\A.{{{}}}\Z", "regex": "{}"}


def _escape_again(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    return "".join(f"%{byte:02X}" for byte in error.object[error.start : error.end]), error.end


# What is not UTF-8 behind its escapes stays escaped.
codecs.register_error("escape-again", _escape_again)


@dataclass(frozen=True, kw_only=True, slots=True)
class Route:
    """One function's paths and methods."""

    methods: frozenset[str]
    function: Function
    pattern: re.Pattern[str]
    rules: Mapping[str, re.Pattern[str]]

    def match(self, path: str) -> dict[str, str] | None:
        """Return the route's parameters, without the absent ones, where the decoded path fits."""
        found = self.pattern.match(path)
        if not found:
            return None
        values = {name: value for name, value in found.groupdict().items() if value}
        fits = all(rule.search(values[name]) for name, rule in self.rules.items() if name in values)
        return values if fits else None


class Routes:
    """Every route of an app in the order in which the host tries them: that of the functions' names."""

    def __init__(self, functions: Iterable[Function], prefix: str) -> None:
        # .NET's OrdinalIgnoreCase compares upper-case letters: an underscore comes after all of them.
        http = (function for function in functions if function.trigger["type"] == "httpTrigger")
        self._all = [_route(function, prefix) for function in sorted(http, key=lambda function: function.name.upper())]

    def find(self, method: str, path: str) -> tuple[Route, dict[str, str]] | None:
        """Return the first route that takes a request's method and decoded path, and its parameters."""
        for route in self._all:
            if method in route.methods and (values := route.match(path)) is not None:
                return route, values
        return None


def first_match(functions: Iterable[Function], method: str, path: str) -> str | None:
    """Return the name of the HTTP function that the host runs for a path as it is written; None for the bare 404."""
    found = Routes(functions, "api").find(method, decoded_path(path))
    return found[0].function.name if found else None


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


def _route(function: Function, prefix: str) -> Route:
    route = str(function.trigger.get("route") or function.name).strip("/")
    if route.lower().startswith(("admin", "runtime")):
        raise HostError(f"function {function.name}: a route cannot begin with admin or runtime")
    methods = frozenset(method.upper() for method in function.trigger.get("methods") or _METHODS)
    template, pattern, rules = f"{prefix}/{route}".strip("/"), "", {}
    for segment in template.split("/"):
        found = _PARAMETER.fullmatch(segment)
        if found is None and "{" not in segment:
            pattern += f"/{re.escape(segment)}"
            continue
        if found is None or (found["rule"] and found["rule"] not in _RULES):
            raise HostError(f"function {function.name}: this host cannot read {segment} in the route {route}")
        if found["rule"]:
            rules[found["name"]] = re.compile(_RULES[found["rule"]].format(found["argument"]), re.IGNORECASE)
        # An empty segment fits nothing but the rest that a catch-all takes.
        value = f"/(?P<{found['name']}>{'[^/].*' if found['rest'] else '[^/]+'})"
        pattern += f"(?:{value})?" if found["rest"] or found["optional"] else value
    # One slash at the end is as good as none.
    compiled = re.compile(pattern + r"/?\Z", re.IGNORECASE | re.DOTALL)
    return Route(methods=methods, function=function, pattern=compiled, rules=rules)
