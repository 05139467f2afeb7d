"""Lists of what changes and goes: read as a whole, and compared with what is stored."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from shared.errors import BudgetExhausted, Conflict, PbxError, PbxFatal, PbxForbidden
from shared.items.head import heads
from shared.items.intake import Stale
from shared.polling import changes as edits
from shared.polling import checkpoints
from shared.polling.outcomes import HEARTBEAT, advance, note_error, note_unreadable
from shared.polling.pages import pages

if TYPE_CHECKING:
    from shared.items.reader import Item
    from shared.polling.reading import Reading

_TRIES = 5


def read_edits(reading: Reading, whole: bool) -> None:
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
        seen, digest = reading.checkpoint, edits.digest(listing.items)
        changes = note_unreadable(reading, listing.unreadable)
        if seen.started and digest == seen.digest and not whole and not listing.failure:
            advance(reading, **changes)
            return
        try:
            known = {"complete": not listing.failure, "all_readable": not listing.unreadable}
            outcome = edits.compare(reading, listing.items, since=since, look=whole, **known)
        except Stale:
            since = heads(reading.bridge.storage).read(reading.resource.name).sequence
            continue
        changes |= {"items": outcome.items, "sequence": outcome.sequence}
        changes |= {"cursor": max(listing.items, default=0), "digest": "" if outcome.open else digest}
        _settle(reading, listing, changes)
        return
    raise Conflict(f"{reading.resource.name} kept changing")


def _settle(reading: Reading, listing: _Listing, changes: dict[str, Any]) -> None:
    """Note what a comparison came to; raises what kept the list from being read to its end."""
    partial = isinstance(listing.failure, PbxFatal)
    if listing.failure is None:
        advance(reading, started=True, partial=False, **changes)
        return
    # Only where the PBX will never read on, nothing more is waited for.
    if partial:
        changes |= {"partial": True, "started": True}
    storage = reading.bridge.storage
    checkpoint = checkpoints.change(storage, reading.checkpoint, lambda now: replace(now, **changes))
    success = {"last_success": reading.moment} if partial else {}
    note_error(replace(reading, checkpoint=checkpoint), listing.failure, **success)
    raise listing.failure


@dataclass(slots=True)
class _Listing:
    """The items of a list by id, those without one, and what kept it from being read to its end."""

    items: dict[int, Item] = field(default_factory=dict)
    unreadable: list[Item] = field(default_factory=list)
    failure: PbxError | BudgetExhausted | None = None


def _listed(reading: Reading, whole: bool) -> _Listing:
    seen, listing = reading.checkpoint, _Listing()
    alive = seen.last_success is not None and reading.moment - seen.last_success < HEARTBEAT
    everything = {reading.resource.cursor_parameter: 0}
    listed = pages(reading.bridge.pbx, reading.resource, lane=reading.lane, unreadable=listing.unreadable, **everything)
    try:
        for page in listed:
            first = not listing.items
            listing.items.update(page.items)
            if first and alive and not whole and page.newest_first and edits.digest(listing.items) == seen.digest:
                break
    except (PbxError, BudgetExhausted) as error:
        if not listing.items or isinstance(error, PbxForbidden):
            raise
        listing.failure = error
    return listing
