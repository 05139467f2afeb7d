"""
The expressions of workflow definitions, evaluated as Logic Apps documents them.

All arguments of a function are evaluated before it, those of `if`, `and` and `or` too: an expression that is well
here is well whether or not the service leaves any out. A function that is not here, an argument of a type that the
service refuses, and a member of something that has none raise ExpressionError.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, unquote
from zoneinfo import ZoneInfo

Evaluated = Any
Function = Callable[..., Evaluated]

_TOKEN = re.compile(
    r"\s*(?:(?P<text>'(?:[^']|'')*')|(?P<number>-?\d+(?:\.\d+)?)|(?P<name>[A-Za-z]\w*)|(?P<mark>\?\[|[\[\](),]))"
)
# The Windows names of time zones in the tests.
_ZONES = {"FLE Standard Time": "Europe/Kiev", "UTC": "UTC"}
_FORMAT = (("yyyy", "%Y"), ("MM", "%m"), ("dd", "%d"), ("HH", "%H"), ("mm", "%M"), ("ss", "%S"))
# .NET reads offsets with a colon, and Z.
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,7})?(?:Z|[+-]\d\d:\d\d)?")


class ExpressionError(Exception):
    """The service would fail the action."""


def evaluate(value: Any, scope: Mapping[str, Function]) -> Any:
    """Evaluate the expressions in a value; scope has the functions that depend on the run."""
    if isinstance(value, dict):
        return {evaluate(key, scope): evaluate(item, scope) for key, item in value.items()}
    if isinstance(value, list):
        return [evaluate(item, scope) for item in value]
    if not isinstance(value, str):
        return value
    if value.startswith("@@"):
        return value[1:]
    if value.startswith("@") and not value.startswith("@{"):
        return _whole(value[1:], scope)
    return _interpolated(value, scope)


def _whole(source: str, scope: Mapping[str, Function]) -> Any:
    result, end = _Parser(source, scope).value(0)
    if source[end:].strip():
        raise ExpressionError(f"more after the expression: {source[end:]!r}")
    return result


def _interpolated(text: str, scope: Mapping[str, Function]) -> str:
    out, at = "", 0
    while (start := text.find("@{", at)) >= 0:
        result, end = _Parser(text, scope).value(start + 2)
        if not (rest := text[end:].lstrip()).startswith("}"):
            raise ExpressionError(f"no end of the expression: {text[start:]!r}")
        out += text[at:start] + _as_text(result)
        at = len(text) - len(rest) + 1
    return out + text[at:]


def _as_text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


class _Parser:
    def __init__(self, source: str, scope: Mapping[str, Function]) -> None:
        self.source, self.functions = source, {**FUNCTIONS, **scope}

    def token(self, at: int) -> tuple[str, str, int]:
        """Kind and text of the token at a place, and the place after it."""
        match = _TOKEN.match(self.source, at)
        if match is None or match.lastgroup is None:
            return "end", "", at
        return match.lastgroup, match[match.lastgroup], match.end()

    def value(self, at: int) -> tuple[Any, int]:
        """Return the value of the expression at a place, and the place after it."""
        kind, text, at = self.token(at)
        result: Any
        if kind == "text":
            result = text[1:-1].replace("''", "'")
        elif kind == "number":
            result = float(text) if "." in text else int(text)
        elif kind == "name" and text in ("true", "false", "null"):
            result = {"true": True, "false": False, "null": None}[text]
        elif kind == "name":
            result, at = self.call(text, at)
        else:
            raise ExpressionError(f"no expression at {self.source[at : at + 30]!r}")
        return self.members(result, at)

    def call(self, name: str, at: int) -> tuple[Any, int]:
        """Call a function; return its result, and the place after it."""
        arguments: list[Any] = []
        _, text, after = self.token(at)
        if text != "(":
            raise ExpressionError(f"{name} is not called")
        while True:
            _, text, end = self.token(after)
            if text == ")":
                break
            argument, after = self.value(end if text == "," else after)
            arguments.append(argument)
        if name not in self.functions:
            raise ExpressionError(f"no function {name}")
        return self.functions[name](*arguments), end

    def members(self, result: Any, at: int) -> tuple[Any, int]:
        """Follow the members behind a value; of nothing, those with a question mark lead to nothing."""
        while (token := self.token(at))[1] in ("[", "?["):
            key, at = self.value(token[2])
            _, text, at = self.token(at)
            if text != "]":
                raise ExpressionError("no end of the member")
            if result is None and token[1] == "?[":
                continue
            if not isinstance(result, dict):
                raise ExpressionError(f"{type(result).__name__} has no member {key!r}")
            if key not in result and token[1] == "[":
                raise ExpressionError(f"no member {key!r}")
            result = result.get(key)
        return result, at


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ExpressionError(f"text is expected, not {value!r}")
    return value


def _integer(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise ExpressionError(f"a whole number is expected, not {value!r}")
    return value


def _truth(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ExpressionError(f"true or false is expected, not {value!r}")
    return value


def _sized(value: Any) -> Any:
    if not isinstance(value, (str, list, dict)):
        raise ExpressionError(f"text, an array or an object is expected, not {value!r}")
    return value


def _substring(text: Any, start: Any, length: Any) -> str:
    if not 0 <= _integer(start) <= start + _integer(length) <= len(_text(text)):
        raise ExpressionError("substring is out of range")
    return str(text[start : start + length])


def _convert_from_utc(text: Any, zone: Any, form: Any = "o") -> str:
    if not _TIME.fullmatch(_text(text)):
        raise ExpressionError(f"no time: {text!r}")
    moment = datetime.fromisoformat(text)
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    if zone not in _ZONES:
        raise ExpressionError(f"no time zone {zone!r}")
    pattern = _text(form)
    for token, directive in _FORMAT:
        pattern = pattern.replace(token, directive)
    return moment.astimezone(ZoneInfo(_ZONES[zone])).strftime(pattern)


def _base64(value: Any) -> str:
    # A body that is no text is an object with its content already encoded.
    if isinstance(value, dict) and "$content" in value:
        return str(value["$content"])
    return base64.b64encode(_text(value).encode()).decode()


def _last(value: Any) -> Any:
    if not _sized(value):
        raise ExpressionError("last of nothing")
    return value[-1]


FUNCTIONS: dict[str, Function] = {
    "and": lambda *values: all(list(map(_truth, values))),
    "base64": _base64,
    "coalesce": lambda *values: next((value for value in values if value is not None), None),
    "concat": lambda *values: "".join(map(_as_text, values)),
    "contains": lambda whole, part: part in _sized(whole),
    "convertFromUtc": _convert_from_utc,
    "decodeUriComponent": lambda text: unquote(_text(text)),
    "empty": lambda value: value is None or not _sized(value),
    "encodeURIComponent": lambda text: quote(_text(text), safe="!'()*-._~"),
    "equals": lambda one, other: type(one) is type(other) and one == other,
    "greater": lambda one, other: _integer(one) > _integer(other),
    "if": lambda condition, one, other: one if _truth(condition) else other,
    "last": _last,
    "length": lambda value: len(_sized(value)),
    "or": lambda *values: any(list(map(_truth, values))),
    "replace": lambda text, old, new: _text(text).replace(_text(old), _text(new)),
    "split": lambda text, mark: _text(text).split(_text(mark)),
    "startsWith": lambda text, start: _text(text).lower().startswith(_text(start).lower()),
    "string": _as_text,
    "sub": lambda one, other: _integer(one) - _integer(other),
    "substring": _substring,
    "trim": lambda text: _text(text).strip(),
}
