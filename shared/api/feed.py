"""The feed: what happened, newest first, for those who would rather read than be called."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shared import people
from shared.api.continuations import CONTINUATION, continuation, start_of
from shared.api.envelopes import succeeded
from shared.api.operations import GET_EVENTS
from shared.api.parameters import Request, check
from shared.errors import Unprocessable
from shared.events import store
from shared.events.event import IDENTIFIERS, row_envelope
from shared.storage.account import reaching_storage
from shared.storage.rows import value_of
from shared.times import iso

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shared.bridge import Bridge
    from shared.storage.account import Storage

DEFAULT_LIMIT = 50
# Pages of a subject's events that one request reads where a filter lets few of them through.
_ROUNDS = 4


def read(bridge: Bridge, given: Request) -> dict[str, Any]:
    """
    Return a page of the feed, newest first, as an envelope with `continuation` beside `data`: null at the end.

    A page may be short, or empty, with a continuation: then there is more to look at. Raises Invalid, or
    StorageUnavailable.
    """
    values = check(GET_EVENTS, given, also=(CONTINUATION,))
    limit = values.pop("limit", DEFAULT_LIMIT)
    with reaching_storage():
        start = start_of(bridge.storage, GET_EVENTS.id, values, given.query.get(CONTINUATION))
        rows, follows = _page(bridge, values, start, limit)
        items = [as_item(bridge.storage, row) for row in rows]
        return succeeded(items) | {CONTINUATION: continuation(bridge.storage, GET_EVENTS.id, values, follows)}


def _page(
    bridge: Bridge, values: Mapping[str, Any], start: str | None, limit: int
) -> tuple[list[Mapping[str, Any]], str | None]:
    storage, region = bridge.storage, bridge.settings.default_region
    between = (values.get("date_from"), values.get("date_to"))
    number = people.number(values["number"], region) if "number" in values else None
    # Of a call there are fewer events than of a number.
    subject = people.call(values["call_id"]) if "call_id" in values else number
    if subject is None:
        of_type = [f"type eq '{values['type']}'"] if "type" in values else []
        return store.feed_page(storage, store.feed_bounds(*between) + of_type, start, limit)
    found: list[Mapping[str, Any]] = []
    for _ in range(_ROUNDS):
        rows, start = store.of_subject(storage, subject, limit, first=between[0], last=between[1], start=start)
        found += [row for row in rows if _fits(row, values.get("type"), number, region)]
        if start is None or len(found) >= limit:
            break
    if len(found) > limit:
        start = store.place(found[limit])
    return found[:limit], start


def _fits(row: Mapping[str, Any], type: str | None, number: str | None, region: str) -> bool:
    if type is not None and row["type"] != type:
        return False
    numbers = (row.get("caller"), row.get("destination"))
    return number is None or any(people.number(one, region) == number for one in numbers if one)


def as_item(storage: Storage, row: Mapping[str, Any]) -> dict[str, Any]:
    """Return an event of the feed as it is listed; one whose body's blob is gone has `bodyMissing` in place of it."""
    item: dict[str, Any] = {"id": row["id"], "type": row["type"], "version": None}
    item |= {"origin": row["origin"], "received": iso(row["received"]), "happened": iso(row["happened"])}
    item |= {name: value_of(row[name]) for name in IDENTIFIERS if name in row}
    try:
        envelope = row_envelope(storage, row)
    except Unprocessable:
        return item | {"data": {}, "bodyMissing": True}
    version = envelope.get("version")
    item["version"] = str(version) if isinstance(version, str | int | float) else None
    return item | {"data": envelope["data"]}
