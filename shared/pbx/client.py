"""The client of the PBX: every operation of the table through one method, within the shared budget."""

from __future__ import annotations

import logging
import random
import threading
import time
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from shared.errors import PbxError, PbxNotFound, PbxNotUnderstood, PbxRetriable, PbxUnavailable, PbxUnreachable
from shared.http_clients import ending_by, plain_session, timely
from shared.pbx import responses as answers
from shared.pbx.operations import operation
from shared.times import iso

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    import requests

    from shared.pbx.budget.budget import Budget
    from shared.pbx.operation import Operation
    from shared.settings import Settings

logger = logging.getLogger(__name__)

_CONNECTIONS = 32
_CONNECT_SECONDS = 5
_RETRIES = 3
_FIRST_WAIT_SECONDS = 0.5
LONGEST_RETRY_AFTER = 30
_UNREACHABLE = "no connection; check the network and PBX_BASE_URL"
# Seconds for one read, and for a call with its retries and all waiting: whoever asked for an action waits for it.
_PATIENCE = {"action": (10.0, 20.0)}
_USUAL_PATIENCE = (30.0, 240.0)
# What an attempt may need for itself, after it has waited for the budget.
_SHORTEST_ATTEMPT = 1.0
_LONGEST_BUDGET_WAIT = 2.0


def _pause(seconds: float) -> None:
    threading.Event().wait(seconds)


class Pbx:
    """
    The PBX's API; safe to use from many threads.

    Every attempt draws one token of the budget. What is repeatable is tried four times in all when the connection
    breaks or the PBX answers 429 or 5xx; anything else once, because the PBX may have acted before it went silent.
    """

    def __init__(self, settings: Settings, budget: Budget, *, pause: Callable[[float], None] = _pause) -> None:
        self._base = settings.pbx_base_url
        self._key = settings.pbx_api_key
        self._budget = budget
        self._pause = pause

    def headers(self) -> Mapping[str, str]:
        """The headers that open the PBX's host, and must reach no other."""
        return {"Authorization": f"Bearer {self._key}"}

    def call(self, operation: str, *, lane: str, **parameters: Any) -> Any:
        """
        What an operation's answer holds in `data`: a list of items, one item, or anything that the PBX sends.

        A list is empty where nothing matches. Numbers are exact. Parameters that are None are left out; a moment
        is sent in UTC. Raises the PbxError that says what to do, BudgetExhausted, or StorageUnavailable.
        """
        row = _row(operation)
        try:
            wrapper = self.envelope(operation, lane=lane, **parameters)
        except PbxNotFound:
            if row.lists:
                return []
            raise
        if row.lists:
            return answers.items(row, wrapper["data"])
        return answers.item(row, wrapper["data"]) if row.item else wrapper.get("data")

    def envelope(self, operation: str, *, lane: str, **parameters: Any) -> dict[str, Any]:
        """The whole answer of an operation, checked; on a list, PbxNotFound means that nothing matches."""
        return self._ask(_row(operation), lane, parameters)[0]

    def subscribe(self, event: str, endpoint: str) -> str | None:
        """Make a webhook; returns its id, or None where the PBX did not say it."""
        wrapper, headers = self._ask(_row("Subscribe"), "action", {"event": event, "endpoint": endpoint})
        return answers.webhook_id(headers.get("Location"), wrapper.get("data"))

    def unsubscribe(self, webhook_id: str) -> None:
        """Delete a webhook; one that is gone already is no error."""
        try:
            self._ask(_row("DeleteWebhookByID"), "action", {"webhook_id": webhook_id})
        except PbxNotFound:
            logger.info("webhook %s was gone already", webhook_id)

    def _ask(
        self, row: Operation, lane: str, parameters: Mapping[str, Any]
    ) -> tuple[dict[str, Any], Mapping[str, str]]:
        request = _request(row, self._base, parameters)
        read_seconds, patience = _PATIENCE.get(lane, _USUAL_PATIENCE)
        deadline = time.monotonic() + patience
        attempt = 0
        while True:
            attempt += 1
            self._budget.take(lane)
            try:
                until = min(deadline, time.monotonic() + 2 * read_seconds)
                return self._attempt(row, request, (read_seconds, until), (self._key, *parameters.values()))
            except PbxRetriable as error:
                failure: PbxError = error
                wait = _wait(attempt, error.retry_after)
                in_time = time.monotonic() + wait + _LONGEST_BUDGET_WAIT + _SHORTEST_ATTEMPT < deadline
                again = row.repeatable and attempt <= _RETRIES and wait <= LONGEST_RETRY_AFTER and in_time
            except PbxError as error:
                failure, again = error, False
            if row.lists and isinstance(failure, PbxNotFound):
                raise failure  # nothing matches, which is no failure
            logger.info("PBX %s failed: %s, attempt %d", row.id, type(failure).__name__, attempt)
            if not again:
                raise failure
            self._pause(wait)

    def _attempt(
        self, row: Operation, request: Mapping[str, Any], patience: tuple[float, float], sent: Iterable[Any]
    ) -> tuple[dict[str, Any], Mapping[str, str]]:
        """One request; `patience` is the seconds for a read, and until when all of it may take in monotonic seconds."""
        import requests
        import urllib3

        read_seconds, deadline = patience
        left = max(deadline - time.monotonic(), _SHORTEST_ATTEMPT)
        try:
            with (
                ending_by(deadline),
                self._session.request(
                    row.method,
                    **request,
                    headers={**self.headers(), "Accept": "application/json", "Accept-Encoding": "gzip"},
                    timeout=(min(_CONNECT_SECONDS, left), min(read_seconds, left)),
                    allow_redirects=False,
                    stream=True,
                ) as response,
            ):
                body = answers.read_body(row, response, deadline)
        except urllib3.exceptions.DecodeError:
            raise PbxNotUnderstood(row.id, "the answer is packed in an unknown way") from None
        # The texts of these errors hold URLs, and URLs hold phone numbers.
        except requests.ConnectionError as error:
            if _never_connected(error):
                raise PbxUnreachable(row.id, _UNREACHABLE) from None
            raise PbxUnavailable(row.id, _silence(row)) from None
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError):
            raise PbxUnavailable(row.id, _silence(row)) from None
        return answers.parse(row, response.status_code, response.headers, body, sent), response.headers

    @cached_property
    def _session(self) -> requests.Session:
        # At DEBUG it logs every request's query.
        logging.getLogger("urllib3").setLevel(logging.INFO)
        return timely(plain_session(hosts=2, connections=_CONNECTIONS))


# The parameter of Pbx.call has the name that this function has elsewhere.
_row = operation


def _never_connected(error: requests.ConnectionError) -> bool:
    import requests
    from urllib3.exceptions import NewConnectionError

    cause = error.args[0] if error.args else None
    return isinstance(error, requests.ConnectTimeout) or isinstance(getattr(cause, "reason", None), NewConnectionError)


def _silence(row: Operation) -> str:
    if row.repeatable:
        return "no answer; check the network and PBX_BASE_URL"
    return "no answer, and the PBX may have acted; look there before you ask again"


def _wait(attempt: int, asked: int | None) -> float:
    jittered = _FIRST_WAIT_SECONDS * 2.0 ** (attempt - 1) * random.uniform(0.5, 1.5)  # noqa: S311 - no secret
    return max(jittered, asked or 0.0)


def _request(row: Operation, base: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The URL, query and body of a request; raises TypeError for a parameter that is missing or unknown."""
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
