"""Answers of the PBX: their size, their wrapping, success and failure, and the ids of webhooks."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import urlsplit

from shared.errors import (
    HIDDEN,
    PbxForbidden,
    PbxNotFound,
    PbxNotUnderstood,
    PbxRefused,
    PbxThrottled,
    PbxUnavailable,
    Refused,
    redact,
)
from shared.http import retry_after
from shared.values import identifier, parse_body

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from shared.pbx.operations import Operation

_LONGEST_MESSAGE = 10_000
_LONGEST_WORDS = 300
_SHORTEST_SECRET = 5
_FAILED = 422
_SUCCESS = frozenset({"success", "successful", "succeeded", "ok", "okay", "done", "created", "accepted", "true"})
# A wrapping with all three is the PBX's own; without them a 404 or an empty list may be anybody's.
_OWN = frozenset({"version", "status", "statusCode"})
_EMPTY: tuple[Any, ...] = (None, "", [], {})
# The other statuses have an error of their own; these leave it to the PBX's words. A code beyond those of HTTP is the
# PBX's own way of saying no.
_REFUSED = frozenset(range(400, 500)) - {401, 403, 404, 408, 429}
_HIGHEST_STATUS = 600
_ID_NAMES = ("id", "webhookid", "webhook", "hookid")
_ID = re.compile(r"([A-Za-z0-9_-]{1,64})")
# Some name the event between the two.
_ID_IN_PATH = re.compile(r"(?:^|/)webhooks/(?:[A-Za-z]+/)?([A-Za-z0-9_-]{1,64})/?$", re.IGNORECASE)


def parse(
    row: Operation, http_status: int, headers: Mapping[str, str], body: bytes, sent: Iterable[Any] = ()
) -> dict[str, Any]:
    """
    Return the wrapping of a successful answer; an operation without items may be answered with an empty body.

    Raises the PbxError that names what to do, by the worse of the HTTP status and the one that the wrapping names.
    Texts that were `sent`, such as numbers, addresses and the key, are hidden in the PBX's words.
    """
    try:
        answer = parse_body(body, odd_numbers=True)
    except Refused:
        answer = None
    wrapper: dict[str, Any] = answer if isinstance(answer, dict) else {}
    subscribes = row.id == "Subscribe" and http_status < 300
    if subscribes and webhook_id(headers.get("Location"), None):
        # It was made; anything may stand around its id.
        return wrapper
    status = max(http_status, identifier(wrapper.get("statusCode")) or 0)
    status = status if status >= 300 else _failure(row, wrapper) or status
    if status >= 300:
        _fail(row, status, headers, wrapper, sent)
    if not body.strip() and not row.repeatable:
        return {}
    if subscribes and webhook_id(None, answer):
        return wrapper if "data" in wrapper else {"data": answer}
    is_empty = row.item and wrapper.get("data") in _EMPTY
    named = {name for name, value in wrapper.items() if value is not None}
    if (is_empty and not named >= _OWN) or (not named - {"message"} and answer != {}):
        raise PbxNotUnderstood(row.id, "the answer is not what the PBX sends; check PBX_BASE_URL")
    if is_empty and not row.lists:
        raise PbxNotFound(row.id, "the PBX does not have it; check the id")
    return wrapper


def _failure(row: Operation, wrapper: Mapping[str, Any]) -> int | None:
    """
    Return the status of a failure that no code names: an `error`, `success: false`, or no word of success and no data.

    The `data` of an operation without items may name an error, too.
    """
    for part in (wrapper, wrapper.get("data") if not row.item else None):
        if isinstance(part, dict) and (part.get("success") is False or part.get("error") or part.get("errors")):
            error = part.get("error")
            code = identifier(error.get("code")) if isinstance(error, dict) else None
            return code if code and 400 <= code < _HIGHEST_STATUS else _FAILED
    status = wrapper.get("status")
    is_success = str(status).strip().lower() in _SUCCESS or 200 <= (identifier(status) or 0) < 300
    return _FAILED if status is not None and not is_success and wrapper.get("data") in _EMPTY else None


def content(row: Operation, data: Any) -> Any:
    """
    Return what an answer's `data` holds: a list's items without gaps, the one item, or anything that the PBX sends.

    A list may be written as an object with the places as names, `{"0": …, "1": …}`. Raises PbxNotUnderstood where the
    list is none or an item has none of its fields.
    """
    if not row.lists:
        if row.item and not (isinstance(data, dict) and data.keys() & {field.name for field in row.item}):
            raise PbxNotUnderstood(row.id, "data is not an item")
        return data
    if data in _EMPTY:
        return []
    if isinstance(data, dict) and all(name.isdecimal() and name.isascii() for name in data):
        data = [data[name] for name in sorted(data, key=int)]
    found = [item for item in data if item is not None] if isinstance(data, list) else None
    if found is None or not all(isinstance(item, dict) for item in found):
        raise PbxNotUnderstood(row.id, "data is not a list of items")
    return found


def webhook_id(location: str | None, data: Any) -> str | None:
    """
    Return the id of a new webhook from the `Location` header, or else from `data` in any form; None without one.

    Words are never taken for an id: deleting by a wrong one would end somebody else's webhook.
    """
    if location and (found := _id_in_text(location)):
        return found
    if isinstance(data, list) and len(data) == 1:
        return webhook_id(None, data[0])
    if isinstance(data, dict):
        named = {name.lower().replace("_", ""): value for name, value in data.items()}
        return next((found for name in _ID_NAMES if (found := webhook_id(None, named.get(name)))), None)
    if isinstance(data, str):
        return _id_in_text(data)
    return None if (number := identifier(data)) is None else str(number)


def _id_in_text(text: str) -> str | None:
    text = text.strip()
    match = _ID_IN_PATH.search(urlsplit(text).path) if "/" in text else _ID.fullmatch(text)
    return match[1] if match and any(character.isdigit() for character in match[1]) else None


def _fail(
    row: Operation, status: int, headers: Mapping[str, str], wrapper: Mapping[str, Any], sent: Iterable[Any]
) -> NoReturn:
    words = _words(wrapper, sent)
    if status in _REFUSED or status >= _HIGHEST_STATUS:
        raise PbxRefused(row.id, words or f"the PBX refused the request ({status})")
    asked = retry_after(headers.get("Retry-After"))
    if status == 429:
        raise PbxThrottled(row.id, "too many calls; try again later", asked)
    if status >= 500 or status == 408:
        raise PbxUnavailable(row.id, f"the PBX failed ({status}); try again later", asked)
    if status in (401, 403):
        said = f"{status}: {words}" if words else f"{status}"
        raise PbxForbidden(
            row.id,
            f"the PBX does not allow it ({said}). In its panel, under Integration, tick the API method "
            f"{row.method} {row.path} for this key, and check the key and its list of IP addresses",
        )
    if status == 404 and wrapper.keys() >= _OWN:
        raise PbxNotFound(row.id, "the PBX does not have it; check the id")
    raise PbxNotUnderstood(row.id, f"the answer is not the PBX's ({status}); check PBX_BASE_URL")


def _words(wrapper: Any, sent: Iterable[Any]) -> str:
    words = " ".join(_text(wrapper)[:_LONGEST_MESSAGE].split())
    for value in sent:
        if isinstance(value, str) and len(value) >= _SHORTEST_SECRET:
            words = words.replace(value, HIDDEN)
    return redact(words)[:_LONGEST_WORDS]


def _text(value: Any) -> str:
    """Return the first text among the message and errors of a wrapping."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        value = [value.get(name) for name in ("message", "error", "errors", "detail", "data")]
    return next(filter(None, map(_text, value)), "") if isinstance(value, list) else ""
