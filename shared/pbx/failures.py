"""Whether an answer says that the operation failed: by its status word, its code, or by errors beside its data."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

REFUSED = 422

# Words for success are not documented, so only these say that something went wrong, with anything after them; the
# last ones are in the languages around the Baltic Sea.
_FAILED = re.compile(
    r"(?:un(?:success|available|authori[sz]ed|processable)|not?ok$|not?success|err(?:or(?!free|less)|ed|$|s$|eur)|fail|fault(?!less)"
    r"|nok$|ko$|ng$|nack$|bad(?:$|request|gateway)|false$|no$|invalid|denied|deny|accessdenied|refus|reject|forbidden"
    r"|abort|cancel(?:$|led|ed)|exception|fatal|critical|crash|timedout|timeout|notfound|missing$|conflict$|busy$"
    r"|blocked$|exceeded|limitexceeded|throttled|toomanyrequests|incomplete$|problem|kļūda|neizdevās|klaida|nepavyko|viga|ошибка)"
)
# Statuses of HTTP in words, such as "Not Found", mean what the number means.
_PHRASES: Mapping[str, int] = {
    re.sub(r"\W|_", "", status.phrase).lower(): int(status) for status in HTTPStatus if status >= 400
} | {"accessdenied": 403, "denied": 403, "unavailable": 503, "timeout": 504, "timedout": 504, "throttled": 429}
_NOTHING = frozenset({"", "0", "false", "none", "null", "no", "nil", "ok", "success", "noerror", "noerrors"})
_FLAGS = ("success", "successful", "succeeded", "ok")
_ERRORS = ("error", "errors", "exception", "fault")
_CODES = ("statuscode", "code", "httpcode", "httpstatus", "errorcode")
_NUMBER = re.compile(r"\s*([0-9]{1,18})(?:\.0*)?(?:\s.*)?", re.DOTALL)


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
    if not isinstance(wrapper, dict):
        return _word(wrapper) if inner else None
    named = {_squeezed(str(name)): value for name, value in wrapper.items()}
    code = None if inner else code_of(named.get("statuscode"))
    if code and code >= 300:
        return code
    words = (_word(named.get("statuscode")), _word(named.get("status")), _word(named.get("result")))
    said = next((word for word in words if word), None if inner else _number_of_failure(named))
    if said and said != REFUSED:
        return said
    wrong = said or any(name in named and _is_no(named[name]) for name in _FLAGS)
    return _named_code(named) if wrong or any(_says_error(named.get(name)) for name in _ERRORS) else None


def bare_message(wrapper: Mapping[str, Any]) -> bool:
    """Whether the wrapper has words and nothing that says how it went."""
    named = {_squeezed(str(name)) for name, value in wrapper.items() if value not in (None, "")}
    return "message" in named and not named & {"status", "statuscode", "data", "success", "ok", "result"}


def words_of(wrapper: Any) -> str:
    """What the wrapper says in words: its message, or the first text among its errors."""
    if not isinstance(wrapper, dict):
        return ""
    named = {_squeezed(str(name)): value for name, value in wrapper.items()}
    return next((text for name in ("message", *_ERRORS, "data") if (text := _text(named.get(name)))), "")


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return next((text for part in value if (text := _text(part))), "")
    if isinstance(value, dict):
        found = (_text(part) for name, part in value.items() if _squeezed(str(name)) in ("message", "detail", *_ERRORS))
        return next((text for text in found if text), "")
    return ""


def _squeezed(text: str) -> str:
    return re.sub(r"[\W_]", "", text).lower()


def _word(value: Any) -> int | None:
    """The code that a status word stands for, None where it is no word for a failure."""
    if isinstance(value, bool):
        return None if value else REFUSED
    if not isinstance(value, str) or code_of(value) is not None:
        return None
    word = _squeezed(value)
    return _PHRASES.get(word) or (REFUSED if _FAILED.match(word) else None)


def _number_of_failure(named: Mapping[str, Any]) -> int | None:
    """The code that a number under `status` stands for: one of HTTP's, or nothing at all."""
    values = (named.get("status"), named.get("statuscode"))
    if any(isinstance(value, int | float) and value < 0 for value in values):
        return REFUSED
    code = code_of(values[0])
    return code if code is not None and 300 <= code < 600 else REFUSED if code == 0 else None


def _named_code(named: Mapping[str, Any]) -> int:
    """The status that stands anywhere in a wrapper that says it failed."""
    inside = named.get("error")
    if isinstance(inside, dict):
        named = {**named, **{_squeezed(str(name)): value for name, value in inside.items()}}
    codes = (code_of(named.get(name)) or 0 for name in (*_CODES, "status"))
    return max((code for code in codes if 400 <= code <= 599), default=REFUSED)


def _is_no(value: Any) -> bool:
    if isinstance(value, str):
        return _squeezed(value) in ("false", "no", "0") or bool(_FAILED.match(_squeezed(value)))
    return value is False or (type(value) in (int, float) and value == 0)


def _says_error(value: Any) -> bool:
    if isinstance(value, str):
        return _squeezed(value) not in _NOTHING
    if isinstance(value, dict):
        return any(_says_error(part) for part in value.values())
    if isinstance(value, list):
        return any(_says_error(part) for part in value)
    return value is not None and value is not False and value != 0
