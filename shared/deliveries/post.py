"""Posts an event to a subscriber, signed, and reads the answer."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from http import HTTPStatus
from threading import Lock
from typing import Any, Literal

from shared.bridge import Bridge
from shared.errors import Unprocessable
from shared.events import store
from shared.events.event import row_envelope
from shared.http import AddressRefused, ending_by, guarded_session, retry_after
from shared.people import MEMORY_SECONDS
from shared.storage import rows
from shared.storage.account import Storage, once
from shared.subscriptions import Subscription, is_workflow_host
from shared.times import iso
from shared.values import encode

# The row of an event, and its envelope.
Stored = tuple[Mapping[str, Any], dict[str, Any]]

# Seconds of a post, however many addresses its host has, and the bytes of an answer that are read.
CONNECT_SECONDS, TOTAL_SECONDS = 5, 20
LONGEST_ANSWER = 4096
# Proxies log the subject: it is an id, never a phone number.
_SUBJECTS = ("callID", "recordingID", "voicemailID", "contactID")
# The reversed domain of the PBX's service, as CloudEvents advises for types.
_TYPE = "lv.zvanuparvaldnieks"
_session = once(guarded_session)
_reading = tuple(Lock() for _ in range(32))


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a post: a status or a word, its duration, and the seconds that the subscriber asks to wait."""

    verdict: Literal["delivered", "failed", "gone", "lost"]
    result: str
    seconds: float = 0.0
    wait: int = 0

    @property
    def pause(self) -> int:
        """The seconds for which the subscriber asks to get no posts at all."""
        return self.wait if self.result == str(HTTPStatus.TOO_MANY_REQUESTS.value) else 0


def read_event(storage: Storage, id: str) -> Stored | str:
    """Return the row of an event and its envelope, or the reason why it cannot be posted."""
    # Many subscribers ask for an event at once, so one read serves all for some seconds. Later it may have been erased.
    with _reading[hash(id) % len(_reading)]:
        return _read_event(storage, id, int(time.monotonic() / MEMORY_SECONDS))


@lru_cache(maxsize=256)
def _read_event(storage: Storage, id: str, _moment: int) -> Stored | str:
    row = store.get(storage, id)
    if row is None:
        return "the event is gone"
    try:
        return row, row_envelope(storage, row)
    except Unprocessable as error:
        return str(error)


def send_event(bridge: Bridge, subscription: Subscription, event: Stored) -> Outcome:
    """
    Post an event to a subscriber, signed with today's secrets.

    The body is the PBX's own form, or CloudEvents 1.0 in structured mode if the subscriber asked for that.
    """
    row, envelope = event
    content_type, body = "application/json", envelope
    if subscription.shape == "cloudevents":
        content_type = "application/cloudevents+json"
        body = {
            "specversion": "1.0",
            "id": row["id"],
            "source": bridge.settings.public_base_url or "/api/v2",
            "type": f"{_TYPE}.{row['type']}",
            "time": iso(row["happened"]),
            "datacontenttype": "application/json",
            "data": envelope["data"],
        }
        if subject := next((name for name in _SUBJECTS if name in row), None):
            body["subject"] = f"{subject}/{rows.value_of(row[subject])}"
    sent = encode(body)
    headers = subscription.signed(row["id"], int(time.time()), sent)
    headers |= {"Content-Type": content_type, "User-Agent": "pbx-azure-bridge"}
    return post(subscription.endpoint, sent, headers, allow_loopback=bridge.settings.allow_loopback_callbacks)


def post(
    url: str, body: bytes, headers: Mapping[str, str], *, allow_loopback: bool, seconds: float = TOTAL_SECONDS
) -> Outcome:
    """
    Post a body without following redirects; `seconds` include connecting and reading the answer.

    Raises nothing for failures of the other side. The text of the outcome never contains the address.
    """
    import requests

    start = time.monotonic()
    try:
        session = _session(allow_loopback=allow_loopback)
        request = session.prepare_request(requests.Request("POST", url, data=body, headers=dict(headers)))
        timeout = (min(CONNECT_SECONDS, seconds), seconds)
        with (
            ending_by(start + seconds),
            session.send(request, timeout=timeout, stream=True, allow_redirects=False) as response,
        ):
            _finish(response)
            status, asked = int(response.status_code), response.headers.get("Retry-After")
    except AddressRefused:
        word = "address refused"
    except requests.exceptions.SSLError:
        word = "no trusted TLS"
    except (requests.exceptions.Timeout, TimeoutError):
        word = "timeout"
    except (requests.RequestException, OSError):
        word = "out of reach"
    except ValueError:
        word = "not an answer"
    else:
        seconds = time.monotonic() - start
        if 200 <= status < 300:
            return Outcome("delivered", str(status), seconds)
        is_gone = status == HTTPStatus.GONE or (status == HTTPStatus.NOT_FOUND and is_workflow_host(url))
        return Outcome("gone" if is_gone else "failed", str(status), seconds, retry_after(asked) or 0)
    return Outcome("failed", word, time.monotonic() - start)


def _finish(response: Any) -> None:
    """Read a short answer to its end, so that its connection is used again; cut off a long or slow answer."""
    import urllib3

    left = LONGEST_ANSWER
    try:
        while left and (part := response.raw.read1(left)):
            left -= len(part)
    except (urllib3.exceptions.HTTPError, OSError):
        # The status has decided about the delivery already.
        left = 0
    if not left:
        response.raw.close()
