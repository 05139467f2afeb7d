"""Finds everything that storage holds of one phone number: by the index, and by scans where no index can know."""

from __future__ import annotations

import json
import re
import unicodedata
import zlib
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from shared import people
from shared.errors import BridgeError, Invalid
from shared.media.table import MEDIA
from shared.pbx.resources import RESOURCES as LISTS
from shared.phones import cleaned, e164
from shared.storage import rows
from shared.storage.account import reaching_storage
from shared.storage.messages import get_payload
from shared.storage.rows import descending, value_of
from shared.times import iso

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime

    from shared.people import Pointer
    from shared.storage.account import Storage

    Row = Mapping[str, Any]
    # A table, its partition, and the key of a row.
    Place = tuple[str, str, str]

# The resource whose items each kind of pointer leads to.
RESOURCES: Mapping[str, str] = {"call": "call_history", "recording": "call_records", "voicemail": "voicemails"}
# Files of exports.
EXPORTS = "exports"
# The PBX's own lists are read as they are, and so are dead letters: what could not be used has no index.
_SCANNED = (("deadletters", ""), *(("resources", row.name) for row in LISTS if row.editable))
_SEPARATORS = r"[\s().\-/]*"
_ESCAPED = re.compile(r"\\u([0-9a-fA-F]{4})")
_FEWEST_DIGITS = 6
_AT_ONCE = 8
_BATCH = 200


class Spellings:
    """A phone number in every spelling: with and without its country code, separators, and signs nobody sees."""

    def __init__(self, number: str, region: str) -> None:
        import phonenumbers

        full = e164(number, region)
        digits = (full or "+" + re.sub("[^0-9]", "", cleaned(number)))[1:]
        if len(digits) < _FEWEST_DIGITS:
            raise Invalid({"number": f"a phone number of at least {_FEWEST_DIGITS} digits is expected"})
        self.number = full or number
        code = str(phonenumbers.parse(full).country_code) if full else ""
        national = _SEPARATORS.join(digits[len(code) :])
        begin = (
            rf"(?:(?:00|\+)?{_SEPARATORS}{_SEPARATORS.join(code)}{_SEPARATORS}(?:\(0\))?{_SEPARATORS})" if code else ""
        )
        # A number of another country is only written with its code.
        at_home = not code or code == str(phonenumbers.country_code_for_region(region))
        self._pattern = re.compile(rf"(?<![0-9]){begin}{'?0?' if code and at_home else ''}{national}(?![0-9])")

    def are_in(self, text: str) -> bool:
        """Return True if a text has the number."""
        text = _ESCAPED.sub(lambda found: chr(int(found[1], 16)), text)
        plain = unicodedata.normalize("NFKC", text)
        return self._pattern.search("".join(one for one in plain if unicodedata.category(one) != "Cf")) is not None

    def are_in_row(self, storage: Storage, row: Row) -> bool:
        """Return True if a column of a row has the number, packed ones and a body in a blob too."""
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
    """Rows by table and key, the ids of calls and audio, the stems of blobs with audio, and pointers to all of it."""

    rows: dict[str, dict[tuple[str, str], Row]] = field(default_factory=lambda: defaultdict(dict))
    calls: set[int] = field(default_factory=set)
    audio: set[tuple[str, int]] = field(default_factory=set)
    stems: set[tuple[str, str]] = field(default_factory=set)
    pointers: list[tuple[str, Pointer]] = field(default_factory=list)

    def add(self, table: str, row: Row) -> None:
        """Add a row, and the calls and audio that it names."""
        self.rows[table][row["PartitionKey"], row["RowKey"]] = row
        for media in MEDIA:
            self.audio |= {(media.name, int(id)) for id in json.loads(row.get(f"{media.name}s") or "[]")}
            if (id := value_of(row.get(media.id))) is not None:
                self.audio.add((media.name, int(id)))
        if (call := value_of(row.get("callID"))) is not None:
            self.calls.add(int(call))
        if str(row.get("type", "")).endswith("Stored") and "body" in row:
            data = json.loads(row["body"]).get("data", {})
            self.add_blob(str(data.get("container")), str(data.get("blobName")))
        if table == "media" and row.get("blob"):
            self.add_blob("voicemails", row["blob"])

    def add_blob(self, container: str, name: str) -> None:
        """Add the stem of a blob with audio, which other copies of its id have too."""
        day, _, file = name.rpartition("/")
        if container in {media.container for media in MEDIA} and day:
            self.stems.add((container, f"{day}/{file.partition('.')[0]}."))


