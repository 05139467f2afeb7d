"""Finds all that storage holds about a phone number, by the index and by scans, and erases it."""

from __future__ import annotations

import json
import re
import unicodedata
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from shared import audit, people
from shared.bridge import Bridge
from shared.calls import lost_callers
from shared.errors import BridgeError, Invalid, Unprocessable
from shared.events.store import PARTITION as EVENT
from shared.media.blobs import MEDIA
from shared.pbx.resources import RESOURCES as LISTS
from shared.people import Pointer
from shared.storage.account import POISON, QUEUES, Storage
from shared.storage.messages import PAYLOADS, delete_payload, delete_versions, get_payload, parse, read
from shared.storage.rows import delete_keys, descending, get, value_of
from shared.subscriptions import subscriptions
from shared.times import event_time, iso
from shared.values import cleaned, e164

if TYPE_CHECKING:
    from azure.storage.queue import QueueClient, QueueMessage

Row = Mapping[str, Any]
# A row's table, partition key and row key.
Place = tuple[str, str, str]

EXPORTS = "exports"
# By kind of pointer: the resource of its item, the column with its id, the container of its audio.
RESOURCES: Mapping[str, str] = {"call": "call_history"} | {media.name: media.resource for media in MEDIA}
_IDS = {"call": "callID"} | {media.name: media.id for media in MEDIA}
_CONTAINERS = {media.name: media.container for media in MEDIA}
# Partitions that are searched as a whole: dead letters and the PBX's current lists are not in the index.
_SCANNED = (("deadletters", "ne ''"), *(("resources", f"eq '{row.name}'") for row in LISTS if row.editable))
# The kinds of rows in a receipt, by table or resource; all other rows are `others`.
_NAMES = {"calls": "calls", "feed": "events", "lostcallers": "lostCallers", "dials": "dials"}
_NAMES |= {"deadletters": "deadLetters", **dict.fromkeys(RESOURCES.values(), "items")}
_SEPARATORS = r"[\s().\-/]*"
_ESCAPED = re.compile(r"\\u([0-9a-fA-F]{4})")
_FEWEST_DIGITS = 6
_AT_ONCE = 8
_BATCH = 200
_HIDDEN_SECONDS = 30
_PEEK = 32
_IMMUTABLE = 409


class Spellings:
    """The spellings of a phone number: with and without country code, separators and invisible characters."""

    def __init__(self, number: str, region: str) -> None:
        import phonenumbers

        full = e164(number, region)
        digits = (full or "+" + re.sub("[^0-9]", "", cleaned(number)))[1:]
        if len(digits) < _FEWEST_DIGITS:
            raise Invalid({"number": f"a phone number of at least {_FEWEST_DIGITS} digits is expected"})
        self.number = full or number
        code = str(phonenumbers.parse(full).country_code) if full else ""
        before = ""
        if code:
            before = rf"(?:(?:00|\+)?{_SEPARATORS}{_SEPARATORS.join(code)}{_SEPARATORS}(?:\(0\))?{_SEPARATORS})"
            # A number of another country always has its country code.
            before += "?0?" if code == str(phonenumbers.country_code_for_region(region)) else ""
        self._pattern = re.compile(rf"(?<![0-9]){before}{_SEPARATORS.join(digits[len(code) :])}(?![0-9])")

    def are_in(self, text: str) -> bool:
        """Return True if a text contains the number."""
        text = _ESCAPED.sub(lambda match: chr(int(match[1], 16)), text)
        text = unicodedata.normalize("NFKC", text)
        visible = "".join(character for character in text if unicodedata.category(character) != "Cf")
        return self._pattern.search(visible) is not None

    def are_in_row(self, storage: Storage, row: Row) -> bool:
        """Return True if a column of a row contains the number, compressed columns and its payload included."""
        return any(self.are_in(text) for text in _texts(storage, row))


