"""ASP.NET route templates, as the real host matches them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import unquote

from dev.host.errors import HostError

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
    "guid": r"[0-9a-fA-F]{8}-?(?:[0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}\Z",
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
    precedence: tuple[int, ...]

    def match(self, path: str) -> dict[str, str] | None:
        """The route's parameters when the path (no outer slashes, decoded) fits, without the absent ones."""
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
    """Every route of an app; literal ones are found at once, the others in the order of their precedence."""

    def __init__(self, functions: Iterable[Function], prefix: str) -> None:
        routes = sorted((_route(function, prefix) for function in functions), key=lambda route: route.precedence)
        self.all = tuple(routes)
        self._literal: dict[tuple[str, str], Route] = {}
        self._others = tuple(route for route in routes if route.parameters)
        taken: dict[tuple[str, str], str] = {}
        for route in routes:
            for method in route.methods:
                key = (method, route.template.lower())
                if key in taken:
                    raise HostError(
                        f"functions {taken[key]} and {route.function.name} share {method} /{route.template}"
                    )
                taken[key] = route.function.name
                if not route.parameters:
                    self._literal[key] = route

    def find(self, method: str, raw_path: str) -> tuple[Route, dict[str, str]] | None:
        """The route for a request's method and still percent-encoded path, and its parameters."""
        path = decoded(raw_path).strip("/")
        literal = self._literal.get((method, path.lower()))
        if literal:
            return literal, {}
        for route in self._others:
            if method in route.methods and (values := route.match(path)) is not None:
                return route, values
        return None


def decoded(raw_path: str) -> str:
    """The path decoded as the real host does it: an encoded slash stays encoded."""
    if "%" not in raw_path:
        return raw_path
    return re.sub(r"(?i)%2f", "%2F", "%2F".join(unquote(part) for part in re.split(r"(?i)%2f", raw_path)))


def _route(function: Function, prefix: str) -> Route:
    if not _NAME.match(function.name):
        raise HostError(f"{function.name!r} cannot be a function's name")
    route = str(function.trigger.get("route") or function.name).strip("/")
    if route.lower().startswith(_RESERVED):
        raise HostError(f"function {function.name}: a route cannot begin with {' or '.join(_RESERVED)}")
    template = f"{prefix}/{route}" if prefix else route
    methods = frozenset(method.upper() for method in function.trigger.get("methods") or _METHODS)
    try:
        pattern, parameters, precedence = _compiled(template)
    except (ValueError, re.error) as error:
        raise HostError(f"function {function.name}: the route {route} cannot be read: {error}") from error
    return Route(
        template=template,
        methods=methods,
        function=function,
        pattern=pattern,
        parameters=parameters,
        precedence=precedence,
    )


def _compiled(template: str) -> tuple[re.Pattern[str], tuple[Parameter, ...], tuple[int, ...]]:
    pattern, parameters, precedence = "", [], []
    for index, segment in enumerate(template.split("/")):
        slash = "/" if index else ""
        matches = list(_PARAMETER.finditer(segment))
        if segment.count("{") and not matches:
            raise ValueError(f"{segment} is not a segment of a route template")
        inner, at = "", 0
        for match in matches:
            inner += re.escape(segment[at : match.start()]) + ("(.*)" if match["rest"] else "([^/]+?)")
            at = match.end()
            parameters.append(
                Parameter(name=match["name"], rules=tuple(_rules(match["rules"])), default=match["default"])
            )
        inner += re.escape(segment[at:])
        whole = matches[0] if len(matches) == 1 and matches[0][0] == segment else None
        optional = whole and (whole["rest"] or whole["optional"] or whole["default"] is not None)
        pattern += f"(?:{slash}{inner})?" if optional else slash + inner
        precedence.append(_precedence(whole, matches))
    return re.compile(pattern + r"\Z", re.IGNORECASE), tuple(parameters), tuple(precedence)


def _precedence(whole: re.Match[str] | None, matches: list[re.Match[str]]) -> int:
    if not matches:
        return 1
    if whole is None:
        return 2
    return (5 if whole["rest"] else 3) - (1 if whole["rules"] and whole["rest"] else 0) + (0 if whole["rules"] else 1)


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