def pointed(storage: Storage, spellings: Spellings, region: str, until: datetime) -> Iterator[Holdings]:
    """Yield what the index leads to, some hundred calls at a time: their stories, events, items and audio."""
    subject = people.number(spellings.number, region)
    for part in _batches(people.find(storage, subject, last=until)):
        holdings = Holdings(pointers=[(subject, one) for one in part])
        _follow(storage, holdings, part)
        _close(storage, holdings)
        yield holdings


def scanned(storage: Storage, spellings: Spellings) -> Holdings:
    """Return the rows with the number that no index by number leads to: they are searched for it."""
    holdings = Holdings()
    for table, partition in _SCANNED:
        with reaching_storage():
            condition = f"PartitionKey eq '{partition}'" if partition else "PartitionKey ne ''"
            for row in storage.table(table).query_entities(condition):
                if spellings.are_in_row(storage, row):
                    holdings.add(table, row)
    for part in _batches(people.find(storage, people.LOOSE)):
        found = Holdings()
        _follow(storage, found, part)
        for pointer in part:
            for table, partition, key in _places(pointer):
                read = found.rows[table].get((partition, key))
                if read is not None and spellings.are_in_row(storage, read):
                    holdings.add(table, read)
                    holdings.pointers.append((people.LOOSE, pointer))
    _close(storage, holdings)
    return holdings


def _batches(found: Sequence[Pointer]) -> Iterator[Sequence[Pointer]]:
    return (found[start : start + _BATCH] for start in range(0, len(found), _BATCH))


def _places(pointer: Pointer) -> list[Place]:
    """Return where the rows stand that a pointer leads to."""
    if pointer.kind == "event":
        return [("feed", "feed", pointer.place)]
    if pointer.kind == "lost":
        return [("lostcallers", "lost", pointer.id)]
    if pointer.kind == "dial":
        return [("dials", pointer.id[:2], pointer.id)]
    if pointer.kind not in RESOURCES:
        return []
    key = descending(int(pointer.id))
    stories = [("calls", "call", key)] if pointer.kind == "call" else []
    return [*stories, ("resources", RESOURCES[pointer.kind], key)]


def _follow(storage: Storage, holdings: Holdings, pointers: Sequence[Pointer]) -> None:
    """Read the rows that pointers lead to: those whose keys have an order together, the others one by one."""
    together: dict[tuple[str, str], list[tuple[str, datetime]]] = defaultdict(list)
    for pointer in pointers:
        for table, partition, key in _places(pointer):
            if pointer.kind in ("lost", "dial"):
                _get(storage, holdings, (table, partition, key))
            else:
                together[table, partition].append((key, pointer.moment))
        if pointer.kind == "call":
            holdings.calls.add(int(pointer.id))
        for media in MEDIA:
            if media.name == pointer.kind:
                holdings.audio.add((pointer.kind, int(pointer.id)))
                holdings.add_blob(media.container, f"{pointer.moment:%Y/%m/%d}/{pointer.id}")
    for (table, partition), wanted in together.items():
        for row in people.rows_of(storage.table(table), partition, wanted).values():
            holdings.add(table, row)


def _close(storage: Storage, holdings: Holdings) -> None:
    """Add all that belongs to the calls, whoever is in it."""
    known: set[int] = set()
    while new := sorted(holdings.calls - known):
        known.update(new)
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            found = list(pool.map(lambda id: people.find(storage, people.call(id), ["event"]), new))
        for id, pointers in zip(new, found, strict=True):
            holdings.pointers += [(people.call(id), one) for one in pointers]
            _follow(storage, holdings, pointers)
            _get(storage, holdings, ("calls", "call", descending(id)))
            _get(storage, holdings, ("resources", RESOURCES["call"], descending(id)))
    for kind, id in sorted(holdings.audio):
        _get(storage, holdings, ("resources", RESOURCES[kind], descending(id)))
        if kind == "voicemail":
            _get(storage, holdings, ("media", kind, rows.row_key(id)))


def _get(storage: Storage, holdings: Holdings, place: Place) -> None:
    table, *keys = place
    if tuple(keys) not in holdings.rows[table]:
        row = rows.get(storage.table(table), *keys)
        if row is not None:
            holdings.add(table, row)


def plain(row: Row) -> dict[str, Any]:
    """Return a row's columns as JSON values, without those for the app alone."""
    hidden = ("PartitionKey", "RowKey", "writer", "v")
    found = {name: value_of(one) for name, one in row.items() if name not in hidden and not isinstance(one, bytes)}
    return {name: iso(one) if hasattr(one, "tzinfo") else one for name, one in found.items()}
