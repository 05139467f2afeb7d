"""What has been added, edited and removed since the last listing, each told as an event and then stored."""

from __future__ import annotations

import hashlib
import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.errors import Invalid, PbxForbidden, PbxNotFound, PbxNotUnderstood, PbxRefused
from shared.events.receive import submit
from shared.items import reader as items
from shared.items.intake import Intake, Row, Stale, batches, row_of
from shared.times import iso

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from shared.items.reader import Item, Known
    from shared.polling.reading import Reading

logger = logging.getLogger(__name__)

_SENDERS = 8
_FEW = 8
# Items missing from a listing that one run asks the PBX about.
_MOST_LOOKUPS = 25


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """How many items there are now, and how many missing ones were asked about and found, 0 when all were."""

    items: int
    asked: int


def digest(listed: Mapping[int, Item]) -> str:
    """A hash of a whole listing, the same in whatever order it came."""
    lines = (f"{number} {items.content_hash(item)}" for number, item in sorted(listed.items()))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def compare(reading: Reading, listed: Mapping[int, Item], *, since: int, look: bool, skip: int = 0) -> Outcome:
    """
    Tell and store how a complete listing differs from what is stored; `look` also notes what was seen again.

    Of the items that are missing, `skip` were asked about before. An item is gone only when the PBX, asked for it by
    id, does not know it either. Raises Stale when anything was written since the listing began (microseconds since
    1970): an older listing must not undo what a newer one told.
    """
    storage, resource = reading.bridge.storage, reading.resource
    intake = Intake(storage, resource.name)
    if intake.head.sequence >= since:
        raise Stale
    known = items.known(storage, resource.name)
    rows = [
        row_of(number, item, known.get(number), baseline=number not in known and not reading.wanted(item))
        for number, item in listed.items()
    ]
    changed = [row for row in rows if row.before is None or row.before.removed or row.before.hash != row.hash]
    _hand_on(reading, intake, changed, listed)
    asked = _remove(reading, intake, known, listed, skip)
    if look:
        settled, today = {row.id for row in changed}, iso(reading.moment)[:10]
        same = [row.id for row in rows if row.id not in settled and row.before and row.before.seen[:10] != today]
        intake.see(same, reading.moment)
    return Outcome(items=intake.head.count, asked=asked)


def _hand_on(reading: Reading, intake: Intake, rows: Iterable[Row], listed: Mapping[int, Item]) -> None:
    for batch in batches(rows):
        told = [row for row in batch if not row.baseline]
        with ThreadPoolExecutor(_SENDERS if len(told) > _FEW else 1) as pool:
            list(pool.map(lambda row: _tell(reading, row, listed[row.id]), told))
        intake.write(batch, reading.moment)


def _tell(reading: Reading, row: Row, item: Item) -> None:
    """
    Submit the event of a row.

    How often the item has changed tells apart what happens to it twice, such as an edit that is taken back; it is
    the same for whoever finds the same change, also after a crash.
    """
    bridge, noun = reading.bridge, reading.resource.noun
    if row.removed:
        event, occurrence = f"{noun}Removed", f"{row.revision}.{row.hash}"
    elif row.arrives:
        event, occurrence = f"{noun}Created", str(row.revision) if row.before else ""
    else:
        event, occurrence = f"{noun}Updated", f"{row.revision}.{row.hash}"
    data = item | {reading.resource.id_field: row.id}
    try:
        submit(bridge.storage, bridge.settings, event, data, origin="poll", occurrence=occurrence)
    except Invalid as error:
        logger.warning("%s %d is stored without an event: %s", reading.resource.name, row.id, error)


def _remove(reading: Reading, intake: Intake, known: Mapping[int, Known], listed: Mapping[int, Item], skip: int) -> int:
    """Tell and store which items are gone; how many that are not the PBX was asked about, 0 when none is left."""
    missing = sorted(number for number, row in known.items() if not row.removed and number not in listed)
    chosen = missing[skip : skip + _MOST_LOOKUPS]
    gone = [number for number in chosen if _is_gone(reading, number)]
    last = {number: _last(reading, number) for number in gone}
    rows = [row_of(number, last[number], known[number], removed=True) for number in gone]
    _hand_on(reading, intake, rows, last)
    return 0 if skip + len(chosen) >= len(missing) else skip + len(chosen) - len(gone)


def _is_gone(reading: Reading, number: int) -> bool:
    resource = reading.resource
    try:
        reading.bridge.pbx.call(resource.read_operation, lane=reading.lane, **{resource.id_parameter: number})
    except PbxNotFound:
        return True
    except PbxForbidden:
        # The key may list them and not read one: then the list has the last word.
        return True
    except (PbxRefused, PbxNotUnderstood) as error:
        # Nobody knows; the others that are missing are asked about all the same.
        logger.warning("%s %d left the list: %s", resource.name, number, error)
        return False
    logger.info("%s %d left the list, but the PBX still knows it", resource.name, number)
    return False


def _last(reading: Reading, number: int) -> Item:
    return items.stored(reading.bridge.storage, reading.resource.name, number) or {}