def _texts(storage: Storage, row: Row) -> Iterator[str]:
    for name, value in row.items():
        if isinstance(value, bytes):
            with suppress(zlib.error):
                yield zlib.decompress(value).decode(errors="replace")
        elif name == "payload" and value:
            with suppress(BridgeError):
                yield get_payload(storage, str(value)).decode(errors="replace")
        elif name not in ("PartitionKey", "RowKey", "writer"):
            yield str(value_of(value))


@dataclass
class Holdings:
    """Stored data of a number: rows; calls and audio by kind and id; blobs without extension; pointers to all."""

    storage: Storage
    rows: dict[Place, Row] = field(default_factory=dict)
    things: set[tuple[str, int]] = field(default_factory=set)
    stems: set[tuple[str, str]] = field(default_factory=set)
    pointers: list[tuple[str, Pointer]] = field(default_factory=list)

    def add(self, table: str, row: Row) -> None:
        """Add a row, and the calls and audio that it refers to."""
        self.rows[table, row["PartitionKey"], row["RowKey"]] = row
        for kind, column in _IDS.items():
            if (id := value_of(row.get(column))) is not None:
                self.things.add((kind, int(id)))
        for kind in _CONTAINERS:
            self.things |= {(kind, int(id)) for id in json.loads(row.get(f"{kind}s") or "[]")}
        if str(row.get("type", "")).endswith("Stored") and "body" in row:
            data = json.loads(row["body"]).get("data", {})
            self._add_blob(str(data.get("container")), str(data.get("blobName")))
        if table == "media" and row.get("blob"):
            self._add_blob("voicemails", row["blob"])

    def _add_blob(self, container: str, name: str) -> None:
        """Add the stem of a blob with audio, which all copies of the same audio share."""
        day, _, file = name.rpartition("/")
        if container in _CONTAINERS.values() and day:
            self.stems.add((container, f"{day}/{file.partition('.')[0]}."))

    def follow(self, pointers: Sequence[tuple[str, Pointer]]) -> None:
        """Add the rows and audio that pointers of subjects lead to."""
        self.pointers += pointers
        for _, pointer in pointers:
            if pointer.kind in _IDS:
                self.things.add((pointer.kind, int(pointer.id)))
            if pointer.kind in _CONTAINERS:
                self._add_blob(_CONTAINERS[pointer.kind], f"{pointer.moment:%Y/%m/%d}/{pointer.id}")
        self._add_rows(place for _, pointer in pointers for place in _places(pointer.kind, pointer.id, pointer.place))

    def complete(self) -> Holdings:
        """Add all other rows of the calls and audio, such as those of the other party; return self."""
        known = set[tuple[str, int]]()
        while new := sorted(self.things - known):
            known.update(new)
            calls = [people.call(id) for kind, id in new if kind == "call"]
            with ThreadPoolExecutor(_AT_ONCE) as pool:
                events = list(pool.map(lambda call: people.find(self.storage, call, ["event"]), calls))
            self.follow([(call, pointer) for call, part in zip(calls, events, strict=True) for pointer in part])
            self._add_rows(place for kind, id in new for place in _places(kind, str(id)))
        return self

    def _add_rows(self, places: Iterable[Place]) -> None:
        for (table, *_), row in _read(self.storage, [place for place in places if place not in self.rows]):
            self.add(table, row)


def pointed(storage: Storage, spellings: Spellings, region: str, until: datetime) -> Iterator[Holdings]:
    """Yield the holdings until a time that the index has for the number, two hundred pointers at a time."""
    subject = people.number(spellings.number, region)
    pointers = people.find(storage, subject, last=until)
    for start in range(0, len(pointers), _BATCH):
        holdings = Holdings(storage)
        holdings.follow([(subject, pointer) for pointer in pointers[start : start + _BATCH]])
        yield holdings.complete()


