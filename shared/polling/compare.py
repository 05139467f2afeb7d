"""Comparing a range of a list with what is stored, page by page: differences are written and made events of."""

from __future__ import annotations

import random
import threading
import time
from dataclasses import dataclass, field, replace
from datetime import timedelta
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from shared import health, people
from shared.errors import (
    BudgetExhausted,
    PbxForbidden,
    PbxNotFound,
    PbxNotUnderstood,
    PbxUnavailable,
)
from shared.events.event import submit
from shared.items import store
from shared.items.content import content_hash, drift
from shared.items.store import KINDS, Change, Stored, began, pointers, subjects
from shared.polling.missing import submit_missing
from shared.polling.run import as_event, moment_of
from shared.values import encode, identifier

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime

    from shared.items.store import Item
    from shared.people import Pointer
    from shared.polling.run import Run

# Items that a run asks the PBX for.
MOST_LOOKUPS = 20
# Asked for at once; the largest page of the PBX is not documented, and a smaller one is taken as it comes.
_LIMIT = 1000
# A page of fewer items is all that a PBX has that knows no offsets.
_FULL = 10
# What began longer ago may lie outside of the next run's range: no webhook is waited for.
_SURELY_SEEN_AGAIN = timedelta(hours=2)


def pages(run: Run, identify: Callable[[Item], int | None], **filters: Any) -> Iterator[list[tuple[int | None, Item]]]:
    """
    Yield the pages of a list, each item with its id, until one has nothing new.

    Raises what Pbx.call raises, PbxUnavailable where the run is late, and PbxNotUnderstood where a full page comes
    again at another offset.
    """
    seen, offset, largest = set[Any](), 0, 0
    while True:
        found = _ask(run, offset, filters)
        page = [(identify(item), item) for item in found]
        keys = {encode(item) if id is None else id for id, item in page}
        if keys <= seen:
            if offset and len(found) >= max(largest, _FULL):
                raise PbxNotUnderstood(run.resource.list_operation, "the same page comes again at another offset")
            return
        seen |= keys
        largest = max(largest, len(found))
        offset += len(found)
        asked = time.monotonic()
        yield page
        # The time that our own storage takes does not count.
        run.until += time.monotonic() - asked


def _ask(run: Run, offset: int, filters: dict[str, Any]) -> list[Item]:
    operation = run.resource.list_operation
    while True:
        if run.is_late:
            raise PbxUnavailable(operation, "the list is longer than can be read in one run; it goes on with the next")
        try:
            return run.bridge.pbx.call(  # type: ignore[no-any-return]
                operation, lane=run.lane, until=run.until, limit=_LIMIT, offset=offset or None, **filters
            )
        except BudgetExhausted as error:
            # To begin again would never get to the end of a long list.
            if not offset or time.monotonic() + error.retry_after > run.until:
                raise
            threading.Event().wait(error.retry_after)


