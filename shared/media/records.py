"""What is known of a recording or voicemail beside its bytes: from its event, from the polled row, or asked by id."""

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

# A call of the PBX a recording would use up the budget: a list brings a thousand, so one by id is asked for rarely,
# and only where polls leave room for it.
LANE = "backfill"
EVERY_SECONDS = 5.0


def known(record: Mapping[str, Any]) -> Record:
    """The fields that say something."""
    return {name: value for name, value in record.items() if value not in (None, "")}


def asked(bridge: Bridge, media: Media, id: int, *, lane: str = "media") -> Record:
    """The record as the PBX has it now; raises MediaNotReady for another one's, and what the PBX's client raises."""
    source = resource(media.resource)
    record: Record = bridge.pbx.call(source.read_operation, lane=lane, **{source.id_parameter: id})
    # What spells no id counts as absent, like any field that does not fit.
    if (identifier(record.get(media.id)) or id) != id:
        raise MediaNotReady("another record")
    return known(record)


def seconds(media: Media, record: Mapping[str, Any]) -> int | None:
    """How long the audio should play; None where the record does not say, or nothing that a call can last."""
    said = record.get(media.seconds)
    return None if said is None else _seconds().validate_python(said)


def completed(bridge: Bridge, media: Media, id: int, record: Mapping[str, Any]) -> tuple[Record, bool]:
    """
    The record with what its event lacks, and whether that was found.

    The polled row is looked at first. Where it is not there yet the PBX is asked, rarely; a record that is not found
    now may be polled in a minute.
    """
    whole = known(record)
    if all(name in whole for name in media.lacking):
        return whole, True
    polled = reader.get(bridge.storage, media.resource, id)
    if polled is None and _pace(bridge.storage).comes_now():
        try:
            polled = asked(bridge, media, id, lane=LANE)
        except (PbxError, BudgetExhausted, MediaNotReady):
            return whole, False
    return known(polled or {}) | whole, polled is not None


class Pace:
    """Lets one through in a while."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._next = 0.0
        self._lock = Lock()

    def comes_now(self) -> bool:
        """Whether it is one's turn; the next one's comes later."""
        with self._lock:
            now = time.monotonic()
            if now < self._next:
                return False
            self._next = now + self._seconds
            return True


@once
def _seconds() -> TypeAdapter[int | None]:
    from pydantic import TypeAdapter

    from shared.events.data import AnySeconds

    return TypeAdapter(AnySeconds)


@once
def _pace(storage: Storage) -> Pace:
    return Pace(EVERY_SECONDS)