def scanned(storage: Storage, spellings: Spellings, until: datetime) -> Holdings:
    """Return the holdings until a time that the index cannot find by number, by searching their rows for it."""
    holdings = Holdings(storage)
    for table, partition in _SCANNED:
        for row in storage.table(table).query_entities(f"PartitionKey {partition}"):
            if row.get("first", until) <= until and spellings.are_in_row(storage, row):
                holdings.add(table, row)
    loose = people.find(storage, people.LOOSE)
    pointers = {place: pointer for pointer in loose for place in _places(pointer.kind, pointer.id, pointer.place)}
    for place, indexed in _read(storage, pointers):
        if indexed.get("began", until) <= until and spellings.are_in_row(storage, indexed):
            holdings.add(place[0], indexed)
            holdings.pointers.append((people.LOOSE, pointers[place]))
    return holdings.complete()


def _places(kind: str, id: str, position: str = "") -> list[Place]:
    """Return the places of the rows that a pointer leads to; `position` is the row key of an event."""
    item = [("resources", RESOURCES[kind], descending(int(id)))] if kind in RESOURCES else []
    match kind:
        case "call":
            return [*item, ("calls", "call", descending(int(id)))]
        case "voicemail":
            return [*item, ("media", kind, descending(int(id)))]
        case "event":
            return [("feed", "feed", position)]
        case "lost":
            return [("lostcallers", "lost", id)]
        case "dial":
            return [("dials", id[:2], id)]
    return item


def _read(storage: Storage, places: Iterable[Place]) -> Iterator[tuple[Place, Row]]:
    """Yield the rows that exist at these places, read two hundred at a time."""
    wanted = list(dict.fromkeys(places))
    for start in range(0, len(wanted), _BATCH):
        part = wanted[start : start + _BATCH]
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            rows = list(pool.map(lambda place: get(storage.table(place[0]), *place[1:]), part))
        yield from ((place, row) for place, row in zip(part, rows, strict=True) if row is not None)


def plain(row: Row) -> dict[str, Any]:
    """Return a row's columns as JSON values, without keys and the app's own columns."""
    hidden = ("PartitionKey", "RowKey", "writer", "v")
    values = {name: value_of(raw) for name, raw in row.items() if name not in hidden and not isinstance(raw, bytes)}
    return {name: iso(value) if hasattr(value, "tzinfo") else value for name, value in values.items()}


def erase(bridge: Bridge, number: str, until: datetime, held: set[str]) -> Counter[str]:
    """
    Erase all data of a number until a time, and return the counts by kind.

    A tombstone keeps that data from coming back; a second call erases data that was under way. Blobs that a policy or
    a legal hold keeps are added to `held`. `listed` counts items that the PBX still lists, `softDeletedDays` the days
    for which the account keeps deleted audio. Raises Invalid and StorageUnavailable.
    """
    storage, region = bridge.storage, bridge.settings.default_region
    spellings = Spellings(number, region)
    people.forget(storage, [people.number(spellings.number, region)], until)
    counts: Counter[str] = Counter()
    for holdings in pointed(storage, spellings, region, until):
        _erase(holdings, until, held, counts)
    _erase(scanned(storage, spellings, until), until, held, counts)
    _erase_others(bridge, spellings, until, counts)
    return +counts


def _erase(holdings: Holdings, until: datetime, held: set[str], counts: Counter[str]) -> None:
    """Erase audio and rows, then their pointers, so that the next call finds what a crash leaves over."""
    storage = holdings.storage
    if holdings.things:
        people.forget(storage, [f"{kind} {id}" for kind, id in holdings.things], until)
    for container, stem in sorted(holdings.stems):
        _erase_audio(storage, container, stem, held, counts)
    for (table, partition, key), row in holdings.rows.items():
        if table == "resources" and partition not in RESOURCES.values() and not row.get("removed"):
            counts["listed"] += 1
            continue
        if row.get("payload"):
            delete_versions(storage.container(PAYLOADS), str(row["payload"]))
        if table == "feed":
            delete_keys(storage.table("events"), [{"PartitionKey": EVENT, "RowKey": row["id"]}])
        if table == lost_callers.TABLE:
            lost_callers.remove(storage, key)
        else:
            delete_keys(storage.table(table), [{"PartitionKey": partition, "RowKey": key}])
        counts[_NAMES.get(table) or _NAMES.get(partition, "others")] += 1
    people.remove(storage, holdings.pointers)


