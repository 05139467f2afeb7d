"""Messages on their way to a queue with their delays, which the queue does not show."""

from __future__ import annotations

import html
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from requests.adapters import HTTPAdapter

from shared.storage.account import Storage

if TYPE_CHECKING:
    import requests

_TEXT = re.compile(rb"<MessageText>([^<]*)</MessageText>")


@dataclass(frozen=True, slots=True)
class Sent:
    """A sent message: its queue, its content, and the seconds until it is visible."""

    queue: str
    message: dict[str, Any]
    delay: int

    @property
    def body(self) -> bytes:
        return json.dumps(self.message).encode()


class Outbox(HTTPAdapter):
    """Records the messages that are put on queues."""

    def __init__(self) -> None:
        super().__init__(pool_maxsize=32)
        self.sent: list[Sent] = []

    def send(self, request: requests.PreparedRequest, *args: Any, **options: Any) -> requests.Response:
        response = super().send(request, *args, **options)
        parts = urlsplit(request.url or "")
        found = _TEXT.search(request.body) if isinstance(request.body, bytes) else None
        if request.method == "POST" and parts.path.endswith("/messages") and found and response.status_code == 201:
            delay = int(parse_qs(parts.query).get("visibilitytimeout", ["0"])[0])
            message = json.loads(html.unescape(found[1].decode()))
            self.sent.append(Sent(parts.path.split("/")[-2], message, delay))
        return response

    def take(self, queue: str = "deliveries") -> list[Sent]:
        """Return the messages that were put on a queue since the last call."""
        taken = [one for one in self.sent if one.queue == queue]
        self.sent = [one for one in self.sent if one.queue != queue]
        return taken


def outbox(storage: Storage) -> Outbox:
    """Record the messages that this storage sends from now on."""
    adapter = Outbox()
    storage._session.mount("http://", adapter)
    return adapter
