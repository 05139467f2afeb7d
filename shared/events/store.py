"""Tables `events`, one row an event by its id, and `feed`, the same rows newest first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from shared import people
from shared.events.event import ReceivedEvent
from shared.people import Pointer
from shared.storage import rows
from shared.storage.account import Storage
from shared.storage.rows import Allowance, Period, Row, delete_keys, expire_rows
from shared.times import newest_first

if TYPE_CHECKING:
    from shared.bridge import Bridge

TABLE = "events"
PARTITION = "event"
FEED = "feed"
# Columns of table `events` that only the processor reads.
_OF_EVENTS = ("message", "done")
_NUMBERS = ("caller", "callerid", "sender", "destination", "number", "current_callerid")
_EMPLOYEES = ("contactID", "previous_contactID", "employee_id")


def insert(storage: Storage, row: Mapping[str, Any], mark: str) -> bool:
    """Insert an event's row with the mark of its message; return True for exactly one of several callers."""
    return rows.insert(storage.table(TABLE), {**row, "PartitionKey": PARTITION, "RowKey": row["id"], "message": mark})


def get(storage: Storage, id: str, select: Sequence[str] | None = None) -> Row | None:
    """Return the row of an event, or None."""
    return rows.get(storage.table(TABLE), PARTITION, id, select)


def update(storage: Storage, id: str, columns: Mapping[str, Any]) -> None:
    """Set columns of an event's row, unless it is gone."""
    rows.update(storage.table(TABLE), {**columns, "PartitionKey": PARTITION, "RowKey": id})


def pointers(event: ReceivedEvent, region: str) -> set[tuple[str, Pointer]]:
    """Return the pointers to an event: from each number and employee in it, from its call, and from LOOSE."""
    subjects = people.loose({**event.envelope, **event.envelope["data"]}, event.drift, region) & {people.LOOSE}
    for name, value in event.data.items():
        if name in _NUMBERS and isinstance(value, str):
            subjects.add(people.number(value, region))
        elif name in _EMPLOYEES:
            subjects.add(people.employee(value))
        elif name == "callID":
            subjects.add(people.call(value))
    # Nobody asks for the events of all withheld numbers.
    subjects.discard(people.number(None, region))
    pointer = Pointer("event", event.id, event.received)
    return {(subject, pointer) for subject in subjects}


def publish(bridge: Bridge, event: ReceivedEvent) -> None:
    """Copy an event's row of table `events` to its place in the feed; twice is harmless."""
    entry = {name: value for name, value in event.row.items() if name not in _OF_EVENTS}
    rows.put(bridge.storage.table(FEED), entry | {"PartitionKey": FEED, "RowKey": place(event.row)})


def place(row: Mapping[str, Any]) -> str:
    """Return the key of an event in the feed, which is the `Pointer.place` of its pointers too."""
    return Pointer("event", row["id"], row["received"]).place


def feed_page(
    storage: Storage,
    limit: int,
    *,
    first: datetime | None = None,
    last: datetime | None = None,
    start: str | None = None,
    where: str = "",
) -> tuple[list[Mapping[str, Any]], str | None]:
    """
    Return rows of the feed, newest first, and where the next page starts; see `rows.page`.

    The events arrived between two times, both included. `where` is a further condition.
    """
    low = f"RowKey ge '{newest_first(last)}'" if last else ""
    # The hyphen and the id after a position sort below the tilde.
    high = f"RowKey lt '{newest_first(first)}~'" if first else ""
    query = " and ".join(filter(None, (f"PartitionKey eq '{FEED}'", low, high, where)))
    return rows.page(storage.table(FEED), query, start, limit)


def of_subject(
    storage: Storage,
    subject: str,
    limit: int,
    *,
    first: datetime | None = None,
    last: datetime | None = None,
    start: str | None = None,
) -> tuple[list[Mapping[str, Any]], str | None]:
    """Return a subject's rows of the feed, newest first, and where the next page starts."""
    pointed = people.find(storage, subject, ["event"], limit=limit + 1, first=first, last=last, start=start)
    wanted = [(pointer.place, pointer.moment) for pointer in pointed[:limit]]
    by_key = people.rows_of(storage.table(FEED), FEED, wanted)
    follows = pointed[limit].place if len(pointed) > limit else None
    return [by_key[key] for key, _ in wanted if key in by_key], follows


def expire(storage: Storage, period: Period, allowance: Allowance) -> int:
    """
    Delete the events whose call began, or which arrived without a call, within a period.

    The row in the feed goes last: after a death in between, the next run finds it there.
    """

    def delete(found: Sequence[Any]) -> None:
        delete_keys(storage.table(TABLE), [{"PartitionKey": PARTITION, "RowKey": row["id"]} for row in found])
        delete_keys(storage.table(FEED), found)

    query = f"PartitionKey eq '{FEED}' and {period.condition('began')}"
    return expire_rows(storage.table(FEED), query, allowance, select=["id"], by=delete)
