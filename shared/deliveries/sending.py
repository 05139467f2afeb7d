"""One event to one subscriber: read, put into its form, signed and posted."""

from __future__ import annotations

import time
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from shared.deliveries.formats import shaped
from shared.deliveries.post import Outcome, post
from shared.errors import Unprocessable
from shared.events import store
from shared.events.event import row_envelope
from shared.subscriptions import signatures

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shared.bridge import Bridge
    from shared.storage.account import Storage
    from shared.subscriptions.subscription import Subscription

_BODIES = 128
Stored = tuple["Mapping[str, Any]", "Mapping[str, Any]"]


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


@lru_cache(maxsize=_BODIES)
def read_event(storage: Storage, id: str) -> Stored:
    """The row of an event, and its envelope; raises Unprocessable when it is gone, or StorageUnavailable."""
    row = store.get(storage, id)
    if row is None:
        raise Unprocessable("the event is gone")
    return row, row_envelope(storage, row)
