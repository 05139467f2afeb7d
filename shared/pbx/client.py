"""The client of the PBX's API: sends operations within the budget of calls, and checks their answers."""

from __future__ import annotations

import logging
import math
import random
import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import quote, urlsplit

from shared.errors import (
    HIDDEN,
    Conflict,
    PbxError,
    PbxForbidden,
    PbxNotFound,
    PbxNotUnderstood,
    PbxRefused,
    PbxRetriable,
    PbxThrottled,
    PbxUnavailable,
    PbxUnreachable,
    Refused,
    StorageUnavailable,
    redact,
)
from shared.http import ending_by, plain_session, retry_after
from shared.pbx import operations
from shared.pbx.budget import LONGEST_SECONDS, Budget
from shared.pbx.operations import Operation
from shared.settings import Settings
from shared.times import iso
from shared.values import identifier, parse_body

if TYPE_CHECKING:
    import requests

logger = logging.getLogger(__name__)

LARGEST_BODY = 8 * 1024 * 1024
_CONNECT_SECONDS = 5.0
_SHORTEST_ATTEMPT = 1.0
_RETRIES = 3
_FIRST_WAIT_SECONDS = 0.5
_NO_KEY = (
    "PBX_API_KEY is missing. Make a key in the PBX's panel, under Integration, and set it: in local.settings.json on "
    "a laptop, in Key Vault in Azure"
)
_LONGEST_MESSAGE = 10_000
_LONGEST_WORDS = 300
_SHORTEST_SECRET = 5
_FAILED = 422
_SUCCESS = frozenset({"success", "successful", "succeeded", "ok", "okay", "done", "created", "accepted", "true"})
# The PBX's envelope has all three fields; without them a 404 or an empty list may come from a gateway.
_OWN = frozenset({"version", "status", "statusCode"})
_EMPTY: tuple[Any, ...] = (None, "", [], {})
# The PBX's message explains these statuses; the others have errors of their own. A `statusCode` from 600 on is a
# refusal, too.
_REFUSED = frozenset(range(400, 500)) - {401, 403, 404, 408, 429}
_HIGHEST_STATUS = 600
_ID_NAMES = ("id", "webhookid", "webhook", "hookid")
_ID = re.compile(r"([A-Za-z0-9_-]{1,64})")
# The event may stand between `webhooks` and the id.
_ID_IN_PATH = re.compile(r"(?:^|/)webhooks/(?:[A-Za-z]+/)?([A-Za-z0-9_-]{1,64})/?$", re.IGNORECASE)


