"""How the PBX's answers are read: their size, their wrapping, what they say of the result, and webhook ids."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import urlsplit

from shared.errors import (
    NotJson,
    PbxForbidden,
    PbxNoItem,
    PbxNotFound,
    PbxNotUnderstood,
    PbxRefused,
    PbxThrottled,
    PbxUnavailable,
)
from shared.http_clients import read_part, retry_after
from shared.json_bodies import parse_body
from shared.pbx.failures import bare_message, code_of, codes_of, failure_code, words_of
from shared.redaction import HIDDEN, redact

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import requests

    from shared.pbx.operations import Operation

LARGEST_BODY = 8 * 1024 * 1024
_CHUNK = 64 * 1024
_LONGEST_MESSAGE = 10_000
_LONGEST_WORDS = 300
_SHORTEST_SECRET = 5
# Other statuses say by themselves what to do; these leave it to the PBX's words.
_REFUSED = frozenset(range(400, 500)) - {401, 403, 404, 408, 429}
# A code beyond those of HTTP is the PBX's own way of saying no.
_HIGHEST_STATUS = 600
_ID_NAMES = ("id", "webhookid", "webhook", "hookid")
_ID = re.compile(r"([A-Za-z0-9_-]{1,64})")
# Some name the event between the two.
_ID_IN_PATH = re.compile(r"(?:^|/)webhooks/(?:[A-Za-z]+/)?([A-Za-z0-9_-]{1,64})/?$", re.IGNORECASE)


def read_body(row: Operation, response: requests.Response, deadline: float) -> bytes:
    """
    The whole body, inflated, at most 8 MiB of it.

    Raises PbxNotUnderstood when it is larger or packed in an unknown way, and PbxUnavailable when it is still
    dripping in at `deadline` (monotonic seconds). Errors of the connection pass through.
    """
    body = bytearray()
    try:
        while chunk := read_part(response.raw, _CHUNK, deadline):
            body += chunk
            if len(body) > LARGEST_BODY:
                raise PbxNotUnderstood(row.id, "the answer is larger than any real one")
    except TimeoutError as error:
        raise PbxUnavailable(row.id, "the answer came too slowly") from error
    return bytes(body)


def parse(
    row: Operation, http_status: int, headers: Mapping[str, str], body: bytes, sent: Iterable[Any] = ()
) -> dict[str, Any]:
    """
    The wrapper of a successful answer: the worst of its HTTP status, its `statusCode` and its words counts.

    Raises the PbxError that says what to do; what failed and does not say with which status is a PbxRefused. `data`
    is there for every operation that brings items; other operations may answer with nothing at all, which is an empty
    mapping. Texts that we `sent`, such as numbers, addresses and the key, are hidden in the PBX's words.
    """
    wrapper = _json(body)
    status = max(http_status, failure_code(wrapper) or 0)
    if status == 404 and 404 not in (http_status, *codes_of(wrapper)):
        raise PbxNoItem(row.id, "the PBX does not have it; check the id")
    made = row.id == "Subscribe" and http_status < 300 and webhook_id(headers.get("Location"), None)
    if status >= 300 and not made:
        _fail(row, status, headers, body, _words(wrapper, sent))
    if not body.strip() and not row.repeatable:
        return {}
    if row.id == "Subscribe" and webhook_id(headers.get("Location"), wrapper):
        # It was made; anything may stand around its id.
        return wrapper if isinstance(wrapper, dict) and "data" in wrapper else {"data": wrapper}
    if not isinstance(wrapper, dict) or (row.item and "data" not in wrapper) or bare_message(wrapper):
        raise PbxNotUnderstood(row.id, "the answer is not what the PBX sends; check PBX_BASE_URL")
    if not row.item and (inside := failure_code(wrapper.get("data"), inner=True)):
        _fail(row, inside, headers, body, _words(wrapper["data"], sent) or _words(wrapper, sent))
    return wrapper


def content(row: Operation, data: Any) -> Any:
    """
    What an answer's `data` holds: a list's items without gaps, the one item, or anything that the PBX sends.

    A list that was written as an object with the places as names, `{"0": …, "1": …}`, is a list. Raises PbxNoItem where
    an item is nothing, and PbxNotUnderstood where it has none of its fields, or a list is none.
    """
    if row.lists:
        return _items(row, data)
    return _item(row, data) if row.item else data


def _items(row: Operation, data: Any) -> list[dict[str, Any]]:
    if data in (None, ""):
        return []
    if isinstance(data, dict) and all(name.isdecimal() and name.isascii() for name in data):
        data = [data[name] for name in sorted(data, key=int)]
    found = [item for item in data if item is not None] if isinstance(data, list) else None
    if found is None or not all(isinstance(item, dict) for item in found):
        raise PbxNotUnderstood(row.id, "data is not a list of items")
    return found


def _item(row: Operation, data: Any) -> dict[str, Any]:
    if data is None or data in ("", {}, []):
        raise PbxNoItem(row.id, "the PBX does not have it; check the id")
    if not isinstance(data, dict) or not data.keys() & {field.name for field in row.item}:
        raise PbxNotUnderstood(row.id, "data is not an item")
    return data


def webhook_id(location: str | None, data: Any) -> str | None:
    """
    The id of a new webhook from the `Location` header, or else from `data` in any form; None where neither has one.

    Words are never taken for an id: deleting by a wrong one would end somebody else's webhook.
    """
    return _id_in_text(location or "") or _id_in(data)


def _id_in(data: Any) -> str | None:
    if isinstance(data, list) and len(data) == 1:
        return _id_in(data[0])
    if isinstance(data, dict):
        named = {name.lower().replace("_", ""): value for name, value in data.items()}
        return next((found for name in _ID_NAMES if (found := _id_in(named.get(name)))), None)
    if isinstance(data, str):
        return _id_in_text(data)
    number = code_of(data)
    return None if number is None else str(number)


def _id_in_text(text: str) -> str | None:
    text = text.strip()
    match = _ID_IN_PATH.search(urlsplit(text).path) if "/" in text else _ID.fullmatch(text)
    return match[1] if match and any(character.isdigit() for character in match[1]) else None


def _json(body: bytes) -> Any:
    try:
        return parse_body(body, odd_numbers=True)
    except NotJson:
        return None


def _fail(row: Operation, status: int, headers: Mapping[str, str], body: bytes, words: str) -> NoReturn:
    if status in _REFUSED or status >= _HIGHEST_STATUS:
        raise PbxRefused(row.id, words or f"the PBX refused the request ({status})")
    asked = retry_after(headers.get("Retry-After"))
    if status == 429:
        raise PbxThrottled(row.id, "too many calls; try again later", asked)
    if status >= 500 or status == 408:
        raise PbxUnavailable(row.id, f"the PBX failed ({status}); try again later", asked)
    if status in (401, 403):
        raise PbxForbidden(
            row.id,
            f"the PBX does not allow it ({status}). In its panel, under Integration, tick the API method "
            f"{row.method} {row.path} for this key, and check the key and its list of IP addresses",
        )
    # A page or a text of somebody in between would make every list look empty.
    if status < 400 or (body.strip() and not isinstance(_json(body), dict | list)):
        raise PbxNotUnderstood(row.id, f"the answer is not the PBX's ({status}); check PBX_BASE_URL")
    raise PbxNotFound(row.id, "the PBX does not have it; check the id")


def _words(wrapper: Any, sent: Iterable[Any]) -> str:
    words = " ".join(words_of(wrapper)[:_LONGEST_MESSAGE].split())
    for value in sent:
        if isinstance(value, str) and len(value) >= _SHORTEST_SECRET:
            words = words.replace(value, HIDDEN)
    return redact(words)[:_LONGEST_WORDS]
