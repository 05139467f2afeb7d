"""ASP.NET route templates, as the real host matches them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dev.host.request import decoded_path
from dev.host.settings import HostError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from dev.host.worker import Function

_NAME = re.compile(r"(?!host\Z)[a-z][a-z0-9_\-]{0,127}\Z", re.IGNORECASE)
_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "CONNECT")
# Braces inside a rule's regular expression are doubled.
_PARAMETER = re.compile(
    r"\{(?P<rest>\*{0,2})(?P<name>[^{}:?]+)(?P<rules>(?::(?:[^{}=?]|\(\?[!=]|\{\{|\}\})+)?)"
    r"(?P<optional>\??)\}(?!\})"
)
_RULE = re.compile(r"(?P<name>\w+)(?:\((?P<argument>.*)\))?\Z")
_WHOLE = re.compile(r"[+-]?\d+\Z")


def _fits(value: str, bits: int) -> bool:
    return _WHOLE.match(value) is not None and -(1 << bits - 1) <= int(value) < 1 << bits - 1


def _has_length(value: str, argument: str) -> bool:
    least, _, most = argument.partition(",")
    return int(least) <= len(value) <= int(most or least)


# Each constraint takes a parameter's value and the text in its own brackets; of the real host's, those in use.
_CONSTRAINTS: Mapping[str, Callable[[str, str], bool]] = {
    "guid": lambda value, _: (
        re.match(r"(?:[0-9a-f]{32}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\Z", value, re.I) is not None
    ),
    "int": lambda value, _: _fits(value, 32),
    "length": _has_length,
    "long": lambda value, _: _fits(value, 64),
    "regex": lambda value, of: re.search(of, value, re.IGNORECASE) is not None,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Parameter:
    """A `{name:rule}` of a template."""

    name: str
    rules: tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Route:
    """One function's path template and methods."""

    template: str
    methods: frozenset[str]
    function: Function
    pattern: re.Pattern[str]
    parameters: tuple[Parameter, ...]

    def match(self, path: str) -> dict[str, str] | None:
        """Return the route's parameters, without the absent ones, where the decoded path fits."""
        found = self.pattern.match(path)
        if not found:
            return None
        values = {}
        for parameter, value in zip(self.parameters, found.groups(), strict=True):
            if value and not all(_CONSTRAINTS[rule](value, argument) for rule, argument in parameter.rules):
                return None
            if value:
                values[parameter.name] = value
        return values


class Routes:
    """Every route of an app in the order in which the host tries them: that of the functions' names."""

    def __init__(self, functions: Iterable[Function], prefix: str) -> None:
        # .NET's OrdinalIgnoreCase compares upper-case letters: an underscore comes after all of them.
        in_order = sorted(functions, key=lambda function: function.name.upper())
        self.all = tuple(_route(function, prefix) for function in in_order)
        taken: dict[tuple[str, str], str] = {}
        for route in self.all:
            for method in route.methods:
                other = taken.setdefault((method, route.template.lower()), route.function.name)
                if other != route.function.name:
                    raise HostError(f"functions {other} and {route.function.name} share {method} /{route.template}")

    def find(self, method: str, path: str) -> tuple[Route, dict[str, str]] | None:
        """Return the first route that takes a request's method and decoded path, and its parameters."""
        for route in self.all:
            if method in route.methods and (values := route.match(path)) is not None:
                return route, values
        return None


def first_match(functions: Iterable[Function], method: str, path: str, prefix: str = "api") -> str | None:
    """Return the name of the HTTP function that the host runs for a path as it is written; None for the bare 404."""
    http = (function for function in functions if function.kind == "httpTrigger")
    found = Routes(http, prefix).find(method, decoded_path(path))
    return found[0].function.name if found else None


def _route(function: Function, prefix: str) -> Route:
    if not _NAME.match(function.name):
        raise HostError(f"{function.name!r} cannot be a function's name")
    route = str(function.trigger.get("route") or function.name).strip("/")
    if route.lower().startswith(("admin", "runtime")):
        raise HostError(f"function {function.name}: a route cannot begin with admin or runtime")
    template = f"{prefix}/{route}" if prefix else route
    methods = frozenset(method.upper() for method in function.trigger.get("methods") or _METHODS)
    try:
        pattern, parameters = _compiled(template)
    except (ValueError, re.error) as error:
        raise HostError(f"function {function.name}: the route {route} cannot be read: {error}") from error
    return Route(template=template, methods=methods, function=function, pattern=pattern, parameters=parameters)


def _compiled(template: str) -> tuple[re.Pattern[str], tuple[Parameter, ...]]:
    # One slash at the end is as good as none; an empty segment fits nothing but the rest of a catch-all.
    pattern, parameters, end = "", [], r"/?\Z"
    for segment in template.split("/"):
        matches = list(_PARAMETER.finditer(segment))
        if "{" in segment and not matches:
            raise ValueError(f"{segment} is not a segment of a route template")
        parameters += [Parameter(name=match["name"], rules=tuple(_rules(match["rules"]))) for match in matches]
        if matches and matches[0]["rest"]:
            end = r"(?:/([^/].*)?)?\Z"
            break
        literals = _PARAMETER.sub("\0", segment).split("\0")
        inner = "([^/]+)".join(re.escape(literal) for literal in literals)
        whole = matches[0] if literals == ["", ""] else None
        pattern += f"(?:/{inner})?" if whole and whole["optional"] else f"/{inner}"
    return re.compile(pattern + end, re.IGNORECASE | re.DOTALL), tuple(parameters)


def _rules(text: str) -> Iterator[tuple[str, str]]:
    # A colon inside brackets belongs to a regular expression.
    for rule in filter(None, re.split(r":(?![^(]*\))", text.replace("{{", "{").replace("}}", "}"))):
        match = _RULE.match(rule)
        if not match or match["name"].lower() not in _CONSTRAINTS:
            raise ValueError(f"no such constraint: {rule}")
        yield match["name"].lower(), match["argument"] or ""