class Pbx:
    """
    The PBX's API; safe to use from many threads.

    Every attempt takes a call of the budget. A read is tried up to four times when the connection breaks or the PBX
    answers 429 or 5xx. A command is tried once, on a fresh connection: the PBX may act on it without an answer.
    """

    def __init__(self, settings: Settings, budget: Budget, *, pause: Callable[[float], object] | None = None) -> None:
        self._base = settings.pbx_base_url
        self._key = settings.pbx_api_key
        self._budget = budget
        self._pause = pause or threading.Event().wait

    def headers(self) -> Mapping[str, str]:
        """Return the headers with the key; they must not be sent to any other host."""
        return {"Authorization": f"Bearer {self._key}"}

    def call(self, operation: str, *, lane: str, until: float | None = None, **parameters: Any) -> Any:
        """
        Return the `data` of an operation's answer: a list of items, one item, or the raw value.

        A list without matches is empty. Numbers are exact. Parameters that are None are left out, and times are sent in
        UTC. The call ends within 20 seconds, and by `until` (monotonic seconds). Raises PbxError with its remedy,
        BudgetExhausted, or StorageUnavailable.
        """
        row = operations.operation(operation)
        try:
            return content(row, self._ask(row, lane, parameters, until)[0].get("data"))
        except PbxNotFound:
            if row.lists:
                return []
            raise

    def envelope(self, operation: str, *, lane: str, **parameters: Any) -> dict[str, Any]:
        """Return the checked envelope of an operation's answer; raises PbxNotFound also for a list without matches."""
        return self._ask(operations.operation(operation), lane, parameters)[0]

    def subscribe(self, event: str, endpoint: str) -> str | None:
        """Make a webhook, and return its id, or None if the PBX's answer has none."""
        row = operations.operation("Subscribe")
        envelope, headers = self._ask(row, "action", {"event": event, "endpoint": endpoint})
        return webhook_id(headers.get("Location"), envelope.get("data"))

    def unsubscribe(self, webhook_id: str) -> None:
        """Delete a webhook, if the PBX has it."""
        try:
            self._ask(operations.operation("DeleteWebhookByID"), "action", {"webhook_id": webhook_id})
        except PbxNotFound:
            logger.info("webhook %s was gone already", webhook_id)

    def _ask(
        self, row: Operation, lane: str, parameters: Mapping[str, Any], until: float | None = None
    ) -> tuple[dict[str, Any], Mapping[str, str]]:
        """Return the envelope and the headers of a successful answer."""
        if not self._key:
            raise PbxForbidden(row.id, _NO_KEY)
        request, attempt = _request(row, self._base, parameters), 0
        deadline = min(time.monotonic() + LONGEST_SECONDS, until or math.inf)
        while True:
            attempt += 1
            self._budget.take(lane, until=deadline)
            try:
                status, headers, body = self._answer(row, request, deadline)
                return parse(row, status, headers, body, (self._key, *parameters.values())), headers
            except PbxError as error:
                if row.lists and isinstance(error, PbxNotFound):
                    raise  # not a failure: nothing matches
                logger.info("PBX %s failed: %s, attempt %d", row.id, type(error).__name__, attempt)
                if not isinstance(error, PbxRetriable):
                    raise
                wait = _FIRST_WAIT_SECONDS * 2.0 ** (attempt - 1) * random.uniform(0.5, 1.5)  # noqa: S311 - no secret
                if error.retry_after:
                    wait = max(wait, error.retry_after)
                    with suppress(StorageUnavailable, Conflict):
                        self._budget.rest(error.retry_after)
                is_in_time = time.monotonic() + wait + _SHORTEST_ATTEMPT < deadline
                if not (row.repeatable and attempt <= _RETRIES and is_in_time):
                    raise
            self._pause(wait)

    def _answer(self, row: Operation, request: Mapping[str, Any], deadline: float) -> tuple[int, Any, bytes]:
        """Return the status, headers and inflated body of one answer, up to LARGEST_BODY bytes."""
        import requests
        import urllib3

        left = max(deadline - time.monotonic(), 0.001)
        headers = {**self.headers(), "Accept": "application/json", "Accept-Encoding": "gzip"}
        options: dict[str, Any] = {"timeout": (min(_CONNECT_SECONDS, left), left), "stream": True}
        session = self._session if row.repeatable else self._commands
        try:
            with (
                ending_by(deadline),
                session.request(row.method, **request, headers=headers, allow_redirects=False, **options) as response,
            ):
                body: bytes = response.raw.read(LARGEST_BODY + 1, decode_content=True)
        except urllib3.exceptions.DecodeError:
            raise PbxNotUnderstood(row.id, "the answer's compression is unknown") from None
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            # The texts of these errors contain URLs with phone numbers.
            reason = getattr(error.args[0] if error.args else None, "reason", None)
            if isinstance(error, requests.ConnectTimeout) or isinstance(reason, urllib3.exceptions.NewConnectionError):
                raise PbxUnreachable(row.id, "no connection; check the network and PBX_BASE_URL") from None
            uncertain = ", and the PBX may have acted; check there before trying again"
            advice = "; check the network and PBX_BASE_URL" if row.repeatable else uncertain
            raise PbxUnavailable(row.id, f"no answer{advice}") from None
        if len(body) > LARGEST_BODY:
            raise PbxNotUnderstood(row.id, "the answer is larger than 8 MiB")
        return response.status_code, response.headers, body

    @cached_property
    def _session(self) -> requests.Session:
        return plain_session(hosts=2, connections=32)

    @cached_property
    def _commands(self) -> requests.Session:
        return plain_session(hosts=2, connections=1, idle_seconds=0)


