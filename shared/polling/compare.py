"""Comparing the pages of a range with what is stored: the difference is written, and events are made of it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from shared import forgotten, health, people
from shared.errors import BudgetExhausted, PbxError, PbxForbidden, PbxNotFound, PbxNotUnderstood, PbxRefused
from shared.events.event import submit
from shared.identifiers import identifier
from shared.items import reader, store
from shared.items.content import content_hash, drift
from shared.items.store import KINDS, Change, Stored, began, pointers, subjects
from shared.polling import malformed
from shared.polling.missing import Counts, submit_missing
from shared.polling.reading import as_event, grace, moment_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from shared.items.store import Item
    from shared.people import Pointer
    from shared.polling.malformed import Malformed
    from shared.polling.pages import Page
    from shared.polling.reading import Reading

_AT_ONCE = 8
# Items that a run asks the PBX for.
MOST_LOOKUPS = 20
# What began longer ago may lie outside of the next run's range: no webhook is waited for.
_SURELY_SEEN_AGAIN = timedelta(hours=2)


@dataclass(slots=True)
class Comparison:
    """
    Compare the pages of a range with what is stored, as they come.

    New items are written with each page. An item counts as changed at the range's end, where no record of it was like
    the stored one: a list may have several of the same id. `known` is what is stored; of a range of dates it is read
    with each page. Events of a `backfill` are made at once: no webhook can come for them.
    """

    reading: Reading
    known: dict[int, Stored] = field(default_factory=dict)
    is_whole: bool = False
    backfill: bool = False
    listed: set[int] = field(default_factory=set)
    same: set[int] = field(default_factory=set)
    added: int = 0
    counts: Counts = field(default_factory=Counts)
    latest: datetime | None = None
    page: int = 0
    unreadable: list[Item] = field(default_factory=list)
    failure: PbxError | BudgetExhausted | None = None
    _changed: dict[int, dict[str, Item]] = field(default_factory=dict)

    @property
    def waiting(self) -> datetime | None:
        """Return when the first listed item is due whose webhook may still come."""
        dues = [row.due for id in self.listed if (row := self.known.get(id)) and row.waits and row.due]
        return min(dues, default=None)

    def changes(self) -> dict[str, Any]:
        """Return what the checkpoint records of the range; a thorough run says anew how large a page can be."""
        reading, seen = self.reading, self.reading.checkpoint
        lag = round((reading.moment - self.latest).total_seconds(), 3) if self.latest else seen.lag
        page = self.page if reading.is_thorough else max(self.page, seen.page)
        return {"items": seen.items + self.added, "waiting": self.waiting, "page": page, "lag": lag}

    def take(self, page: Page) -> bool:
        """Compare a page, and write what is new of it; return True where anything was new or other than stored."""
        reading, region = self.reading, self.reading.bridge.settings.default_region
        self.page = max(self.page, page.size)
        found = sorted(reading.kept(page.items), key=itemgetter(0))
        if not self.is_whole:
            self.known |= store.stored(reading.bridge.storage, reading.resource.name, dict(found).keys() - self.listed)
        new: dict[int, Change] = {}
        others = False
        for id, item in found:
            self.listed.add(id)
            sha256, before = content_hash(item, reading.shape, region), self.known.get(id)
            if (before is None or before.removed) and self._is_forgotten(id, item):
                # Erased: it counts as known, so that nothing is read on for it.
                self.same.add(id)
            elif before is None or before.removed:
                if id not in new or sha256 < new[id].hash:
                    new[id] = self._new(id, item, sha256, before)
            elif before.hash == sha256:
                self.same.add(id)
            else:
                others = True
                self._changed.setdefault(id, {})[sha256] = item
        self._submit_due(found)
        self._write(list(new.values()))
        for change in new.values():
            if change.arrives and (moment := moment_of(change.item)):
                self.latest = max(self.latest or moment, moment)
        self.added += len(new)
        return bool(new) or others

    def finish(self) -> None:
        """Write the items of the range that have changed."""
        changes = []
        for id, variants in self._changed.items():
            if id not in self.same:
                sha256 = min(variants)
                changes.append(self._edited(id, variants[sha256], sha256))
        self._changed.clear()
        self._write(changes)

    def remove(self) -> PbxError | None:
        """
        Remove what a complete range lacks and the PBX, asked by id, does not have; at most twenty a run.

        Returns the failure that kept the PBX from saying so of some, which proves nothing; raises an outage.
        """
        missing = sorted(id for id, row in self.known.items() if not row.removed and id not in self.listed)
        if len(missing) > MOST_LOOKUPS:
            # Those that the PBX still has must not keep the others from being asked for.
            turn = int(self.reading.moment.timestamp()) // 60 * MOST_LOOKUPS % len(missing)
            missing = (missing[turn:] + missing[:turn])[:MOST_LOOKUPS]
        gone, failure = list["Change"](), None
        try:
            for id in missing:
                try:
                    if self._is_unknown(id):
                        gone.append(self._gone(id))
                except (PbxNotUnderstood, PbxRefused) as error:
                    failure = error
        finally:
            self._write(gone)
            self.added -= len(gone)
        return failure

    def _is_unknown(self, id: int) -> bool:
        resource = self.reading.resource
        try:
            named = {resource.id_parameter: id}
            self.reading.bridge.pbx.call(
                resource.read_operation, lane=self.reading.lane, until=self.reading.deadline.at, **named
            )
        except PbxNotFound:
            return True
        except PbxForbidden:
            # The key may list these and not read one: nobody can say whether it is gone.
            return False
        return False

    def _is_forgotten(self, id: int, item: Item) -> bool:
        """True if an item of history began before what it has to do with was erased."""
        bridge, resource, moment = self.reading.bridge, self.reading.resource, began(item)
        if resource.editable or moment is None or not forgotten.is_before(bridge.storage, moment):
            return False
        region = bridge.settings.default_region
        found = subjects(item, region) | people.loose(item, drift(item, self.reading.shape), region)
        found.add(f"{KINDS[resource.name]} {id}")
        if (call_id := identifier(item.get("callID"))) is not None:
            found.add(people.call(call_id))
        return forgotten.is_forgotten(bridge.storage, found, moment)

    def _new(self, id: int, item: Item, sha256: str, before: Stored | None) -> Change:
        reading = self.reading
        # Of what was there before the first reading ended, only what is wanted is handed on.
        is_wanted = reading.is_since_begin(item) if self.backfill or not reading.checkpoint.started else True
        waits = self._origin if is_wanted and not reading.resource.editable else ""
        return Change(
            id=id, item=item, hash=sha256, before=before,
            arrives=is_wanted, baseline=not is_wanted, waits=waits, due=self._due(item),
        )  # fmt: skip

    def _edited(self, id: int, item: Item, sha256: str) -> Change:
        before = self.known[id]
        is_baseline = before.baseline and not self.reading.is_since_begin(item)
        waits = "" if is_baseline or self.reading.resource.editable else before.waits or self._origin
        due = before.due if before.waits else self._due(item)
        return Change(id=id, item=item, hash=sha256, before=before, baseline=is_baseline, waits=waits, due=due)

    def _gone(self, id: int) -> Change:
        item = reader.last_seen(self.reading.bridge.storage, self.reading.resource.name, id) or {}
        before = self.known[id]
        return Change(id=id, item=item, hash=before.hash, before=before, removed=True)

    @property
    def _origin(self) -> str:
        return "reconciled" if self.reading.checkpoint.started and not self.backfill else "backfill"

    def _due(self, item: Item) -> datetime:
        """Return when events are made of an item: at once where the next run may not see it again."""
        moment, start = self.reading.moment, began(item)
        is_seen_again = start is not None and moment - start < _SURELY_SEEN_AGAIN
        return moment + grace(self.reading.bridge) if is_seen_again and not self.backfill else moment

    def _submit_due(self, found: Iterable[tuple[int, Item]]) -> None:
        """Submit the missing events of stored items that are due, and store that they were."""
        storage, name = self.reading.bridge.storage, self.reading.resource.name
        due: dict[str, dict[int, Item]] = {}
        for id, item in found:
            row = self.known.get(id)
            if row and row.waits and row.due and row.due <= self.reading.moment and id not in self._changed:
                due.setdefault(row.waits, {})[id] = item
        for origin, items in sorted(due.items()):
            self.counts.update(submit_missing(self.reading, items, origin))
            store.end_waiting(storage, name, {id: self.known[id].etag for id in items})
            for id in items:
                self.known[id] = replace(self.known[id], etag="", waits="", due=None)

    def _write(self, changes: Sequence[Change]) -> None:
        """Write changes: pointers, events, then rows, so that a death in between repeats and loses nothing."""
        if not changes:
            return
        reading, storage, resource = self.reading, self.reading.bridge.storage, self.reading.resource
        region = reading.bridge.settings.default_region
        if resource.editable:
            changes = self._current(changes)
        odd, found = dict[int, set[str]](), list[tuple[str, "Pointer"]]()
        for change in changes:
            odd[change.id] = drift(change.item, reading.shape)
            found += pointers(resource.name, change.id, change.item, region, odd[change.id])
        people.add(storage, found)
        changes = self._hand_on(changes)
        store.write(storage, resource.name, changes, reading.moment)
        for change in changes:
            if not change.removed and (unknown := odd[change.id]):
                health.drifted(storage, unknown)
            self.known[change.id] = Stored(
                etag="", hash=change.hash, revision=change.revision, removed=change.removed,
                baseline=change.baseline, waits=change.waits, due=change.due,
            )  # fmt: skip
            self.same.add(change.id)

    def _current(self, changes: Sequence[Change]) -> Sequence[Change]:
        """Return the changes of rows that nobody has written since the list was asked for: theirs is newer."""
        now = store.stored(self.reading.bridge.storage, self.reading.resource.name, {one.id for one in changes})
        return [one for one in changes if store.is_unchanged(one, now)]

    def _hand_on(self, changes: Sequence[Change]) -> Sequence[Change]:
        """Submit the events that are due now, several at once; return the changes as they are to be written."""
        reading = self.reading
        if reading.resource.editable:
            self._each(
                [one for one in changes if one.arrives or one.removed or (one.before and not one.before.removed)]
            )
            return changes
        if reading.resource.withdrawn:
            self._each([one for one in changes if one.removed])
        due = {one.id: one.item for one in changes if one.waits and one.due and one.due <= reading.moment}
        if not due:
            return changes
        self.counts.update(submit_missing(reading, due, self._origin))
        return [replace(one, waits="", due=None) if one.id in due else one for one in changes]

    def _each(self, changes: Sequence[Change]) -> None:
        """Submit the event of each change; malformed items are dead letters, and stop no other."""
        if not changes:
            return
        found: list[Malformed] = []
        with ThreadPoolExecutor(_AT_ONCE if len(changes) > _AT_ONCE else 1) as pool:
            list(pool.map(partial(self._submit, found), changes))
        # Here: the host drops what threads log that it does not know.
        for reason, item in found:
            malformed.keep(self.reading.bridge.storage, self.reading.resource.name, reason, item)

    def _submit(self, found: list[Malformed], change: Change) -> None:
        """
        Submit the event of an item that came, changed or went.

        Of what can be edited, the number of its changes makes two events of what happens to it twice, such as an edit
        that is taken back; it is the same for whoever finds the same change, also after a crash. A deletion that
        nobody announced has the event of the PBX's webhook; no audio is deleted for it.
        """
        bridge, resource = self.reading.bridge, self.reading.resource
        data, origin = change.item, "poll"
        if resource.withdrawn:
            name, occurrence, origin = resource.withdrawn, None, "reconciled"
            data = as_event(change.item, resource, name)
        elif change.arrives:
            name, occurrence = f"{resource.noun}Created", str(change.revision) if change.before else ""
        else:
            name = f"{resource.noun}{'Removed' if change.removed else 'Updated'}"
            occurrence = f"{change.revision}.{change.hash}"
        data = data | {resource.id_field: change.id}
        with malformed.set_aside(data, found):
            submit(bridge.storage, bridge.settings, name, data, origin=origin, occurrence=occurrence)
