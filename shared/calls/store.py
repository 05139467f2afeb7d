"""Table `calls`: one entity a call, merged from its events under an ETag."""

from __future__ import annotations

import json
import zlib
from collections import OrderedDict
from itertools import islice
from threading import Lock
from typing import TYPE_CHECKING, Any

from shared.calls.stories import Part, part_of, tell
from shared.errors import Conflict
from shared.once import once
from shared.phones import e164
from shared.storage.rows import row_key
from shared.times import FIRST_CLOCK_ID, MICROSECONDS_PER_SECOND, iso

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from azure.data.tables import TableClient

    from shared.events.event import ReceivedEvent
    from shared.storage.account import Storage

TABLE = "calls"
PARTITION = "call"
# As many workers may well ring one call's contacts at once; each lost race is one more read and write.
_TRIES = 32
_REMEMBERED = 4096
_TURNS = 64

Parts = dict[str, Part]


class Calls:
    """The stories of calls; what this process merged last is remembered, which saves a read for each event."""

    def __init__(self, storage: Storage, region: str) -> None:
        self._storage = storage
        self._region = region
        self._known: OrderedDict[int, tuple[Parts, str | None]] = OrderedDict()
        self._lock = Lock()
        self._turns = [Lock() for _ in range(_TURNS)]

    def merge(self, call_id: int, event: ReceivedEvent) -> None:
        """
        Add an event to its call's story; adding it again changes nothing.

        Raises Conflict when others kept changing the same call.
        """
        # Threads of this process take turns at a call; other instances meet at the ETag.
        with self._turns[call_id % len(self._turns)]:
            self._merge(call_id, event)

    def _merge(self, call_id: int, event: ReceivedEvent) -> None:
        # A call we know nothing of is most often new: writing first finds out in one request.
        parts, etag = self._remembered(call_id) or ({}, None)
        for _ in range(_TRIES):
            if event.id in parts:
                return
            merged = {**parts, event.id: part_of(event)}
            written = _write(self._table, self._entity(call_id, merged), etag)
            if written is not None:
                self._remember(call_id, merged, written)
                return
            parts, etag = self._read(call_id)
        raise Conflict(f"call {call_id} kept changing")

    def find(self, started: datetime, caller: str | None) -> int | None:
        """
        The callID of the call that began in the same second, by the same caller where both are known.

        None while there is no such call, or more than one. A callID that spells its start is found by key, any
        other by its `started` column.
        """
        told = {caller, e164(caller, self._region)} - {None}
        second = started.replace(microsecond=0)
        first = int(second.timestamp()) * MICROSECONDS_PER_SECOND
        by_key = f"RowKey ge '{row_key(first)}' and RowKey lt '{row_key(first + MICROSECONDS_PER_SECOND)}'"
        by_column = (
            f"started ge datetime'{iso(second)}' and started le datetime'{iso(second.replace(microsecond=999999))}'"
        )
        for condition in (by_key, by_column):
            query = f"PartitionKey eq '{PARTITION}' and {condition}"
            rows = list(self._table.query_entities(query, select=["RowKey", "caller", "callerE164"]))
            same = [row for row in rows if told & {row.get("caller"), row.get("callerE164")}]
            candidates = same or [row for row in rows if not caller or not row.get("caller")]
            if len(candidates) == 1:
                return int(candidates[0]["RowKey"])
        return None

    def parts(self, call_id: int) -> list[Part]:
        """What each event has added to a call's story; nothing where no event of it came."""
        return list(self._read(call_id)[0].values())

    def contacts(self, call_id: int) -> list[int]:
        """The employees that a call rang, by contactID."""
        from azure.core.exceptions import ResourceNotFoundError

        try:
            row = self._table.get_entity(PARTITION, row_key(call_id), select=["contacts"])
        except ResourceNotFoundError:
            return []
        found: list[int] = json.loads(row.get("contacts") or "[]")
        return found

    def without_end(self, first: datetime, last: datetime, limit: int) -> list[int]:
        """CallIDs of calls that began between two times and are ringing or talking as far as we know."""
        keys = [row_key(int(one.timestamp()) * MICROSECONDS_PER_SECOND) for one in (first, last)]
        by_key = f"RowKey ge '{keys[0]}' and RowKey le '{keys[1]}'"
        # An id that is a plain counter does not tell when the call began.
        by_column = (
            f"RowKey lt '{row_key(FIRST_CLOCK_ID)}' and started ge datetime'{iso(first)}' "
            f"and started le datetime'{iso(last)}'"
        )
        found: list[int] = []
        for condition in (by_key, by_column):
            query = f"PartitionKey eq '{PARTITION}' and {condition} and (outcome eq 'ringing' or outcome eq 'talking')"
            rows = self._table.query_entities(query, select=["RowKey"])
            found += [int(row["RowKey"]) for row in islice(rows, limit)]
        return found

    @property
    def _table(self) -> TableClient:
        return self._storage.table(TABLE)

    def _remembered(self, call_id: int) -> tuple[Parts, str | None] | None:
        with self._lock:
            return self._known.get(call_id)

    def _remember(self, call_id: int, parts: Parts, etag: str) -> None:
        with self._lock:
            self._known[call_id] = (parts, etag)
            self._known.move_to_end(call_id)
            while len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)

    def _read(self, call_id: int) -> tuple[Parts, str | None]:
        from azure.core.exceptions import ResourceNotFoundError

        try:
            entity = self._table.get_entity(PARTITION, row_key(call_id))
        except ResourceNotFoundError:
            return {}, None
        return json.loads(zlib.decompress(entity["parts"])), entity.metadata["etag"]

    def _entity(self, call_id: int, parts: Parts) -> dict[str, Any]:
        from azure.data.tables import EdmType, EntityProperty

        entity: dict[str, Any] = {
            "PartitionKey": PARTITION,
            "RowKey": row_key(call_id),
            "callID": EntityProperty(call_id, EdmType.INT64),
            "parts": zlib.compress(json.dumps(parts, ensure_ascii=False, sort_keys=True).encode()),
        }
        for name, value in tell(call_id, parts, self._region).items():
            if isinstance(value, list):
                entity[name] = json.dumps(value)
            elif name == "answeredBy" and value is not None:
                entity[name] = EntityProperty(value, EdmType.INT64)
            elif value is not None:
                entity[name] = value
        return entity


def _write(table: TableClient, entity: Mapping[str, Any], etag: str | None) -> str | None:
    """Write the entity if it is still as we know it; its new ETag, or None when somebody else was first."""
    from azure.core import MatchConditions
    from azure.core.exceptions import HttpResponseError, ResourceExistsError
    from azure.data.tables import UpdateMode

    try:
        if etag is None:
            written = table.create_entity(entity)
        else:
            written = table.update_entity(
                entity, mode=UpdateMode.REPLACE, etag=etag, match_condition=MatchConditions.IfNotModified
            )
    except ResourceExistsError:
        return None
    except HttpResponseError as error:
        if error.status_code not in (404, 412):
            raise
        return None
    return str(written["etag"])


@once
def calls(storage: Storage, region: str) -> Calls:
    """This process's view of the calls in a storage account; national numbers belong to `region`."""
    return Calls(storage, region)


def call_of(event: ReceivedEvent, calls: Calls) -> int | None:
    """The call that an event belongs to: by its callID, or for a voicemail by its start and caller."""
    call_id: int | None = getattr(event.data, "callID", None)
    if call_id is None and event.data.moment and hasattr(event.data, "voicemailID"):
        return calls.find(event.data.moment, event.caller)
    return call_id
