"""The feed: what happened, newest first, for those who would rather read than be called."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shared import people
from shared.api.envelopes import paged
from shared.api.parameters import fits
from shared.errors import Unprocessable
from shared.events import store
from shared.events.event import IDENTIFIERS, row_envelope
from shared.storage.rows import value_of
from shared.times import iso

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shared.api.parameters import Request
    from shared.bridge import Bridge
    from shared.pbx.operations import Operation
    from shared.storage.account import Storage

    Item = dict[str, Any]

# Pages of a subject's events that one request reads where a filter lets few of them through.
_ROUNDS = 4


def read(bridge: Bridge, row: Operation, given: Request) -> dict[str, Any]:
    """Return a page of the feed, newest first; raises Refused, or StorageUnavailable."""
    return paged(bridge, row, given, found)


def found(
    bridge: Bridge, values: Mapping[str, Any], limit: int, start: str | None = None
) -> tuple[list[Item], str | None]:
    """Return events that fit, newest first, at most `limit`, from a start on, and the start of the next page."""
    storage, first, last = bridge.storage, values.get("date_from"), values.get("date_to")
    # Of a call there are fewer events than of a number.
    if "call_id" in values:
        subject = people.call(values["call_id"])
    elif "number" in values:
        subject = people.number(values["number"], bridge.settings.default_region)
    else:
        of_type = [f"type eq '{values['type']}'"] if "type" in values else []
        page, start = store.feed_page(storage, store.feed_bounds(first, last) + of_type, start, limit)
        return [as_item(storage, row) for row in page], start
    wanted = {name: values[name] for name in ("type", "number") if name in values}
    fitting: list[Mapping[str, Any]] = []
    for _ in range(_ROUNDS):
        rows, start = store.of_subject(storage, subject, limit, first=first, last=last, start=start)
        fitting += [row for row in rows if fits(bridge, row, wanted)]
        if start is None or len(fitting) >= limit:
            break
    if len(fitting) > limit:
        start = store.place(fitting[limit])
    return [as_item(storage, row) for row in fitting[:limit]], start


def as_item(storage: Storage, row: Mapping[str, Any]) -> Item:
    """Return an event of the feed as it is listed; one whose body's blob is gone has `bodyMissing` in place of it."""
    item: Item = {"id": row["id"], "type": row["type"], "version": None}
    item |= {"origin": row["origin"], "received": iso(row["received"]), "happened": iso(row["happened"])}
    item |= {name: value_of(row[name]) for name in IDENTIFIERS if name in row}
    try:
        envelope = row_envelope(storage, row)
    except Unprocessable:
        return item | {"data": {}, "bodyMissing": True}
    version = envelope.get("version")
    item["version"] = str(version) if isinstance(version, str | int | float) else None
    return item | {"data": envelope["data"]}
