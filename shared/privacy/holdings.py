"""Finds everything that storage holds of one phone number: by the index, and by scans where no index can know."""

from __future__ import annotations

import json
import re
import unicodedata
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from shared import people
from shared.errors import BridgeError, Invalid
from shared.media.blobs import MEDIA
from shared.pbx.resources import RESOURCES as LISTS
from shared.storage import rows
from shared.storage.messages import get_payload
from shared.storage.rows import descending, value_of
from shared.times import iso
from shared.values import cleaned, e164

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

    from shared.people import Pointer
    from shared.storage.account import Storage

    Row = Mapping[str, Any]
    # A table, a partition, and the key of a row.
    Place = tuple[str, str, str]

EXPORTS = "exports"
# The resource whose items each kind of pointer leads to.
RESOURCES: Mapping[str, str] = {"call": "call_history"} | {media.name: media.resource for media in MEDIA}
# The PBX's own lists are read as they are, and so are dead letters: what could not be used has no index.
_SCANNED = (("deadletters", "ne ''"), *(("resources", f"eq '{row.name}'") for row in LISTS if row.editable))
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
        before = ""
        if code:
            before = rf"(?:(?:00|\+)?{_SEPARATORS}{_SEPARATORS.join(code)}{_SEPARATORS}(?:\(0\))?{_SEPARATORS})"
            # A number of another country is only written with its code.
            before += "?0?" if code == str(phonenumbers.country_code_for_region(region)) else ""
        self._pattern = re.compile(rf"(?<![0-9]){before}{_SEPARATORS.join(digits[len(code) :])}(?![0-9])")

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
    """Rows by their places, the ids of calls and audio, the stems of blobs with audio, and pointers to all of it."""

    rows: dict[Place, Row] = field(default_factory=dict)
    calls: set[int] = field(default_factory=set)
    audio: set[tuple[str, int]] = field(default_factory=set)
    stems: set[tuple[str, str]] = field(default_factory=set)
    pointers: list[tuple[str, Pointer]] = field(default_factory=list)

    def add(self, table: str, row: Row) -> None:
        """Add a row, and the calls and audio that it names."""
        self.rows[table, row["PartitionKey"], row["RowKey"]] = row
        for media in MEDIA:
            ids = [*json.loads(row.get(f"{media.name}s") or "[]"), value_of(row.get(media.id))]
            self.audio |= {(media.name, int(id)) for id in ids if id is not None}
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
    found = people.find(storage, subject, last=until)
    for start in range(0, len(found), _BATCH):
        holdings = Holdings()
        _follow(storage, holdings, [(subject, one) for one in found[start : start + _BATCH]])
        _close(storage, holdings)
        yield holdings


def scanned(storage: Storage, spellings: Spellings, until: datetime) -> Holdings:
    """Return the rows from before a time with the number that no index by number leads to: they are searched for it."""
    holdings = Holdings()
    for table, partition in _SCANNED:
        for row in storage.table(table).query_entities(f"PartitionKey {partition}"):
            if row.get("first", until) <= until and spellings.are_in_row(storage, row):
                holdings.add(table, row)
    pointers = {place: one for one in people.find(storage, people.LOOSE) for place in _places(one)}
    for place, found in _read(storage, pointers):
        if found.get("began", until) <= until and spellings.are_in_row(storage, found):
            holdings.add(place[0], found)
            holdings.pointers.append((people.LOOSE, pointers[place]))
    _close(storage, holdings)
    return holdings


def _follow(storage: Storage, holdings: Holdings, pointers: Sequence[tuple[str, Pointer]]) -> None:
    """Add what pointers of subjects lead to."""
    holdings.pointers += pointers
    for _, one in pointers:
        if one.kind == "call":
            holdings.calls.add(int(one.id))
        for media in MEDIA:
            if media.name == one.kind:
                holdings.audio.add((one.kind, int(one.id)))
                holdings.add_blob(media.container, f"{one.moment:%Y/%m/%d}/{one.id}")
    _add_rows(storage, holdings, [place for _, one in pointers for place in _places(one)])


def _close(storage: Storage, holdings: Holdings) -> None:
    """Add all that belongs to the calls, whoever is in it, and to their audio."""
    known: set[int] = set()
    while new := sorted(holdings.calls - known):
        known.update(new)
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            found = list(pool.map(lambda id: people.find(storage, people.call(id), ["event"]), new))
        _follow(
            storage, holdings, [(people.call(id), one) for id, part in zip(new, found, strict=True) for one in part]
        )
        _add_rows(storage, holdings, [place for id in new for place in _places_of("call", id)])
    _add_rows(storage, holdings, [place for kind, id in sorted(holdings.audio) for place in _places_of(kind, id)])


def _places(pointer: Pointer) -> list[Place]:
    match pointer.kind:
        case "event":
            return [("feed", "feed", pointer.place)]
        case "lost":
            return [("lostcallers", "lost", pointer.id)]
        case "dial":
            return [("dials", pointer.id[:2], pointer.id)]
        case "call" | "recording" | "voicemail":
            return _places_of(pointer.kind, int(pointer.id))
    return []


def _places_of(kind: str, id: int) -> list[Place]:
    """Return the places of the rows of a call, a recording or a voicemail."""
    more = {"call": [("calls", "call", descending(id))], "voicemail": [("media", kind, rows.row_key(id))]}
    return [("resources", RESOURCES[kind], descending(id)), *more.get(kind, [])]


def _add_rows(storage: Storage, holdings: Holdings, places: Iterable[Place]) -> None:
    for (table, *_), row in _read(storage, [place for place in places if place not in holdings.rows]):
        holdings.add(table, row)


def _read(storage: Storage, places: Iterable[Place]) -> Iterator[tuple[Place, Row]]:
    """Yield the rows at these places, some hundred at a time."""
    wanted = list(dict.fromkeys(places))
    for start in range(0, len(wanted), _BATCH):
        part = wanted[start : start + _BATCH]
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            found = list(pool.map(lambda place: rows.get(storage.table(place[0]), *place[1:]), part))
        yield from ((place, row) for place, row in zip(part, found, strict=True) if row is not None)


def plain(row: Row) -> dict[str, Any]:
    """Return a row's columns as JSON values, without those for the app alone."""
    hidden = ("PartitionKey", "RowKey", "writer", "v")
    found = {name: value_of(one) for name, one in row.items() if name not in hidden and not isinstance(one, bytes)}
    return {name: iso(one) if hasattr(one, "tzinfo") else one for name, one in found.items()}