@dataclass(slots=True)
class Comparison:
    """
    A range of a list, compared with what is stored.

    New items are written with each page. An item has changed where no record of it in the range is like the stored one:
    a list may have several of the same id. `known` is what is stored; of a range of dates it is read with each page.
    Events of a `backfill` are made at once: no webhook can come for them.
    """

    run: Run
    known: dict[int, Stored] = field(default_factory=dict)
    whole: bool = False
    backfill: bool = False
    _listed: dict[int, Item] = field(default_factory=dict)
    _same: set[int] = field(default_factory=set)
    _changed: dict[int, Change] = field(default_factory=dict)

    def read(self, **filters: Any) -> None:
        """
        Compare the range, read to its end; changes are written also where the reading fails.

        Offsets move while a list grows: a range of more than one page in which something was new is read once more.
        """
        try:
            if self._read_pages(filters) and not self.backfill:
                self._read_pages(filters)
        finally:
            self._write([change for id, change in self._changed.items() if id not in self._same])
            self._measure()

    def remove(self) -> None:
        """Remove what the range, read to its end, lacks and the PBX does not have, as it says when asked by id."""
        run, gone = self.run, list["Change"]()
        missing = [id for id, row in self.known.items() if not row.removed and id not in self._listed]
        # By chance: those that the PBX still has must not keep the others from being asked for.
        chosen = random.sample(missing, min(len(missing), MOST_LOOKUPS))
        try:
            for id in chosen:
                asked = {run.resource.id_parameter: id}
                try:
                    run.bridge.pbx.call(run.resource.read_operation, lane=run.lane, until=run.until, **asked)
                except PbxNotFound:
                    item = store.get(run.bridge.storage, run.resource.name, id) or {}
                    before = self.known[id]
                    gone.append(Change(id=id, item=item, hash=before.hash, before=before, removed=True))
        except PbxForbidden:
            # The key may list these and not read one.
            pass
        finally:
            self._write(gone)
            self._measure()

    def _read_pages(self, filters: dict[str, Any]) -> bool:
        """Compare the pages; return True where there were several, and something new."""
        run, id_field, is_new = self.run, self.run.resource.id_field, False
        # What an ordinary run leaves out is found by the next thorough one, but a day or month is read once.
        is_quick = not run.thorough and "date_to" not in filters
        count = last = largest = 0
        unreadable: list[Item] = []
        try:
            for page in pages(run, lambda item: identifier(item.get(id_field)), **filters):
                is_new |= self._take(page, unreadable)
                count, last, largest = count + 1, len(page), max(largest, len(page))
                if is_quick and last <= run.checkpoint.page:
                    return is_new and count > 1
        finally:
            run.note_unreadable(unreadable)
        # A page as large as the last one need not be full; those that others came after were.
        run.columns["page"] = max(run.columns["page"], last, largest - 1)
        return is_new and count > 1

    def _take(self, page: list[tuple[int | None, Item]], unreadable: list[Item]) -> bool:
        """
        Compare a page, and write what is new of it; items without an id are added to `unreadable`.

        Returns True where anything was new or other than stored.
        """
        run, resource, region = self.run, self.run.resource, self.run.bridge.settings.default_region
        found = list[tuple[int, "Item"]]()
        for id, item in page:
            if id is None:
                unreadable.append(item)
            elif run.keeps(item):
                found.append((id, {**item, resource.id_field: id}))
        if not self.whole:
            self.known |= store.stored(run.bridge.storage, resource.name, dict(found).keys() - self._listed.keys())
        shape, changes, is_new = run.shape, dict[int, Change](), False
        for id, item in sorted(found, key=itemgetter(0)):
            if self._listed.get(id) == item:
                # Compared already, such as when a range is read once more.
                continue
            self._listed[id] = item
            sha256, before = content_hash(item, shape, region), self.known.get(id)
            if id in changes:
                continue
            if before is None or before.removed:
                # What was erased counts as known, so that nothing is read on for it.
                if not self._is_forgotten(id, item):
                    is_new, changes[id] = True, self._change(id, item, sha256, before)
            elif before.hash == sha256:
                self._same.add(id)
                if before.due and before.due <= run.moment:
                    changes[id] = Change(id=id, item=item, hash=sha256, before=before, due=before.due)
            else:
                is_new = True
                self._changed.setdefault(id, self._change(id, item, sha256, before))
        self._write(list(changes.values()))
        return is_new

    def _change(self, id: int, item: Item, sha256: str, before: Stored | None) -> Change:
        """Return the change of an item that is new, or other than stored; it has events if it is handed on."""
        run, columns, due = self.run, self.run.columns, before.due if before else None
        # Of what was there before the first reading ended, only what is wanted is handed on.
        is_wanted, is_new = due is not None or run.is_since_begin(item), before is None or before.removed
        if is_new:
            columns["items"] = columns.get("items", run.checkpoint.items) + 1
            is_wanted = is_wanted or (run.checkpoint.started and not self.backfill)
            if is_wanted and not self.backfill and (moment := moment_of(item)):
                lag = round((run.moment - moment).total_seconds(), 3)
                columns["lag"] = min(columns.get("lag", lag), lag)
        return Change(
            id=id,
            item=item,
            hash=sha256,
            before=before,
            arrives=is_wanted and is_new,
            due=due or self._due(item) if is_wanted and not run.resource.editable else None,
        )

    @property
    def _origin(self) -> str:
        return "reconciled" if self.run.checkpoint.started and not self.backfill else "backfill"

    def _due(self, item: Item) -> datetime:
        """Return when events are made of an item: at once where no webhook comes, or no run may see it again."""
        moment, start = self.run.moment, began(item)
        waits = self._origin == "reconciled" and start is not None and moment - start < _SURELY_SEEN_AGAIN
        return moment + self.run.grace if waits else moment

    def _is_forgotten(self, id: int, item: Item) -> bool:
        """Return True if an item of history began before what it has to do with was erased."""
        bridge, resource, moment = self.run.bridge, self.run.resource, began(item)
        if resource.editable or moment is None or not people.is_before(bridge.storage, moment):
            return False
        region = bridge.settings.default_region
        found = subjects(item, region) | people.loose(item, drift(item, self.run.shape), region)
        found.add(f"{KINDS[resource.name]} {id}")
        if (call_id := identifier(item.get("callID"))) is not None:
            found.add(people.call(call_id))
        return people.is_forgotten(bridge.storage, found, moment)

    def _write(self, changes: Sequence[Change]) -> None:
        """Write changes: pointers, events, then rows, so that a death in between repeats and loses nothing."""
        run, storage, name = self.run, self.run.bridge.storage, self.run.resource.name
        if changes and run.resource.editable:
            # A row that somebody has written since the list was asked for is newer.
            now = store.stored(storage, name, {one.id for one in changes})
            changes = [one for one in changes if store.is_unchanged(one, now)]
        if not changes:
            return
        unknown, found = list[set[str]](), list[tuple[str, "Pointer"]]()
        for change in changes:
            if change.before is None or change.before.hash != change.hash:
                unknown.append(drift(change.item, run.shape))
                region = run.bridge.settings.default_region
                found += pointers(name, change.id, change.item, region, unknown[-1])
        people.add(storage, found)
        if happened := [(one, one.item) for one in changes if one.happened and (run.resource.editable or one.removed)]:
            run.for_each(self._submit, happened)
        due = {one.id: one.item for one in changes if one.due and one.due <= run.moment}
        if due:
            submit_missing(run, due, self._origin)
            changes = [replace(one, due=None) if one.id in due else one for one in changes]
        store.write(storage, name, changes, run.moment)
        for names in filter(None, unknown):
            health.drifted(storage, names)
        for one in changes:
            self.known[one.id] = Stored(
                etag="", hash=one.hash, revision=one.revision, removed=one.removed, due=one.due
            )  # fmt: skip
            self._same.add(one.id)

    def _submit(self, change: Change, item: Item) -> int:
        """
        Submit the event of an item that came, changed or went.

        The number of its changes makes two events of what happens to it twice, such as an edit that is taken back; it
        is the same for whoever finds the same change, also after a crash. A deletion that nobody announced has the
        event of the PBX's webhook; no audio is deleted for it.
        """
        bridge, resource = self.run.bridge, self.run.resource
        name, origin = f"{resource.noun}{change.happened}", "poll"
        occurrence = str(change.revision) if change.arrives else f"{change.revision}.{change.hash}"
        if resource.withdrawn:
            name, origin, occurrence = resource.withdrawn, "reconciled", ""
            item = as_event(item, resource, name)
        data = item | {resource.id_field: change.id}
        submit(bridge, name, data, origin=origin, occurrence=occurrence)
        return 1

    def _measure(self) -> None:
        """Record how many items a whole list has, and when events are due that a webhook may still bring."""
        columns, rows = self.run.columns, self.known
        dues = [row.due for id in self._listed if (row := rows.get(id)) and row.due]
        columns["waiting"] = min(filter(None, [columns["waiting"], *dues]), default=None)
        if self.whole:
            columns["items"] = sum(not row.removed for row in rows.values())
