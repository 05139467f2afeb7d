"""The client of the PBX: every operation of the table through one method, within the shared budget."""

from __future__ import annotations

import logging
import math
import random
import threading
import time
from contextlib import suppress
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from shared.errors import (
    Conflict,
    PbxError,
    PbxForbidden,
    PbxNotFound,
    PbxNotUnderstood,
    PbxRetriable,
    PbxUnavailable,
    PbxUnreachable,
    StorageUnavailable,
)
from shared.http import ending_by, plain_session
from shared.pbx import operations
from shared.pbx import responses as answers
from shared.times import iso

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import requests

    from shared.pbx.budget import Budget
    from shared.pbx.operations import Operation
    from shared.settings import Settings

logger = logging.getLogger(__name__)

# For a call with its tries and all waiting.
LONGEST_SECONDS = 20.0
LARGEST_BODY = 8 * 1024 * 1024
_CONNECT_SECONDS = 5.0
_SHORTEST_ATTEMPT = 1.0
_RETRIES = 3
_FIRST_WAIT_SECONDS = 0.5
_NO_KEY = (
    "PBX_API_KEY is missing. Make a key in the PBX's panel, under Integration, and put it into this setting: in "
    "local.settings.json on a laptop, into Key Vault in Azure"
)


class Pbx:
    """
    The PBX's API; safe to use from many threads.

    Every attempt takes a call of the budget. A read is tried four times in all when the connection breaks or the PBX
    answers 429 or 5xx; anything else once, and on a connection of its own, because the PBX may have acted before it
    went silent.
    """

    def __init__(self, settings: Settings, budget: Budget, *, pause: Callable[[float], object] | None = None) -> None:
        self._base = settings.pbx_base_url
        self._key = settings.pbx_api_key
        self._budget = budget
        self._pause = pause or threading.Event().wait

    def headers(self) -> Mapping[str, str]:
        """Return the headers that open the PBX's host; they must reach no other."""
        return {"Authorization": f"Bearer {self._key}"}

    def call(self, operation: str, *, lane: str, until: float | None = None, **parameters: Any) -> Any:
        """
        Return the `data` of an operation's answer: a list of items, one item, or anything that the PBX sends.

        A list is empty where nothing matches. Numbers are exact. Parameters that are None are left out, and a moment is
        sent in UTC. The call ends within 20 seconds, and by `until` (monotonic seconds). Raises the PbxError that names
        what to do, BudgetExhausted, or StorageUnavailable.
        """
        row = operations.operation(operation)
        try:
            wrapper, _ = self._ask(row, lane, parameters, until)
        except PbxNotFound:
            if row.lists:
                return []
            raise
        return answers.content(row, wrapper.get("data"))

    def envelope(self, operation: str, *, lane: str, **parameters: Any) -> dict[str, Any]:
        """Return the whole answer of an operation, checked; raises PbxNotFound also where a list is empty."""
        return self._ask(operations.operation(operation), lane, parameters)[0]

    def subscribe(self, event: str, endpoint: str) -> str | None:
        """Make a webhook, and return its id, or None where the PBX did not name it."""
        row = operations.operation("Subscribe")
        wrapper, headers = self._ask(row, "action", {"event": event, "endpoint": endpoint})
        return answers.webhook_id(headers.get("Location"), wrapper.get("data"))

    def unsubscribe(self, webhook_id: str) -> None:
        """Delete a webhook; one that is gone already is no error."""
        try:
            self._ask(operations.operation("DeleteWebhookByID"), "action", {"webhook_id": webhook_id})
        except PbxNotFound:
            logger.info("webhook %s was gone already", webhook_id)

    def _ask(
        self, row: Operation, lane: str, parameters: Mapping[str, Any], until: float | None = None
    ) -> tuple[dict[str, Any], Mapping[str, str]]:
        """Return the wrapping and the headers of a successful answer."""
        if not self._key:
            raise PbxForbidden(row.id, _NO_KEY)
        request, attempt = _request(row, self._base, parameters), 0
        deadline = min(time.monotonic() + LONGEST_SECONDS, until or math.inf)
        while True:
            attempt += 1
            self._budget.take(lane, until=deadline)
            try:
                status, headers, body = self._answer(row, request, deadline)
                return answers.parse(row, status, headers, body, (self._key, *parameters.values())), headers
            except PbxError as error:
                if row.lists and isinstance(error, PbxNotFound):
                    raise  # nothing matches, which is no failure
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
        """Return status, headers and inflated body of one answer, at most LARGEST_BODY of it."""
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
            raise PbxNotUnderstood(row.id, "the answer is packed in an unknown way") from None
        # The texts of these errors hold URLs, and URLs hold phone numbers.
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            if _never_connected(error):
                raise PbxUnreachable(row.id, "no connection; check the network and PBX_BASE_URL") from None
            doubt = ", and the PBX may have acted; look there before you ask again"
            advice = "; check the network and PBX_BASE_URL" if row.repeatable else doubt
            raise PbxUnavailable(row.id, f"no answer{advice}") from None
        if len(body) > LARGEST_BODY:
            raise PbxNotUnderstood(row.id, "the answer is larger than any real one")
        return response.status_code, response.headers, body

    @cached_property
    def _session(self) -> requests.Session:
        return plain_session(hosts=2, connections=32)

    @cached_property
    def _commands(self) -> requests.Session:
        return plain_session(hosts=2, connections=1, idle_seconds=0)


def _never_connected(error: Exception) -> bool:
    import requests
    from urllib3.exceptions import NewConnectionError

    cause = error.args[0] if error.args else None
    return isinstance(error, requests.ConnectTimeout) or isinstance(getattr(cause, "reason", None), NewConnectionError)


def _request(row: Operation, base: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return URL, query and body of a request; raises TypeError for a parameter that is missing or unknown."""
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
