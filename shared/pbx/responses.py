"""How the PBX's answers are read: their size, their wrapping, the result told in two places, and webhook ids."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import urlsplit

from shared.errors import (
    NotJson,
    PbxForbidden,
    PbxNotFound,
    PbxNotUnderstood,
    PbxRefused,
    PbxThrottled,
    PbxUnavailable,
)
from shared.json_bodies import parse_body
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
    while chunk := response.raw.read1(_CHUNK, decode_content=True):
        body += chunk
        if len(body) > LARGEST_BODY:
            raise PbxNotUnderstood(row.id, "the answer is larger than any real one")
        if time.monotonic() > deadline:
            raise PbxUnavailable(row.id, "the answer came too slowly")
    return bytes(body)


def parse(
    row: Operation, http_status: int, headers: Mapping[str, str], body: bytes, sent: Iterable[Any] = ()
) -> dict[str, Any]:
    """
    The wrapper of a successful answer, checked in both places: HTTP status and `statusCode`, the worse of the two.

    Raises the PbxError that says what to do. `data` is there for every operation that brings items; other
    operations may answer with nothing at all, which is an empty mapping. Texts that we `sent`, such as numbers,
    addresses and the key, are hidden in the PBX's words.
    """
    wrapper = _json(body)
    told = wrapper.get("statusCode") if isinstance(wrapper, dict) else None
    status = max(http_status, _whole(told) or 0)
    if status >= 300:
        if status in _REFUSED:
            raise PbxRefused(row.id, _words(wrapper, sent) or f"the PBX refused the request ({status})")
        _fail(row, status, headers, body)
    if not body.strip() and not row.repeatable:
        return {}
    if row.id == "Subscribe" and webhook_id(headers.get("Location"), wrapper):
        # It was made, whatever stands around its id.
        return wrapper if isinstance(wrapper, dict) and "data" in wrapper else {"data": wrapper}
    if not isinstance(wrapper, dict) or (row.item and "data" not in wrapper):
        raise PbxNotUnderstood(row.id, "the answer is not what the PBX sends; check PBX_BASE_URL")
    return wrapper


def items(row: Operation, data: Any) -> list[dict[str, Any]]:
    """The items in a list's `data`, without gaps; empty where there are none."""
    if data is None or data in ("", {}):
        return []
    found = [item for item in data if item is not None] if isinstance(data, list) else None
    if found is None or not all(isinstance(item, dict) for item in found):
        raise PbxNotUnderstood(row.id, "data is not a list of items")
    return found


def item(row: Operation, data: Any) -> dict[str, Any]:
    """The item in `data`; PbxNotFound where it is empty."""
    if data is None or data in ("", {}, []):
        raise PbxNotFound(row.id, "there is no such item")
    if not isinstance(data, dict):
        raise PbxNotUnderstood(row.id, "data is not an item")
    return data


def webhook_id(location: str | None, data: Any) -> str | None:
    """
    The id of a new webhook from the `Location` header, or else from `data` in any form; None where neither tells.

    Words are never taken for an id: deleting by a wrong one would end somebody else's webhook.
    """
    return (_id_in_text(location) if location else None) or _id_in(data)


def _id_in(data: Any) -> str | None:
    if isinstance(data, list) and len(data) == 1:
        return _id_in(data[0])
    if isinstance(data, dict):
        named = {name.lower().replace("_", ""): value for name, value in data.items()}
        return next((found for name in _ID_NAMES if (found := _id_in(named.get(name)))), None)
    if isinstance(data, str):
        return _id_in_text(data)
    number = _whole(data)
    return None if number is None else str(number)


def _id_in_text(text: str) -> str | None:
    text = text.strip()
    match = _ID_IN_PATH.search(urlsplit(text).path) if "/" in text else _ID.fullmatch(text)
    return match[1] if match and any(character.isdigit() for character in match[1]) else None


def retry_after(headers: Mapping[str, str]) -> int | None:
    """Seconds that `Retry-After` asks for, as a number or a date; None where it is missing or means nothing."""
    from email.utils import parsedate_to_datetime

    text = (headers.get("Retry-After") or "").strip()
    if text.isdecimal() and text.isascii():
        return min(int(text[:9]), 86400)
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return min(max(0, round((moment - datetime.now(UTC)).total_seconds())), 86400)


def _json(body: bytes) -> Any:
    try:
        return parse_body(body)
    except NotJson:
        return None


def _whole(value: Any) -> int | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) <= 20:
        return int(value)
    return value if isinstance(value, int) and value >= 0 else None


def _fail(row: Operation, status: int, headers: Mapping[str, str], body: bytes) -> NoReturn:
    if status == 429:
        raise PbxThrottled(row.id, "too many calls; try again later", retry_after(headers))
    if status >= 500 or status == 408:
        raise PbxUnavailable(row.id, f"the PBX failed ({status}); try again later", retry_after(headers))
    if status in (401, 403):
        raise PbxForbidden(
            row.id,
            f"the PBX does not allow it ({status}). In its panel, under Integration, tick the API method "
            f"{row.method} {row.path} for this key, and check the key and its list of IP addresses",
        )
    # An error page would make every list look empty.
    if status < 400 or (status == 404 and body.lstrip()[:1] == b"<"):
        raise PbxNotUnderstood(row.id, f"the answer is not the PBX's ({status}); check PBX_BASE_URL")
    raise PbxNotFound(row.id, "there is no such item")


def _words(wrapper: Any, sent: Iterable[Any]) -> str:
    message = wrapper.get("message") if isinstance(wrapper, dict) else None
    words = " ".join(message[:_LONGEST_MESSAGE].split()) if isinstance(message, str) else ""
    for value in sent:
        if isinstance(value, str) and len(value) >= _SHORTEST_SECRET:
            words = words.replace(value, HIDDEN)
    return redact(words)[:_LONGEST_WORDS]
