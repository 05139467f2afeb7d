"""Everything that storage holds of one phone number: found by the index, and by scans where no index can know."""

from __future__ import annotations

import json
import re
import unicodedata
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from shared import people
from shared.errors import BridgeError, Invalid
from shared.media.table import MEDIA
from shared.pbx.resources import RESOURCES as LISTS
from shared.phones import cleaned, e164
from shared.storage.account import reaching_storage
from shared.storage.messages import get_payload
from shared.storage.rows import descending, value_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from shared.people import Pointer
    from shared.storage.account import Storage

    Row = Mapping[str, Any]

# The resource whose items each kind of pointer leads to, and the ids of a call's audio in its row.
RESOURCES: Mapping[str, str] = {"call": "call_history", "recording": "call_records", "voicemail": "voicemails"}
_KINDS: tuple[people.Kind, ...] = ("call", "event", "recording", "voicemail", "lost", "dial")
# Files of exports.
EXPORTS = "exports"
# What no index can know: tables that are read as they are, with a condition. The last ones are the PBX's other lists.
_SCANNED = (
    ("deadletters", ""),
    ("feed", "PartitionKey eq 'feed' and (drift ne '' or misfits ne '')"),
    *(("resources", f"PartitionKey eq '{row.name}'") for row in LISTS if row.editable),
)
_SEPARATORS = r"[\s().\-/]*"
_ESCAPED = re.compile(r"\\u([0-9a-fA-F]{4})")
_FEWEST_DIGITS = 6
_AT_ONCE = 8
_BATCH = 200
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


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

    rows: dict[str, dict[tuple[str, str], Row]] = field(default_factory=dict)
    calls: set[int] = field(default_factory=set)
    audio: set[tuple[str, int]] = field(default_factory=set)
    stems: set[tuple[str, str]] = field(default_factory=set)
    pointers: list[tuple[str, Pointer]] = field(default_factory=list)

    def add(self, table: str, row: Row) -> None:
        """Add a row, and what it says of calls and audio."""
        self.rows.setdefault(table, {})[row["PartitionKey"], row["RowKey"]] = row
        for media in MEDIA:
            for url in json.loads(row.get(f"{media.name}Urls") or "[]"):
                self._stem("/".join(unquote(urlsplit(url).path).split("/")[-5:]))
            self.audio |= {(media.name, int(id)) for id in json.loads(row.get(f"{media.name}s") or "[]")}
            if (id := value_of(row.get(media.id))) is not None:
                self.audio.add((media.name, int(id)))
        if (call := value_of(row.get("callID"))) is not None:
            self.calls.add(int(call))
        if "Stored" in str(row.get("type", "")) and "body" in row:
            data = json.loads(row["body"]).get("data", {})
            self._stem(f"{data.get('container')}/{data.get('blobName')}")

    def _stem(self, path: str) -> None:
        container, _, name = path.partition("/")
        day, _, file = name.rpartition("/")
        if container in {media.container for media in MEDIA} and day:
            self.stems.add((container, f"{day}/{file.split('.')[0]}."))


def pointed(storage: Storage, spellings: Spellings, region: str, until: datetime) -> Iterator[Holdings]:
    """Yield what the index leads to, some hundred calls at a time: their stories, events, items and audio."""
    subject = people.number(spellings.number, region)
    found = people.find(storage, subject, last=until)
    for start in range(0, len(found), _BATCH):
        holdings = Holdings(pointers=[(subject, one) for one in found[start : start + _BATCH]])
        _follow(storage, holdings, found[start : start + _BATCH])
        _close(storage, holdings)
        yield holdings


def _follow(storage: Storage, holdings: Holdings, pointers: Sequence[Pointer]) -> None:
    """Read the rows that pointers lead to."""
    for kind in _KINDS:
        mine = [one for one in pointers if one.kind == kind]
        if kind == "event":
            _read(storage, holdings, "feed", "feed", [(one.place, one.moment) for one in mine])
            continue
        if kind in ("lost", "dial"):
            for one in mine:
                table, partition = ("lostcallers", "lost") if kind == "lost" else ("dials", one.id[:2])
                _read(storage, holdings, table, partition, [(one.id, None)])
            continue
        wanted = [(descending(int(one.id)), one.moment) for one in mine]
        _read(storage, holdings, "resources", RESOURCES[kind], wanted)
        if kind == "call":
            holdings.calls |= {int(one.id) for one in mine}
            _read(storage, holdings, "calls", "call", wanted)
            continue
        (media,) = (row for row in MEDIA if row.name == kind)
        holdings.audio |= {(kind, int(one.id)) for one in mine}
        holdings.stems |= {(media.container, f"{one.moment:%Y/%m/%d}/{one.id}.") for one in mine}


def _close(storage: Storage, holdings: Holdings) -> None:
    """Add all that belongs to the calls, whoever is in it."""
    known: set[int] = set()
    while new := holdings.calls - known:
        known |= new
        subjects = [people.call(id) for id in sorted(new)]
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            found = list(pool.map(lambda subject: people.find(storage, subject, ["event"]), subjects))
        for subject, pointers in zip(subjects, found, strict=True):
            holdings.pointers += [(subject, one) for one in pointers]
            _follow(storage, holdings, pointers)
        for id in new:
            for table, partition in (("calls", "call"), ("resources", RESOURCES["call"])):
                if (partition, descending(id)) not in holdings.rows.get(table, {}):
                    _read(storage, holdings, table, partition, [(descending(id), None)])
    for kind, id in set(holdings.audio):
        key = (RESOURCES[kind], descending(id))
        if key not in holdings.rows.get("resources", {}):
            _read(storage, holdings, "resources", key[0], [(key[1], None)])
        if kind == "voicemail":
            _read(storage, holdings, "media", kind, [(f"{id:020d}", None)])
    for row in holdings.rows.get("media", {}).values():
        holdings.stems |= {("voicemails", f"{str(row['blob']).rpartition('.')[0]}.")} if row.get("blob") else set()


def _read(storage: Storage, holdings: Holdings, table: str, partition: str, wanted: Sequence[tuple[str, Any]]) -> None:
    # A row without a moment is read alone.
    parts = [[(key, moment) for key, moment in wanted if moment is not None]]
    parts += [[(key, _EPOCH)] for key, moment in wanted if moment is None]
    for part in filter(None, parts):
        for row in people.rows_of(storage.table(table), partition, part).values():
            holdings.add(table, row)


def scanned(storage: Storage, spellings: Spellings) -> Holdings:
    """Return the rows with the number of tables that no index leads into."""
    holdings = Holdings()
    for table, condition in _SCANNED:
        with reaching_storage():
            for row in storage.table(table).query_entities(condition or "PartitionKey ne ''"):
                # Behind a resource's items are rows of their order, which have no numbers.
                if (table != "resources" or row["RowKey"].isdecimal()) and spellings.are_in_row(storage, row):
                    holdings.add(table, row)
    _close(storage, holdings)
    return holdings