def _request(row: Operation, base: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the URL, query and body of a request; raises TypeError for a missing or unknown parameter."""
    known = {parameter.name for parameter in row.parameters}
    if unknown := sorted(parameters.keys() - known):
        raise TypeError(f"{row.id} takes {', '.join(sorted(known))}, not {', '.join(unknown)}")
    parts: dict[str, dict[str, Any]] = {"path": {}, "query": {}, "body": {}}
    for parameter in row.parameters:
        value = parameters.get(parameter.name)
        value = parameter.default if value is None else value
        if value is None and parameter.required:
            raise TypeError(f"{row.id} needs {parameter.name}")
        if value is not None:
            parts[parameter.where][parameter.name] = iso(value) if isinstance(value, datetime) else value
    path = row.path.format(**{name: quote(str(value), safe="") for name, value in parts["path"].items()})
    return {"url": base + path, "params": parts["query"], "json": parts["body"] or None}


def parse(
    row: Operation, http_status: int, headers: Mapping[str, str], body: bytes, sent: Iterable[Any] = ()
) -> dict[str, Any]:
    """
    Return the envelope of a successful answer; the answer to a command may be empty.

    Raises the PbxError of the worse of the HTTP status and the envelope's `statusCode`. Texts that were `sent`, such as
    numbers, addresses and the key, are hidden in the PBX's message.
    """
    try:
        answer = parse_body(body, odd_numbers=True)
    except Refused:
        answer = None
    envelope: dict[str, Any] = answer if isinstance(answer, dict) else {}
    subscribes = row.id == "Subscribe" and http_status < 300
    if subscribes and webhook_id(headers.get("Location"), None):
        # `Location` proves that the webhook was made, whatever the body has.
        return envelope
    status = max(http_status, identifier(envelope.get("statusCode")) or 0)
    status = status if status >= 300 else _failure(row, envelope) or status
    if status >= 300:
        _fail(row, status, headers, envelope, sent)
    if not body.strip() and not row.repeatable:
        return {}
    if subscribes and webhook_id(None, answer):
        return envelope if "data" in envelope else {"data": answer}
    is_empty = row.item and envelope.get("data") in _EMPTY
    present = {name for name, value in envelope.items() if value is not None}
    if (is_empty and not present >= _OWN) or (not present - {"message"} and answer != {}):
        raise PbxNotUnderstood(row.id, "the answer is not the PBX's; check PBX_BASE_URL")
    if is_empty and not row.lists:
        raise PbxNotFound(row.id, "the PBX does not have it; check the id")
    return envelope


def _failure(row: Operation, envelope: Mapping[str, Any]) -> int | None:
    """
    Return the status of a failure by `error`, by `success: false`, or by no data and a `status` other than success.

    The `data` of an operation without items may have an error, too.
    """
    for part in (envelope, envelope.get("data") if not row.item else None):
        if isinstance(part, dict) and (part.get("success") is False or part.get("error") or part.get("errors")):
            error = part.get("error")
            code = identifier(error.get("code")) if isinstance(error, dict) else None
            return code if code and 400 <= code < _HIGHEST_STATUS else _FAILED
    status = envelope.get("status")
    is_success = str(status).strip().lower() in _SUCCESS or 200 <= (identifier(status) or 0) < 300
    return _FAILED if status is not None and not is_success and envelope.get("data") in _EMPTY else None


def _fail(
    row: Operation, status: int, headers: Mapping[str, str], envelope: Mapping[str, Any], sent: Iterable[Any]
) -> NoReturn:
    words = _words(envelope, sent)
    if status in _REFUSED or status >= _HIGHEST_STATUS:
        raise PbxRefused(row.id, words or f"the PBX refused the request ({status})")
    asked = retry_after(headers.get("Retry-After"))
    if status == 429:
        raise PbxThrottled(row.id, "too many calls; try again later", asked)
    if status >= 500 or status == 408:
        raise PbxUnavailable(row.id, f"the PBX failed ({status}); try again later", asked)
    if status in (401, 403):
        reason = f"{status}: {words}" if words else f"{status}"
        raise PbxForbidden(
            row.id,
            f"the PBX does not allow it ({reason}). In its panel, under Integration, tick the API method "
            f"{row.method} {row.path} for this key, and check the key and its list of IP addresses",
        )
    if status == 404 and envelope.keys() >= _OWN:
        raise PbxNotFound(row.id, "the PBX does not have it; check the id")
    raise PbxNotUnderstood(row.id, f"the answer is not the PBX's ({status}); check PBX_BASE_URL")


def _words(envelope: Any, sent: Iterable[Any]) -> str:
    """Return the PBX's message without the texts that were sent, up to 300 characters."""
    words = " ".join(_text(envelope)[:_LONGEST_MESSAGE].split())
    for value in sent:
        if isinstance(value, str) and len(value) >= _SHORTEST_SECRET:
            words = words.replace(value, HIDDEN)
    return redact(words)[:_LONGEST_WORDS]


def _text(value: Any) -> str:
    """Return the first text among the message and errors of an envelope."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        value = [value.get(name) for name in ("message", "error", "errors", "detail", "data")]
    return next(filter(None, map(_text, value)), "") if isinstance(value, list) else ""


def content(row: Operation, data: Any) -> Any:
    """
    Return the content of an answer's `data`: the items of a list without nulls, one item, or the raw value.

    A list may also be an object with indexes as names, `{"0": …, "1": …}`. Raises PbxNotUnderstood for a list of
    anything but objects, and for an item without any of its fields.
    """
    if not row.lists:
        if row.item and not (isinstance(data, dict) and data.keys() & {field.name for field in row.item}):
            raise PbxNotUnderstood(row.id, "data is not an item")
        return data
    if data in _EMPTY:
        return []
    if isinstance(data, dict) and all(name.isdecimal() and name.isascii() for name in data):
        data = [data[name] for name in sorted(data, key=int)]
    items = [item for item in data if item is not None] if isinstance(data, list) else None
    if items is None or not all(isinstance(item, dict) for item in items):
        raise PbxNotUnderstood(row.id, "data is not a list of items")
    return items


def webhook_id(location: str | None, data: Any) -> str | None:
    """
    Return the id of a new webhook from the `Location` header or else from `data` in any form, or None.

    An id has a digit: a wrong id could delete another application's webhook.
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
