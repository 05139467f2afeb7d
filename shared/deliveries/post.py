"""One event to one subscriber: read, signed and posted; where it may go, for how long, and what the answer means."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import lru_cache
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Literal

from shared.deliveries.formats import shaped
from shared.errors import Unprocessable
from shared.events import store
from shared.events.event import row_envelope
from shared.http import AddressRefused, ending_by, guarded_session, retry_after
from shared.once import once
from shared.subscriptions import signatures
from shared.subscriptions.endpoints import check_endpoint, is_workflow_host

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shared.bridge import Bridge
    from shared.storage.account import Storage
    from shared.subscriptions.subscription import Subscription

CONNECT_SECONDS = 5
TOTAL_SECONDS = 20
LONGEST_ANSWER = 4096
_session = once(guarded_session)

Stored = tuple["Mapping[str, Any]", "Mapping[str, Any]"]
Verdict = Literal["delivered", "failed", "gone", "lost"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a post: a status or a word, how long it took, and the seconds that the subscriber asks to wait."""

    verdict: Verdict
    result: str
    seconds: float
    wait: int = 0


def send_event(bridge: Bridge, one: Subscription, event: Stored) -> Outcome:
    """What came of posting an event."""
    if not one.readable:
        return Outcome("failed", "unreadable", 0.0)
    row, envelope = event
    content_type, body = shaped(bridge.settings, one.shape, row, envelope)
    stamp = int(time.time())
    headers = signatures.headers(one.signing(stamp), row["id"], stamp, body)
    headers |= {"Content-Type": content_type, "User-Agent": "pbx-azure-bridge"}
    return post(one.endpoint, body, headers, allow_loopback=bridge.settings.allow_loopback_callbacks)


@lru_cache(maxsize=128)
def read_event(storage: Storage, id: str) -> Stored:
    """The row of an event, and its envelope; raises Unprocessable when it is gone, or StorageUnavailable."""
    row = store.get(storage, id)
    if row is None:
        raise Unprocessable("the event is gone")
    return row, row_envelope(storage, row)


def post(
    url: str, body: bytes, headers: Mapping[str, str], *, allow_loopback: bool, seconds: float = TOTAL_SECONDS
) -> Outcome:
    """
    Post a body; nothing is followed, and `seconds` are all it gets, answer included.

    Nothing is raised for what the other side does. No text of the outcome holds the address.
    """
    import requests

    start = time.monotonic()
    try:
        _check_plain(url, allow_loopback=allow_loopback)
        session: requests.Session = _session(allow_loopback=allow_loopback)
        request = session.prepare_request(requests.Request("POST", url, data=body, headers=dict(headers)))
        timeout = (min(CONNECT_SECONDS, seconds), seconds)
        with (
            ending_by(start + seconds),
            session.send(request, timeout=timeout, stream=True, allow_redirects=False) as response,
        ):
            _finish(response)
            return _judged(url, response, time.monotonic() - start)
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
    return Outcome("failed", word, time.monotonic() - start)


def _check_plain(url: str, *, allow_loopback: bool) -> None:
    """Raises AddressRefused for plain http that leads anywhere but to this machine, also where it led here before."""
    if url.lower().startswith("http:"):
        try:
            check_endpoint(url, allow_loopback=allow_loopback)
        except ValueError:
            raise AddressRefused("plain http") from None


def _finish(response: Any) -> None:
    """Read a short answer to its end, so that the connection can serve again; one that is long or slow is cut off."""
    import urllib3

    left = LONGEST_ANSWER
    try:
        while left and (part := response.raw.read1(left)):
            left -= len(part)
        if not left:
            response.raw.close()
    except (urllib3.exceptions.HTTPError, OSError):
        # The status says what became of the delivery.
        response.raw.close()


def _judged(url: str, response: Any, seconds: float) -> Outcome:
    status = int(response.status_code)
    result = str(status)
    if 200 <= status < 300:
        return Outcome("delivered", result, seconds)
    if status == HTTPStatus.GONE or (status == HTTPStatus.NOT_FOUND and is_workflow_host(url)):
        return Outcome("gone", result, seconds)
    return Outcome("failed", result, seconds, retry_after(response.headers.get("Retry-After")) or 0)
