"""ASP.NET route templates, as the real host matches them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dev.host.errors import HostError
from dev.host.request import decoded_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from dev.host.worker import Function

_NAME = re.compile(r"(?!host\Z)[a-z][a-z0-9_\-]{0,127}\Z", re.IGNORECASE)
_RESERVED = ("admin", "runtime")
_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "CONNECT")
# Braces inside a rule's regular expression are doubled.
_PARAMETER = re.compile(
    r"\{(?P<rest>\*{0,2})(?P<name>[^{}:=?]+)(?P<rules>(?::(?:[^{}=?]|\{\{|\}\})+)?)"
    r"(?:=(?P<default>[^{}?]*))?(?P<optional>\??)\}(?!\})"
)
_RULE = re.compile(r"(?P<name>\w+)(?:\((?P<argument>.*)\))?\Z")
_NUMBER = r"[+-]?\d+\Z"
_REAL = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?\Z"
_SHAPES: Mapping[str, str] = {
    "bool": r"(?i:true|false)\Z",
    "guid": r"(?:[0-9a-fA-F]{32}|[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})\Z",
    "alpha": r"[A-Za-z]*\Z",
    "decimal": _REAL,
    "double": _REAL,
    "float": _REAL,
    "required": r".+",
}
_RANGES: Mapping[str, Callable[[int, list[int]], bool]] = {
    "min": lambda value, of: value >= of[0],
    "max": lambda value, of: value <= of[0],
    "range": lambda value, of: of[0] <= value <= of[1],
}
_LENGTHS: Mapping[str, Callable[[int, list[int]], bool]] = {
    "minlength": _RANGES["min"],
    "maxlength": _RANGES["max"],
    "length": lambda value, of: of[0] <= value <= of[-1],
}
_BITS = {"int": 31, "long": 63}


@dataclass(frozen=True, kw_only=True, slots=True)
class Parameter:
    """A `{name:rule=default}` of a template."""

    name: str
    rules: tuple[tuple[str, str], ...] = ()
    default: str | None = None

    def accepts(self, value: str) -> bool:
        """Whether the value keeps every rule."""
        return all(_keeps(rule, argument, value) for rule, argument in self.rules)


@dataclass(frozen=True, kw_only=True, slots=True)
class Route:
    """One function's path template and methods."""

    template: str
    methods: frozenset[str]
    function: Function
    pattern: re.Pattern[str]
    parameters: tuple[Parameter, ...]

    def match(self, path: str) -> dict[str, str] | None:
        """The route's parameters when the decoded path fits, without the absent ones."""
        found = self.pattern.match(path)
        if not found:
            return None
        values = {}
        for parameter, value in zip(self.parameters, found.groups(), strict=True):
            if value and not parameter.accepts(value):
                return None
            if given := value or parameter.default:
                values[parameter.name] = given
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
        """The first route that takes a request's method and decoded path, and its parameters."""
        for route in self.all:
            if method in route.methods and (values := route.match(path)) is not None:
                return route, values
        return None


def first_match(functions: Iterable[Function], method: str, path: str, prefix: str = "api") -> str | None:
    """The name of the HTTP function that the host runs for a path as a caller writes it; None for the bare 404."""
    http = (function for function in functions if function.kind == "httpTrigger")
    found = Routes(http, prefix).find(method, decoded_path(path))
    return found[0].function.name if found else None


def _route(function: Function, prefix: str) -> Route:
    if not _NAME.match(function.name):
        raise HostError(f"{function.name!r} cannot be a function's name")
    route = str(function.trigger.get("route") or function.name).strip("/")
    if route.lower().startswith(_RESERVED):
        raise HostError(f"function {function.name}: a route cannot begin with {' or '.join(_RESERVED)}")
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
        if segment.count("{") and not matches:
            raise ValueError(f"{segment} is not a segment of a route template")
        parameters += [
            Parameter(name=match["name"], rules=tuple(_rules(match["rules"])), default=match["default"])
            for match in matches
        ]
        if matches and matches[0]["rest"]:
            end = r"(?:/([^/].*)?)?\Z"
            break
        inner, at = "", 0
        for match in matches:
            inner += re.escape(segment[at : match.start()]) + "([^/]+)"
            at = match.end()
        inner += re.escape(segment[at:])
        whole = matches[0] if len(matches) == 1 and matches[0][0] == segment else None
        optional = whole and (whole["optional"] or whole["default"] is not None)
        pattern += f"(?:/{inner})?" if optional else f"/{inner}"
    return re.compile(pattern + end, re.IGNORECASE | re.DOTALL), tuple(parameters)


def _rules(text: str) -> Iterable[tuple[str, str]]:
    # A colon inside brackets belongs to a regular expression.
    for rule in filter(None, re.split(r":(?![^(]*\))", text.replace("{{", "{").replace("}}", "}"))):
        match = _RULE.match(rule)
        name = match["name"].lower() if match else ""
        if not match or name not in {*_SHAPES, *_RANGES, *_LENGTHS, *_BITS, "regex", "datetime"}:
            raise ValueError(f"no such constraint: {rule}")
        yield name, match["argument"] or ""


def _keeps(rule: str, argument: str, value: str) -> bool:
    if rule in _SHAPES:
        return re.match(_SHAPES[rule], value) is not None
    if rule in _BITS:
        return re.match(_NUMBER, value) is not None and -(1 << _BITS[rule]) <= int(value) < 1 << _BITS[rule]
    if rule in _RANGES:
        return re.match(_NUMBER, value) is not None and _RANGES[rule](int(value), _numbers(argument))
    if rule in _LENGTHS:
        return _LENGTHS[rule](len(value), _numbers(argument))
    if rule == "regex":
        return re.search(argument, value, re.IGNORECASE) is not None
    return re.match(r"\d{4}-\d\d-\d\d", value) is not None


def _numbers(argument: str) -> list[int]:
    return [int(number) for number in argument.split(",")]
