"""Ten years of history in all tables, with rows that retention deletes and rows that it keeps."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from dev.stored import put as put_items
from shared import people
from shared.calls.store import Calls
from shared.deliveries.outbox import EPOCH, MARKER, Place
from shared.deliveries.outbox import TABLE as DELIVERIES
from shared.events import store
from shared.events.event import ReceivedEvent, row_of
from shared.items.store import ARRIVAL
from shared.storage.account import Storage
from shared.times import iso
from tests.events import received

FIRST = datetime(2016, 1, 15, 12, tzinfo=UTC)
NOW = datetime(2026, 1, 1, 3, tzinfo=UTC)
TEN_YEARS = 120
ITEMS = (("call_history", "callID"), ("call_records", "recordingID"), ("voicemails", "voicemailID"))
# Tables without history.
CURRENT = {"board", "checkpoints", "webhooks", "budget", "subscriptions", "forgotten"}


def month(number: int) -> datetime:
    years, months = divmod(number, 12)
    return FIRST.replace(year=FIRST.year + years, month=months + 1)


def call_id(number: int) -> int:
    return int(month(number).timestamp()) * 1_000_000


def item(number: int) -> dict[str, Any]:
    numbers = {"caller": f"2777{number:04d}", "sender": f"2777{number:04d}", "destination": "67000123"}
    ids = {"callID": call_id(number), "recordingID": 1000 + number, "voicemailID": 5000 + number, "contactID": 966}
    return numbers | ids | {"callStarted": iso(month(number))}


def happened(number: int) -> ReceivedEvent:
    return received("CallStarted", at=month(number), **item(number))


def fill(storage: Storage, numbers: range) -> None:
    """Write one or more rows a month into every table of history, with their old times, and rows of current data."""
    storage.ready()
    made: dict[tuple[str, str], list[dict[str, Any]]] = {}

    def put(table: str, partition: str, key: str, **columns: Any) -> None:
        row = {"PartitionKey": partition, "RowKey": key, **columns}
        made.setdefault((table, partition), []).append(row)

    for number in numbers:
        moment, event = month(number), happened(number)
        row = row_of(storage, event)
        put("events", "event", event.id, **row)
        put("feed", "feed", store.place(row), **row)
        place = Place.of(moment, event.id)
        put(DELIVERIES, "subscriber", f"{MARKER}{event.id}", at=moment)
        put("ended", "call", f"{int(moment.timestamp()) * 1_000_000:016d}-{number}", at=moment)
        waits = {"event": event.id, "marker": place.marker, "tries": 0, "first": EPOCH, "due": EPOCH}
        put(DELIVERIES, "subscriber", place.key, at=moment, **waits)
        put("dials", "ab", f"ab{number}", until=moment)
        put("media", "voicemail", f"{number:020d}", at=moment)
        put("deadletters", "event", f"e{number}", last=moment)
        put("audit", "audit", f"{number:04d}", at=moment)
        put("health", "day", iso(moment)[:10])
        put("lostcallers", "lost", f"closed{number}", open=False, at=moment)
        put("lostcallers", "lost", f"open{number}", open=True, at=moment)
        for name, _ in ITEMS:
            put("resources", name, f"{ARRIVAL}{int(moment.timestamp()) * 1_000_000:020d}", ids="[1]")
    put("dials", "limit", "rings", until=FIRST)
    for (table, _), found in made.items():
        for start in range(0, len(found), 100):
            storage.table(table).submit_transaction([("upsert", row) for row in found[start : start + 100]])
    for name in (*(name for name, _ in ITEMS), "contacts"):
        put_items(storage, name, *map(item, numbers), moment=NOW, arrives=False)
    stories = Calls(storage, "LV")
    for number in numbers:
        stories.merge(call_id(number), happened(number))


def months_of(storage: Storage) -> dict[str, set[str]]:
    """Return the months that have rows, by kind of history."""
    found: dict[str, set[str]] = {}

    def add(name: str, text: str) -> None:
        found.setdefault(name, set()).add(text[:7])

    ids = {happened(n).id: iso(month(n)) for n in range(TEN_YEARS)}
    for table in ("events", "feed"):
        for row in storage.table(table).list_entities():
            add(table, iso(row["received"]))
    for row in storage.table("calls").list_entities():
        add("calls", iso(row["started"]))
    for row in storage.table("numbers").query_entities(f"PartitionKey eq '{people.PARTITION}'"):
        add("numbers", iso(row["moment"]))
    for row in storage.table("resources").list_entities():
        key, partition = row["RowKey"], row["PartitionKey"]
        if key.startswith(ARRIVAL):
            add("arrivals", iso(datetime.fromtimestamp(int(key[1:]) / 1_000_000, UTC)))
        elif key.isdecimal() and partition != "contacts":
            add(partition, iso(row["began"]))
    for row in storage.table(DELIVERIES).list_entities():
        add(row["RowKey"][:5], ids[row["RowKey"].rpartition("-")[2]])
    for name, column in (
        ("dials", "until"),
        ("media", "at"),
        ("deadletters", "last"),
        ("audit", "at"),
        ("ended", "at"),
    ):
        for row in storage.table(name).query_entities("PartitionKey ne 'limit'"):
            add(name, iso(row[column]))
    # Rows with counts are of the items that were put here, today.
    found["health"] = {row["RowKey"][:7] for row in storage.table("health").list_entities() if "came" not in row}
    for row in storage.table("lostcallers").list_entities():
        add("lostcallers", iso(row["at"]))
    return found
