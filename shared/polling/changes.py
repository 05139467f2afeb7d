"""Lists of what changes and goes: read as a whole and compared with what is stored, each difference as an event."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from shared.errors import BudgetExhausted, Conflict, PbxError, PbxFatal, PbxForbidden
from shared.events.receive import submit
from shared.items import reader as items
from shared.items.content import content_hash
from shared.items.head import heads
from shared.items.intake import Intake, Row, Stale, batches
from shared.polling import odd_items, removals
from shared.polling.checkpoints import HEARTBEAT
from shared.polling.pages import pages
from shared.times import iso

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from shared.items.reader import Item
    from shared.polling.odd_items import Odd
    from shared.polling.reading import Reading

_TRIES = 5


@dataclass(slots=True)
class _Listing:
    """The items of a list by id, those without one, and what kept it from being read to its end."""

    items: dict[int, Item] = field(default_factory=dict)
    unreadable: list[Item] = field(default_factory=list)
    failure: PbxError | BudgetExhausted | None = None


def read_edits(reading: Reading, *, whole: bool) -> None:
    """
    Read a resource whose items change and go: the whole list, each time.

    A list of one page that looks as it did is done after one call. That nothing stands behind that page is sure
    when the newest come first; otherwise, and with each heartbeat, the list is read to its end. Of a list that
    cannot be, what comes and changes is reported all the same.
    """
    since = reading.checkpoint.sequence
    for _ in range(_TRIES):
        listing = _listed(reading, whole)
        if not reading.checkpoint.started:
            reading = reading.caught_up()
        seen, changes = reading.checkpoint, reading.note_unreadable(listing.unreadable)
        found = {"cursor": max(listing.items, default=0), "digest": digest(listing.items)}
        if seen.started and found["digest"] == seen.digest and not whole and not listing.failure:
            reading.advance(**changes)
            return
        try:
            changes |= found | _compare(reading, listing, since=since, look=whole)
        except Stale:
            since = heads(reading.bridge.storage).read(reading.resource.name).sequence
            continue
        _settle(reading, listing.failure, changes)
        return
    raise Conflict(f"{reading.resource.name} kept changing")


def _settle(reading: Reading, failure: PbxError | BudgetExhausted | None, changes: dict[str, Any]) -> None:
    """Note what a comparison came to; raises what kept the list from being read to its end."""
    if failure is None:
        reading.advance(started=True, partial=False, **changes)
        return
    # Only where the PBX will never read on, nothing more is waited for.
    is_partial = isinstance(failure, PbxFatal)
    reading = reading.noted(**changes, **({"partial": True, "started": True} if is_partial else {}))
    reading.note_error(failure, **({"last_success": reading.moment} if is_partial else {}))
    raise failure


def _listed(reading: Reading, whole: bool) -> _Listing:
    seen, listing = reading.checkpoint, _Listing()
    alive = seen.last_success is not None and reading.moment - seen.last_success < HEARTBEAT
    everything: dict[str, Any] = {reading.resource.cursor_parameter: 0}
    listed = pages(reading.bridge.pbx, reading.resource, lane=reading.lane, unreadable=listing.unreadable, **everything)
    try:
        for page in listed:
            first = not listing.items
            listing.items.update(page.items)
            if first and alive and not whole and page.newest_first and digest(listing.items) == seen.digest:
                break
    except (PbxError, BudgetExhausted) as error:
        if not listing.items or isinstance(error, PbxForbidden):
            raise
        listing.failure = error
    return listing


def digest(listed: Mapping[int, Item]) -> str:
    """A hash of a whole listing, the same in any order."""
    lines = (f"{number} {content_hash(item)}" for number, item in sorted(listed.items()))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _compare(reading: Reading, listing: _Listing, *, since: int, look: bool) -> dict[str, Any]:
    """
    Submit and store how a listing differs from what is stored; `look` also notes what was seen again.

    Only a complete listing says something of what it lacks; where that is not settled yet, its digest is not kept.
    Raises Stale unless the head's sequence is still `since`, as it was before the listing began: an older listing must
    not undo what a newer one showed.
    """
    storage, name = reading.bridge.storage, reading.resource.name
    intake = Intake(storage, name)
    if intake.head.sequence != since:
        raise Stale
    known = items.known(storage, name)
    changed, unsettled = reading.changed(listing.items, known), True
    _hand_on(reading, intake, changed, listing.items)
    if not listing.failure:
        all_readable = not listing.unreadable
        gone, last, unsettled = removals.gone(reading, intake, known, listing.items, all_readable=all_readable)
        _hand_on(reading, intake, gone, last)
    if look:
        same, today = listing.items.keys() - {row.id for row in changed}, iso(reading.moment)[:10]
        intake.note({number: {"lastSeen": reading.moment} for number in same if known[number].seen[:10] != today})
    found = {"items": intake.head.count, "sequence": intake.head.sequence}
    return found | {"digest": ""} if unsettled else found


def _hand_on(reading: Reading, intake: Intake, rows: Iterable[Row], listed: Mapping[int, Item]) -> None:
    for batch in batches(rows):
        wanted = [row for row in batch if not row.baseline]
        odd_items.each(reading.bridge.storage, reading.resource.name, partial(_submit, reading, listed), wanted)
        intake.write(batch, reading.moment)


def _submit(reading: Reading, listed: Mapping[int, Item], row: Row, odd: list[Odd]) -> None:
    """
    Submit the event of a row.

    How often the item has changed makes two events of what happens to it twice, such as an edit that is taken back; it
    is the same for whoever finds the same change, also after a crash.
    """
    bridge, resource = reading.bridge, reading.resource
    what, occurrence = "Removed" if row.removed else "Updated", f"{row.revision}.{row.hash}"
    if row.arrives:
        what, occurrence = "Created", str(row.revision) if row.before else ""
    data = listed[row.id] | {resource.id_field: row.id}
    with odd_items.set_aside(data, odd):
        submit(bridge.storage, bridge.settings, f"{resource.noun}{what}", data, origin="poll", occurrence=occurrence)
