"""What has been added, edited and removed since the last listing: each submitted as an event and then stored."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.errors import Conflict, Invalid, StorageUnavailable
from shared.events.receive import submit
from shared.items import reader as items
from shared.items.content import content_hash
from shared.items.intake import Intake, Row, Stale, batches, row_of
from shared.polling import odd_items, removals
from shared.storage.account import reaching_storage
from shared.times import iso

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from shared.items.reader import Item, Known
    from shared.polling.reading import Reading

_SENDERS = 8
_FEW = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """
    What came of a comparison: how many items there are now and the head's sequence; `open` where it is not settled
    yet whether some are gone.
    """

    items: int
    sequence: int
    open: bool


def digest(listed: Mapping[int, Item]) -> str:
    """A hash of a whole listing, the same in any order."""
    lines = (f"{number} {content_hash(item)}" for number, item in sorted(listed.items()))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def compare(
    reading: Reading,
    listed: Mapping[int, Item],
    *,
    since: int,
    complete: bool = True,
    all_readable: bool = True,
    look: bool = False,
) -> Outcome:
    """
    Submit and store how a listing differs from what is stored; `look` also notes what was seen again.

    Only a `complete` listing says something of what it lacks, and by itself only where it is `all_readable`. Raises
    Stale unless the head's sequence is still `since`, as it was before the listing began: an older listing must not
    undo what a newer one showed.
    """
    storage, resource = reading.bridge.storage, reading.resource
    intake = Intake(storage, resource.name)
    if intake.head.sequence != since:
        raise Stale
    known = items.known(storage, resource.name)
    rows = [
        row_of(number, item, known.get(number), baseline=number not in known and not reading.wanted(number, item))
        for number, item in listed.items()
    ]
    changed = [row for row in rows if row.before is None or row.before.removed or row.before.hash != row.hash]
    _hand_on(reading, intake, changed, listed)
    unsettled = not complete or _remove(reading, intake, known, listed, all_readable=all_readable)
    if look:
        settled, today = {row.id for row in changed}, iso(reading.moment)[:10]
        same = [row.id for row in rows if row.id not in settled and row.before and row.before.seen[:10] != today]
        intake.note({number: {"lastSeen": reading.moment} for number in same})
    return Outcome(items=intake.head.count, sequence=intake.head.sequence, open=unsettled)


def _hand_on(reading: Reading, intake: Intake, rows: Iterable[Row], listed: Mapping[int, Item]) -> None:
    for batch in batches(rows):
        wanted = [row for row in batch if not row.baseline]
        with ThreadPoolExecutor(_SENDERS if len(wanted) > _FEW else 1) as pool:
            submitted = list(pool.map(lambda row: _submit(reading, row, listed[row.id]), wanted))
        for odd in filter(None, submitted):
            # Here: the host drops what threads log that it does not know.
            odd_items.keep(reading.bridge.storage, reading.resource.name, *odd)
        intake.write(batch, reading.moment)


def _submit(reading: Reading, row: Row, item: Item) -> tuple[str, Item] | None:
    """
    Submit the event of a row; a reason and a body where that cannot be done, which keeps no other from its event.

    How often the item has changed makes two events of what happens to it twice, such as an edit that is taken back; it
    is the same for whoever finds the same change, also after a crash.
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
        with reaching_storage():
            submit(bridge.storage, bridge.settings, event, data, origin="poll", occurrence=occurrence)
    except (StorageUnavailable, Conflict):
        raise
    except Invalid as error:
        return str(error), data
    except Exception as error:  # noqa: BLE001 - one item that nobody foresaw stops no other
        return odd_items.place_of(error), data
    return None


def _remove(
    reading: Reading, intake: Intake, known: Mapping[int, Known], listed: Mapping[int, Item], *, all_readable: bool
) -> bool:
    """Submit and store which items are gone; whether that is not settled yet for some."""
    verdict = removals.judge(known, listed, reading.moment)
    gone = removals.proved(verdict, known, reading, reading.lane, all_readable=all_readable)
    intake.note(verdict.changes)
    last = {number: _last(reading, number) for number in gone}
    rows = [row_of(number, last[number], known[number], removed=True) for number in gone]
    _hand_on(reading, intake, rows, last)
    return verdict.open


def _last(reading: Reading, number: int) -> Item:
    return items.stored(reading.bridge.storage, reading.resource.name, number) or {}