def _erase_audio(storage: Storage, container: str, stem: str, held: set[str], counts: Counter[str]) -> None:
    from azure.core.exceptions import HttpResponseError

    client = storage.container(container)
    try:
        deleted = delete_versions(client, stem)
    except HttpResponseError as error:
        if error.status_code != _IMMUTABLE:
            raise
        # A policy or a legal hold keeps it; all else is erased.
        held.add(f"{container}/{stem.rstrip('.')}")
        return
    if deleted and not counts["softDeletedDays"]:
        left = client.list_blobs(name_starts_with=stem, include=["deleted", "versions"])
        counts["softDeletedDays"] = max((blob.remaining_retention_days or 0 for blob in left), default=0)
    counts["audio"] += deleted


def _erase_others(bridge: Bridge, spellings: Spellings, until: datetime, counts: Counter[str]) -> None:
    """Erase waiting messages, subscriptions that filter by the number, notes of the audit, and all exports."""
    storage, payloads = bridge.storage, bridge.storage.container(PAYLOADS)
    for name in QUEUES:
        for suffix in ("", POISON):
            counts["messages"] += _erase_messages(storage, storage.queue(name + suffix), spellings, until)
        # The payloads of hidden messages; a message without its payload is dropped when it becomes visible.
        for blob in payloads.list_blob_names(name_starts_with=f"{name}/"):
            with suppress(Unprocessable):
                if _is_about(parse(get_payload(storage, blob)), spellings, until):
                    counts["messages"] += delete_versions(payloads, blob)
    known = subscriptions(bridge)
    for subscription in known.all():
        if any(isinstance(value, str) and spellings.are_in(value) for value in subscription.wanted.values()):
            counts["subscriptions"] += known.end(subscription.id)
    counts["notes"] += audit.clear_notes(storage, spellings.are_in)
    counts["exports"] += delete_versions(storage.container(EXPORTS), "")


def _erase_messages(storage: Storage, queue: QueueClient, spellings: Spellings, until: datetime) -> int:
    """Delete the visible messages with the number; receive messages only if one has it, as that counts as a try."""

    def has(message: QueueMessage) -> bool:
        try:
            return _is_about(read(storage, message.content.encode()), spellings, until)
        except Unprocessable:
            return spellings.are_in(message.content)

    seen = queue.peek_messages(max_messages=_PEEK)
    waiting = queue.get_queue_properties().approximate_message_count or 0
    if waiting <= len(seen) and not any(map(has, seen)):
        return 0
    deleted, others = 0, []
    for message in queue.receive_messages(messages_per_page=_PEEK, visibility_timeout=_HIDDEN_SECONDS):
        if has(message):
            with suppress(Unprocessable):
                delete_payload(storage, parse(message.content.encode()))
            queue.delete_message(message)
            deleted += 1
        else:
            others.append(message)
    for message in others:
        queue.update_message(message, visibility_timeout=0)
    return deleted


def _is_about(message: Mapping[str, Any], spellings: Spellings, until: datetime) -> bool:
    """Return True if a message contains the number, and its call or its sending is from before the erasure."""
    body, record = message.get("body"), message.get("record")
    data = body.get("data") if isinstance(body, dict) else record
    started = data.get("callStarted") if isinstance(data, dict) else None
    began = event_time(started) or event_time(message.get("sent")) or until
    return began <= until and spellings.are_in(json.dumps(message))
