"""Two subscribers of the demonstration: one that checks every signature, and one that fails once and recovers."""

from __future__ import annotations

import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Self

import requests

from dev.listener import Answer, Listener, Received
from dev.signatures import SignatureRefused, verify

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

# The first gets every completed call. The second is down when its first event comes.
STEADY, SHAKY = "/steady", "/shaky"
SUBSCRIPTIONS = ((STEADY, "CallCompleted"), (SHAKY, "CallStarted"))


class Subscribers:
    """A local listener with two subscriptions at the app; a context manager."""

    def __init__(self) -> None:
        self._listener = Listener(self._answer)
        self._secrets: dict[str, str] = {}
        self._broken = True
        self._shown = 0
        self._failed: str | None = None

    def __enter__(self) -> Self:
        self._listener.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.__exit__(kind, error, trace)

    def subscribe(self, url: str) -> Iterator[str]:
        """Subscribe both at the app; what came of it, a line each."""
        for path, event in SUBSCRIPTIONS:
            endpoint = self._listener.origin + path
            answer = requests.post(f"{url}/api/v2/webhooks/{event}", json={"endpoint": endpoint}, timeout=30)
            answer.raise_for_status()
            self._secrets[path] = answer.json()["secret"]
            yield f"Subscriber        {endpoint}  ({event})"

    def lines(self) -> Iterator[tuple[str, str, str]]:
        """What was delivered since the last time: the event, how it went, and where."""
        fresh = self._listener.received[self._shown :]
        self._shown += len(fresh)
        for one in fresh:
            yield one.json()["eventType"], self._verdict(one), self._listener.origin + one.path

    def _verdict(self, one: Received) -> str:
        try:
            verify(one.headers, one.body, [self._secrets[one.path]], time.time())
        except SignatureRefused as error:
            return f"signature refused: {error}"
        if one.path == SHAKY and self._failed in (None, one.id):
            first, self._failed = self._failed is None, one.id
            return "refused with 503, to be tried again" if first else "tried again, signature verified"
        return "signature verified"

    def _answer(self, received: Received) -> Answer:
        if received.path == SHAKY and self._broken:
            self._broken = False
            return HTTPStatus.SERVICE_UNAVAILABLE, {}
        return HTTPStatus.OK, {}
