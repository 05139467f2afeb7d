"""Whether an answer says that the operation failed: by its status word, its code, or by errors beside its data."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from shared.pbx.failure_words import denies_failure, says_failure

if TYPE_CHECKING:
    from collections.abc import Mapping

REFUSED = 422

# Statuses of HTTP in words, such as "Not Found", mean what the number means.
_PHRASES: Mapping[str, int] = {
    re.sub(r"\W|_", "", status.phrase).lower(): int(status) for status in HTTPStatus if status >= 400
} | {"accessdenied": 403, "denied": 403, "unavailable": 503, "timeout": 504, "timedout": 504, "throttled": 429}
_NOTHING = frozenset({"", "false", "none", "null", "no", "nil", "na", "nothing", "ok", "success", "successful"})
# Fields that say something only where there is an error; the codes among them may say that there is none.
_ERROR = re.compile(
    r"(?:err(?:or)?s?|exception|fault)"
    r"(?:message|msg|text|description|desc|details?|reason|string|type|name|info|(?P<code>code|no|num|number))?"
)
_CODES = ("statuscode", "code", "httpcode", "httpstatus", "httpstatuscode")
_NUMBER = re.compile(r"\s*([0-9]{1,18})(?:\.0*)?(?:\s.*)?", re.DOTALL)
# HTTP/1.1 500, E500, error-404
_LABELLED = re.compile(
    r"\s*(?:(?P<error>e|err|error)|http(?:/[0-9.]+)?|code|status)[\W_]*0*(?P<number>[1-9][0-9]{0,17})(?:[\W_].*)?",
    re.DOTALL | re.IGNORECASE,
)


def code_of(value: Any) -> int | None:
    """The whole number that a status is, in any spelling: 500, 500.0, "500", "500 Internal Server Error"."""
    if isinstance(value, bool):
        return None
    if isinstance(value, float):
        return int(value) if value.is_integer() else None
    if isinstance(value, str):
        match = _NUMBER.fullmatch(value)
        return int(match[1]) if match else None
    return value if isinstance(value, int) and value >= 0 else None


def failure_code(wrapper: Any, *, inner: bool = False) -> int | None:
    """
    The status from 300 on that an answer's wrapper says it failed with, 422 where it names none; None where it is well.

    Letter case, spaces and signs in names and words do not matter. `inner` looks at the `data` of an operation that
    brings no item: there a number under `status` may be anything, and only words and flags count.
    """
    if isinstance(wrapper, list) and inner:
        return next(filter(None, (failure_code(part, inner=True) for part in wrapper)), None)
    if not isinstance(wrapper, dict):
        return _word(wrapper) if inner else None
    named = _named(wrapper)
    if not inner and (code := _code_said(named)):
        return code
    words = (_word(named.get(name)) for name in ("statuscode", "status", "result"))
    said = next(filter(None, words), None if inner else _oddity(named))
    if said and said != REFUSED:
        return said
    wrong = said or any(name in named and _is_no(named[name]) for name in ("success", "successful", "succeeded", "ok"))
    return _named_code(named) if wrong or _has_error(named) else None


def _code_said(named: Mapping[str, Any]) -> int | None:
    """The status of a failure that stands as a number, beside any word for success."""
    code = code_of(named.get("statuscode"))
    if code and code >= 300:
        return code
    others = (_labelled(named.get("statuscode")), _labelled(named.get("status")), *map(code_of, map(named.get, _CODES)))
    return next((code for code in others if code and 400 <= code < 600), None)


def codes_of(wrapper: Any) -> list[int | None]:
    """The codes that a wrapper names for the whole answer, as numbers."""
    named = _named(wrapper) if isinstance(wrapper, dict) else {}
    return [code_of(named.get(name)) for name in (*_CODES, "status")]


def bare_message(wrapper: Mapping[str, Any]) -> bool:
    """Whether the wrapper has words and nothing that says how it went."""
    named = {name for name, value in _named(wrapper).items() if value not in (None, "")}
    return "message" in named and not named & {"status", "statuscode", "data", "success", "ok", "result"}


def words_of(wrapper: Any) -> str:
    """What the wrapper says in words: its message, or the first text among its errors."""
    if not isinstance(wrapper, dict):
        return ""
    named = _named(wrapper)
    return _text([named.get(name) for name in ("message", *filter(_ERROR.fullmatch, named), "data")])


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        said = ((_squeezed(str(name)), part) for name, part in value.items())
        value = [part for name, part in said if name in ("message", "detail") or _ERROR.fullmatch(name)]
    return next(filter(None, map(_text, value)), "") if isinstance(value, list) else ""


def _named(wrapper: Mapping[Any, Any]) -> dict[str, Any]:
    """The fields by their names without letter case, spaces and signs."""
    return {_squeezed(str(name)): value for name, value in wrapper.items()}


def _squeezed(text: str) -> str:
    return re.sub(r"[\W_]", "", text).lower()


def _word(value: Any) -> int | None:
    """The code that a status word stands for, None where it is no word for a failure."""
    if isinstance(value, bool):
        return None if value else REFUSED
    if not isinstance(value, str):
        return None
    known, labelled = _PHRASES.get(_squeezed(value)), _LABELLED.fullmatch(value)
    return known or (REFUSED if says_failure(value) or (labelled and labelled["error"]) else None)


def _oddity(named: Mapping[str, Any]) -> int | None:
    """
    The code that a status stands for which is no word: one of HTTP's numbers, or of a kind that is none.

    Zero, beside the code of a success, may mean that nothing went wrong; a list or an object may, beside good data,
    where nothing in it says that something failed.
    """
    status, data = named.get("status"), named.get("data")
    if any(isinstance(value, int | float) and value < 0 for value in (status, named.get("statuscode"))):
        return REFUSED
    if isinstance(status, list | dict) and status:
        parts = status if isinstance(status, list) else [status]
        texts = (text for part in parts for text in (part.values() if isinstance(part, dict) else [part]))
        inside = (*map(failure_code, parts), *map(_word, texts))
        return next(filter(None, inside), None if data and isinstance(data, list | dict) else REFUSED)
    code = code_of(status)
    if code == 0 and not (isinstance(status, str) and denies_failure(status)):
        is_well = (code_of(named.get("statuscode")) or 0) in range(200, 300)
        return None if is_well and (isinstance(data, list) or (data and isinstance(data, dict))) else REFUSED
    return code if code is not None and 300 <= code < 600 else None


def _labelled(value: Any) -> int | None:
    match = _LABELLED.fullmatch(value) if isinstance(value, str) else None
    return int(match["number"]) if match else None


def _named_code(named: Mapping[str, Any]) -> int:
    """The status that stands anywhere in a wrapper that says it failed."""
    inside = named.get("error")
    if isinstance(inside, dict):
        named = {**named, **_named(inside)}
    places = (name for name in named if name in (*_CODES, "status") or _is_error_code(name))
    return max((code for name in places if 400 <= (code := code_of(named[name]) or 0) <= 599), default=REFUSED)


def _is_no(value: Any) -> bool:
    if isinstance(value, str):
        return _squeezed(value) in ("false", "no", "0") or says_failure(value)
    return value is False or (type(value) in (int, float) and value == 0)


def _is_error_code(name: str) -> bool:
    match = _ERROR.fullmatch(name)
    return bool(match and match["code"])


def _has_error(named: Mapping[str, Any]) -> bool:
    """Whether a field for errors says one; beside a code that says there is none, its words must say so, too."""
    errors = {name: value for name, value in named.items() if _ERROR.fullmatch(name)}
    codes = [value for name, value in errors.items() if _is_error_code(name) and value not in (None, "")]
    is_denied = bool(codes) and not any(_says_error(value, "code") for value in codes)
    return any(
        says_failure(value)
        if is_denied and isinstance(value, str) and name not in ("error", "errors")
        else _says_error(value, name)
        for name, value in errors.items()
    )


def _says_error(value: Any, name: str) -> bool:
    if isinstance(value, dict):
        return any(_says_error(part, _squeezed(str(inner))) for inner, part in value.items())
    if isinstance(value, list):
        return any(_says_error(part, name) for part in value)
    if (code := code_of(value)) is not None:
        return code != 0 and not (200 <= code < 300 and (name in _CODES or _is_error_code(name)))
    if isinstance(value, str):
        return _squeezed(value) not in _NOTHING and not denies_failure(value)
    return value is not None and value is not False and value != 0
