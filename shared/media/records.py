"""The record of a recording or voicemail: from its event, from the polled row, or asked for by id."""

from __future__ import annotations

import time
from threading import Lock
from typing import TYPE_CHECKING, Any

from shared.errors import BudgetExhausted, MediaNotReady, PbxError
from shared.identifiers import identifier
from shared.items import reader
from shared.once import once
from shared.pbx.resources import resource

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import TypeAdapter

    from shared.bridge import Bridge
    from shared.media.table import Media
    from shared.storage.account import Storage

Record = dict[str, Any]

# A call of the PBX for each recording would use up the budget, and a list brings a thousand: one by id is asked for
# rarely, and only where polls leave room for it.
LANE = "backfill"
EVERY_SECONDS = 5.0


def known(record: Mapping[str, Any]) -> Record:
    """Return the fields that are not empty."""
    return {name: value for name, value in record.items() if value not in (None, "")}


def asked(bridge: Bridge, media: Media, id: int, *, lane: str = "media") -> Record:
    """Return the PBX's record; raises MediaNotReady for another one's, and what the PBX's client raises."""
    source = resource(media.resource)
    record: Record = bridge.pbx.call(source.read_operation, lane=lane, **{source.id_parameter: id})
    # A field that spells no id counts as absent.
    if (identifier(record.get(media.id)) or id) != id:
        raise MediaNotReady("another record")
    return known(record)


def seconds(media: Media, record: Mapping[str, Any]) -> int | None:
    """Return the seconds that the audio should play, or None where the record has none that a call can last."""
    said = record.get(media.seconds)
    return None if said is None else _seconds().validate_python(said)


def completed(bridge: Bridge, media: Media, id: int, record: Mapping[str, Any]) -> tuple[Record, bool]:
    """
    Return the record with the fields that its event lacks, and True if they were found.

    The polled row is read first. Where there is none yet the PBX is asked, rarely; a record that is not found now may
    be polled in a minute.
    """
    whole = known(record)
    if all(name in whole for name in media.lacking):
        return whole, True
    polled = reader.get(bridge.storage, media.resource, id)
    if polled is None and _pace(bridge.storage).is_due():
        try:
            polled = asked(bridge, media, id, lane=LANE)
        except (PbxError, BudgetExhausted, MediaNotReady):
            return whole, False
    return known(polled or {}) | whole, polled is not None


class Pace:
    """Lets one through in so many seconds."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._next = 0.0
        self._lock = Lock()

    def is_due(self) -> bool:
        """True for one caller in a while."""
        with self._lock:
            moment = time.monotonic()
            due = moment >= self._next
            if due:
                self._next = moment + self._seconds
            return due


@once
def _seconds() -> TypeAdapter[int | None]:
    from pydantic import TypeAdapter

    from shared.events.model import AnySeconds

    return TypeAdapter(AnySeconds)


@once
def _pace(storage: Storage) -> Pace:
    return Pace(EVERY_SECONDS)
