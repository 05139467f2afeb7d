"""One month of history: handed over a part at a time, and dropped alone."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from shared.api.feed import as_item
from shared.calls.expiry import calls_between
from shared.errors import Invalid
from shared.events.store import feed_bounds, feed_page
from shared.json_bodies import encode
from shared.media.table import MEDIA
from shared.privacy.retention import RUN_SECONDS, Report, expire
from shared.storage.account import reaching_storage
from shared.storage.expiry import Period, note_dropped
from shared.times import iso, now

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from shared.bridge import Bridge
    from shared.storage.account import Storage

_MONTH = re.compile(r"(?!0000)[0-9]{4}-(?:0[1-9]|1[0-2])")
_PART = 500
_WRONG = Invalid({"continuation": "what the last part's header said is expected"})


def export(storage: Storage, month: str, continuation: str = "") -> tuple[bytes, str]:
    """
    A part of a month as JSON Lines, and how to ask for the next one; empty after the last.

    First come the events that came in that month (`{"kind": "event", …}`, as in the feed, newest first), then the calls
    that began in it (`"call"`: their row of table `calls`), then the names of its audio (`"audio"`: container, blob).

    Raises Invalid.
    """
    period = period_of(month)
    kind, _, after = (continuation or "event ").partition(" ")
    parts = {"event": _events, "call": _calls, "audio": _audio}
    if kind not in parts:
        raise _WRONG
    with reaching_storage():
        lines, follows = parts[kind](storage, period, after)
    body = b"".join(encode({"kind": kind, **line}) + b"\n" for line in lines)
    if follows is not None:
        return body, f"{kind} {follows}"
    kinds = list(parts)
    return body, f"{kinds[kinds.index(kind) + 1]} " if kind != kinds[-1] else ""


def drop(bridge: Bridge, month: str, *, dry: bool, seconds: float = RUN_SECONDS) -> Report:
    """
    Delete the rows of one month that is over, as retention does; called again until `complete`.

    What the PBX's lists still have of it is not taken in again. Its audio stays: rules of the storage account and
    whoever may delete blobs see to that. Raises Invalid.
    """
    period = period_of(month)
    if period.last > now():
        raise Invalid({"month": "a month that is over is expected"})
    if not dry:
        # First: a sweep that runs meanwhile brings nothing of it back.
        with reaching_storage():
            note_dropped(bridge.storage, month)
    return expire(bridge.storage, period, dry=dry, seconds=seconds)


def period_of(month: str) -> Period:
    """The month that `yyyy-mm` means; raises Invalid."""
    if not _MONTH.fullmatch(month) or month < "1970" or month > "9998":
        raise Invalid({"month": "a month is expected, such as 2026-01"})
    first = datetime(int(month[:4]), int(month[5:]), 1, tzinfo=UTC)
    return Period(first, (first + timedelta(days=31)).replace(day=1))


def _events(storage: Storage, period: Period, after: str) -> tuple[Iterator[dict[str, Any]], str | None]:
    conditions = feed_bounds(period.first, period.last)
    # What came in at the very end belongs to the next month.
    conditions.append(f"received lt datetime'{iso(period.last)}'")
    found, follows = feed_page(storage, conditions, _checked(after), _PART)
    return (as_item(storage, row) for row in found), follows


def _calls(storage: Storage, period: Period, after: str) -> tuple[Iterator[dict[str, Any]], str | None]:
    found, follows = calls_between(storage, period, _token(after), _PART)
    return map(_call, found), json.dumps(follows) if follows else None


def _call(row: Mapping[str, Any]) -> dict[str, Any]:
    named = {name: getattr(value, "value", value) for name, value in row.items() if not isinstance(value, bytes)}
    hidden = ("PartitionKey", "RowKey", "v", "writer")
    return {name: iso(one) if isinstance(one, datetime) else one for name, one in named.items() if name not in hidden}


def _audio(storage: Storage, period: Period, after: str) -> tuple[Iterator[dict[str, Any]], str | None]:
    first, names = period.first or period.last, [media.container for media in MEDIA]
    container, _, token = (after or names[0]).partition(" ")
    if container not in names:
        raise _WRONG
    listed = storage.container(container).list_blob_names(name_starts_with=f"{first:%Y/%m}/", results_per_page=_PART)
    pages: Any = listed.by_page(token or None)
    found = [{"container": container, "blob": name} for name in next(pages, ())]
    if pages.continuation_token:
        return iter(found), f"{container} {pages.continuation_token}"
    return iter(found), next(iter(names[names.index(container) + 1 :]), None)


def _checked(after: str) -> str | None:
    if after and not re.fullmatch(r"[0-9]{16}-[A-Za-z0-9_.-]{1,200}", after) and _token(after) is None:
        raise _WRONG
    return after or None


def _token(after: str) -> dict[str, Any] | None:
    """Where the table service stopped."""
    if not after:
        return None
    try:
        token = json.loads(after)
    except ValueError:
        raise _WRONG from None
    keys = {"PartitionKey", "RowKey"}
    if not isinstance(token, dict) or token.keys() != keys or not isinstance(token["PartitionKey"], str):
        raise _WRONG
    if not isinstance(token["RowKey"], str | None):
        raise _WRONG
    return token
