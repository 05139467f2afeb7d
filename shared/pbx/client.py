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
from shared.pbx import operations
from shared.pbx import responses as answers
from shared.times import iso

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    import requests

    from shared.pbx.budget.budget import Budget
    from shared.pbx.operations import Operation
    from shared.settings import Settings

logger = logging.getLogger(__name__)

_CONNECT_SECONDS = 5
_RETRIES = 3
_FIRST_WAIT_SECONDS = 0.5
LONGEST_RETRY_AFTER = 30
# Seconds for one read, and for a call with its retries and all waiting: whoever asked for an action waits for it.
_PATIENCE = {"action": (10.0, 20.0)}
_USUAL_PATIENCE = (30.0, 240.0)
# What an attempt may need for itself, after it has waited for the budget.
_SHORTEST_ATTEMPT = 1.0
_LONGEST_BUDGET_WAIT = 2.0


class Pbx:
    """
    The PBX's API; safe to use from many threads.

    Every attempt draws one token of the budget. What is repeatable is tried four times in all when the connection
    breaks or the PBX answers 429 or 5xx; anything else once, because the PBX may have acted before it went silent.
    """

    def __init__(self, settings: Settings, budget: Budget, *, pause: Callable[[float], object] | None = None) -> None:
        self._base = settings.pbx_base_url
        self._key = settings.pbx_api_key
        self._budget = budget
        self._pause = pause or threading.Event().wait

    def headers(self) -> Mapping[str, str]:
        """The headers that open the PBX's host, and must reach no other."""
        return {"Authorization": f"Bearer {self._key}"}

    def call(self, operation: str, *, lane: str, **parameters: Any) -> Any:
        """
        What an operation's answer holds in `data`: a list of items, one item, or anything that the PBX sends.

        A list is empty where nothing matches. Numbers are exact. Parameters that are None are left out; a moment
        is sent in UTC. Raises the PbxError that says what to do, BudgetExhausted, or StorageUnavailable.
        """
        row = operations.operation(operation)
        try:
            wrapper = self.envelope(operation, lane=lane, **parameters)
        except PbxNotFound:
            if row.lists:
                return []
            raise
        return answers.content(row, wrapper.get("data"))

    def envelope(self, operation: str, *, lane: str, **parameters: Any) -> dict[str, Any]:
        """The whole answer of an operation, checked; on a list, PbxNotFound means that nothing matches."""
        return self._ask(operation, lane, parameters)[0]

    def subscribe(self, event: str, endpoint: str) -> str | None:
        """Make a webhook; returns its id, or None where the PBX did not say it."""
        wrapper, headers = self._ask("Subscribe", "action", {"event": event, "endpoint": endpoint})
        return answers.webhook_id(headers.get("Location"), wrapper.get("data"))

    def unsubscribe(self, webhook_id: str) -> None:
        """Delete a webhook; one that is gone already is no error."""
        try:
            self._ask("DeleteWebhookByID", "action", {"webhook_id": webhook_id})
        except PbxNotFound:
            logger.info("webhook %s was gone already", webhook_id)

    def _ask(
        self, operation: str, lane: str, parameters: Mapping[str, Any]
    ) -> tuple[dict[str, Any], Mapping[str, str]]:
        row = operations.operation(operation)
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
            except PbxError as error:
                if row.lists and isinstance(error, PbxNotFound):
                    raise  # nothing matches, which is no failure
                logger.info("PBX %s failed: %s, attempt %d", row.id, type(error).__name__, attempt)
                if not isinstance(error, PbxRetriable):
                    raise
                jittered = _FIRST_WAIT_SECONDS * 2.0 ** (attempt - 1) * random.uniform(0.5, 1.5)  # noqa: S311 - no secret
                wait = max(jittered, error.retry_after or 0.0)
                in_time = time.monotonic() + wait + _LONGEST_BUDGET_WAIT + _SHORTEST_ATTEMPT < deadline
                if not (row.repeatable and attempt <= _RETRIES and wait <= LONGEST_RETRY_AFTER and in_time):
                    raise
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
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            if _never_connected(error):
                raise PbxUnreachable(row.id, "no connection; check the network and PBX_BASE_URL") from None
            doubt = ", and the PBX may have acted; look there before you ask again"
            advice = "; check the network and PBX_BASE_URL" if row.repeatable else doubt
            raise PbxUnavailable(row.id, f"no answer{advice}") from None
        return answers.parse(row, response.status_code, response.headers, body, sent), response.headers

    @cached_property
    def _session(self) -> requests.Session:
        # At DEBUG it logs every request's query.
        logging.getLogger("urllib3").setLevel(logging.INFO)
        return timely(plain_session(hosts=2, connections=32))


def _never_connected(error: Exception) -> bool:
    import requests
    from urllib3.exceptions import NewConnectionError

    cause = error.args[0] if error.args else None
    return isinstance(error, requests.ConnectTimeout) or isinstance(getattr(cause, "reason", None), NewConnectionError)


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
