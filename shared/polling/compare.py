"""Compares ranges of a list with the stored items, stores the differences, and submits missing events."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from operator import itemgetter
from typing import Any

from shared import health, people, webhooks
from shared.calls import store as calls
from shared.calls.stories import UNENDED, Part, Story, story_of
from shared.errors import BudgetExhausted, PbxError, PbxForbidden, PbxNotFound, PbxThrottled, PbxUnreachable
from shared.events import store as events
from shared.events.event import Data, check_envelope, row_envelope, submit, talk_seconds
from shared.events.table import event_id, event_named, wanted_events
from shared.items import store
from shared.items.content import content_hash, drift
from shared.items.store import KINDS, Change, Item, Stored, began, pointers, subjects
from shared.pbx.resources import Resource
from shared.people import Pointer
from shared.polling.run import Run
from shared.times import event_time
from shared.values import e164, identifier

# An event's name and data, and the id of the stored event that it completes.
Missing = tuple[str, dict[str, Any], str | None]

logger = logging.getLogger(__name__)

# After these errors other requests would fail, too.
OUTAGES = (PbxForbidden, PbxThrottled, PbxUnreachable, BudgetExhausted)
# Items that a run asks the PBX for by id.
MOST_LOOKUPS = 20
# Items that began earlier may lie outside the next run's range: their events do not wait for a webhook.
_SURELY_SEEN_AGAIN = timedelta(hours=2)
# Webhooks have the length of the talk, the history its end: the results differ by up to a second.
_ROUNDING = timedelta(seconds=1)


@dataclass(slots=True)
class Comparison:
    """
    A comparison of ranges of a list with the stored items.

    New items are written with each page. A list may have several records of the same id; the item has changed if none
    of them equals the stored one. `known` are the stored items: all items for a `whole` list; otherwise they are read
    with each page. Events of a `backfill` are submitted at once, as no webhook is expected.
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
        Compare a range, read to its end; changes are also written if the reading fails.

        Offsets move while a list grows, so a range of several pages with a new item is read once more.
        """
        run, id_field = self.run, self.run.resource.id_field
        # The next thorough run finds items that a quick reading leaves out, but a day or month is read only once.
        quick = not run.thorough and "date_to" not in filters
        try:
            for _ in range(1 if self.backfill else 2):
                pages = run.pages(lambda item: identifier(item.get(id_field)), quick=quick, **filters)
                news = [self._take(page) for page in pages]
                if len(news) < 2 or not any(news):
                    break
        finally:
            self._write([change for id, change in self._changed.items() if id not in self._same])
            rows = [self.known[id] for id in self._listed if id in self.known]
            dues = [run.columns["waiting"], *(row.due for row in rows)]
            run.columns["waiting"] = min(filter(None, dues), default=None)

    def remove(self, since: datetime | None = None) -> None:
        """
        Remove stored items that the list lacks and the PBX, asked by id, does not have.

        With `since`, only items that began later are looked at, among the thousand with the largest ids.
        """
        run, resource, columns = self.run, self.run.resource, self.run.columns
        if since:
            self.known |= store.recent(run.bridge.storage, resource.name, since)
        missing = [id for id, row in self.known.items() if not row.removed and id not in self._listed]
        # At random, so that items that the PBX still has do not use up the lookups of every run.
        for id in random.sample(missing, min(len(missing), MOST_LOOKUPS)):
            parameters = {resource.id_parameter: id}
            try:
                run.bridge.pbx.call(resource.read_operation, lane=run.lane, until=run.until, **parameters)
            except PbxNotFound:
                item, before = store.get(run.bridge.storage, resource.name, id) or {}, self.known[id]
                self._write([Change(id=id, item=item, hash=before.hash, before=before, removed=True)])
                columns["items"] = columns.get("items", run.checkpoint.items) - 1
            except PbxForbidden:
                # The key may read the list but not a single item.
                return
            except OUTAGES:
                raise
            except PbxError:
                # Any other answer proves nothing about this item, or about the others.
                if run.is_late:
                    return

    def _take(self, page: Sequence[tuple[int, Item]]) -> bool:
        """Compare a page, and write its new items; return True if any item is new or has changed."""
        run, resource, region = self.run, self.run.resource, self.run.bridge.settings.default_region
        items = [(id, {**item, resource.id_field: id}) for id, item in page if run.keeps(item)]
        if not self.whole:
            self.known |= store.stored(run.bridge.storage, resource.name, dict(items).keys() - self._listed.keys())
        shape, changes, is_new = resource.shape, dict[int, Change](), False
        for id, item in sorted(items, key=itemgetter(0)):
            if self._listed.get(id) == item:
                # The range is read once more.
                continue
            self._listed[id] = item
            sha256, before = content_hash(item, shape, region), self.known.get(id)
            if id in changes:
                continue
            if before is None or before.removed:
                # An erased item counts as known, so that it does not cause a second reading.
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

    @property
    def _is_news(self) -> bool:
        return self.run.checkpoint.started is not None and not self.backfill

    def _change(self, id: int, item: Item, sha256: str, before: Stored | None) -> Change:
        """Return the change of an item that is new or differs from the stored one, with the events it makes."""
        run, columns, begin = self.run, self.run.columns, self.run.checkpoint.begin
        # The item's own time: the end of a call, if known.
        times = (event_time(item.get(name)) for name in ("callEnded", "callStarted", "created"))
        moment = next(filter(None, times), None)
        due, is_new = before.due if before else None, before is None or before.removed
        is_wanted = due is not None or begin is None or (moment is not None and moment >= begin)
        if is_new:
            columns["items"] = columns.get("items", run.checkpoint.items) + 1
            # After the first reading, every new item makes events.
            is_wanted = is_wanted or self._is_news
            if is_wanted and moment and not self.backfill:
                lag = round((run.moment - moment).total_seconds(), 3)
                columns["lag"] = min(columns.get("lag", lag), lag)
        if is_wanted and due is None and not run.resource.editable:
            start = began(item)
            # Events wait for a webhook only if a later run surely sees the item again.
            waits = self._is_news and start is not None and run.moment - start < _SURELY_SEEN_AGAIN
            due = run.moment + run.grace if waits else run.moment
        arrives = is_wanted and is_new
        return Change(id=id, item=item, hash=sha256, before=before, arrives=arrives, due=due)

    def _is_forgotten(self, id: int, item: Item) -> bool:
        """Return True if an item of history began before one of its subjects was erased."""
        bridge, resource, moment = self.run.bridge, self.run.resource, began(item)
        if resource.editable or moment is None or not people.is_before(bridge.storage, moment):
            return False
        region = bridge.settings.default_region
        erasable = subjects(item, region) | people.loose(item, drift(item, resource.shape), region)
        erasable.add(f"{KINDS[resource.name]} {id}")
        if (call_id := identifier(item.get("callID"))) is not None:
            erasable.add(people.call(call_id))
        return people.is_forgotten(bridge.storage, erasable, moment)

    def _write(self, changes: Sequence[Change]) -> None:
        """Write pointers, then events, then rows: after a crash in between, the next run repeats them all."""
        run, storage, name = self.run, self.run.bridge.storage, self.run.resource.name
        if changes and run.resource.editable:
            # A row that was written after the list was requested is newer than the list.
            now = store.stored(storage, name, {change.id for change in changes})
            changes = [change for change in changes if store.is_unchanged(change, now)]
        if not changes:
            return
        unknown, index = list[set[str]](), list[tuple[str, Pointer]]()
        for change in changes:
            if change.before is None or change.before.hash != change.hash:
                unknown.append(drift(change.item, run.resource.shape))
                region = run.bridge.settings.default_region
                index += pointers(name, change.id, change.item, region, unknown[-1])
        people.add(storage, index)
        if happened := [(change, change.item) for change in changes if run.resource.event(change.happened)]:
            run.for_each(self._submit, happened)
        if due := {change.id: change.item for change in changes if change.due and change.due <= run.moment}:
            submit_missing(run, due.items(), "reconciled" if self._is_news else "backfill")
            changes = [replace(change, due=None) if change.id in due else change for change in changes]
        store.write(storage, name, changes, run.moment)
        for names in filter(None, unknown):
            health.drifted(storage, names)
        for change in changes:
            revision, removed = change.revision, change.removed
            state = Stored(etag="", hash=change.hash, revision=revision, removed=removed, due=change.due)
            self.known[change.id] = state
            self._same.add(change.id)

    def _submit(self, change: Change, item: Item) -> int:
        """
        Submit the event of an item that was created, updated or removed.

        The revision is part of the event's id: an edit that is reverted makes two events, and a change that is found
        again after a crash makes one. A removal of a voicemail has the event of the PBX's webhook, with its own id; no
        audio is deleted for it.
        """
        bridge, resource = self.run.bridge, self.run.resource
        name, origin = resource.event(change.happened) or "", "poll"
        occurrence = str(change.revision) if change.arrives else f"{change.revision}.{change.hash}"
        if resource.withdrawn:
            origin, occurrence = "reconciled", ""
            item = as_event(item, resource, name)
        data = item | {resource.id_field: change.id}
        submit(bridge, name, data, origin=origin, occurrence=occurrence)
        return 1


def as_event(item: Mapping[str, Any], source: Resource, name: str) -> dict[str, Any]:
    """Return an item as the event's data: without fields that only lists have, with fields of no known shape."""
    in_event = {field.name for field in event_named(name).model.fields}
    in_list = {field.name for field in source.shape}
    return {field: value for field, value in item.items() if field in in_event or field not in in_list}


def submit_missing(run: Run, items: Iterable[tuple[Any, Item]], origin: str) -> None:
    """
    Submit the events of items whose webhook is missing, under the ids that the webhooks' events have.

    A late webhook then counts as a repeat. An event that lacks values of the list is completed by a repeat. New events
    are limited to PBX_EVENTS. Missing webhooks are signalled.
    """
    storage, settings, find = run.bridge.storage, run.bridge.settings, FINDERS[run.resource.name]
    wanted = {event.name for event in wanted_events(settings.pbx_events)}

    def restore(key: Any, item: Item) -> int:
        missing = [row for row in find(run, key, item) if row[2] or row[0] in wanted]
        if not run.keeps(item):
            # Its month was dropped meanwhile.
            return 0
        for name, data, completed in missing:
            submit(run.bridge, name, data, origin=origin, id=completed)
        return sum(not completed for _, _, completed in missing)

    count = run.for_each(restore, items)
    # Without an address, or after their deletion, no webhooks are expected.
    if count and origin == "reconciled" and settings.public_base_url and not webhooks.read(storage)[1]:
        logger.warning("signal webhook_loss resource=%s events=%d", run.resource.name, count)


def _of_call(run: Run, number: int, item: Item) -> list[Missing]:
    """
    Return the events that a call's story lacks, or a repeat that completes its stored end.

    An answered call has one end; a missed call has one for each employee it rang. The story decides rather than event
    ids, because history may name another employee than the webhook. A call that goes on has no end yet. Once an end is
    stored, earlier events that are missing are only counted.
    """
    row, storage, region = run.resource, run.bridge.storage, run.bridge.settings.default_region
    gathered = calls.gathered_in(calls.get(storage, number))
    parts, story = list(gathered.parts.values()), story_of(number, gathered, region)
    end = as_event(item, row, "CallCompleted")
    listed = check_envelope(event_named("CallCompleted"), {"data": end})[1]
    names = {part["event"] for part in parts}
    goes_on, completed = story["outcome"] in UNENDED, "CallCompleted" in names
    answered = "callConnected" in listed or "CallConnected" in names
    lost = {"CallStarted", *(["CallConnected"] if answered else [])} - names
    missing: list[Missing] = []
    if not completed:
        missing = [(name, as_event(item, row, name), None) for name in sorted(lost, reverse=True)]
    elif "callEnded" in listed or not goes_on:
        connected, transferred = _contacts(parts, "CallConnected"), "CallTransfered" in names
        if connected and listed.get("contactID") not in {None, *connected} and not transferred:
            # History shows a transfer only by the other employee at its end.
            lost.add("CallTransfered")
        for name in lost:
            health.missed(storage, name)
    if "callEnded" not in listed:
        return missing
    contacts = {listed.get("contactID")} if answered or not completed else set[int | None]()
    contacts |= set() if answered else _contacts(parts, "CallStarted")
    contacts -= _contacts(parts, "CallCompleted")
    without_end = sorted(filter(None, contacts)) if goes_on or not completed else []
    if without_end or not completed:
        ends = [{**end, "contactID": contact} for contact in without_end] or [end]
        return missing + [("CallCompleted", data, None) for data in ends]
    return [_completion(parts, listed, end)] if _has_more(listed, story, region) else []


def _contacts(parts: Sequence[Part], event: str) -> set[int | None]:
    return {part["contactID"] for part in parts if part["event"] == event and "contactID" in part}


def _completion(parts: Sequence[Part], listed: Data, end: Mapping[str, Any]) -> Missing:
    """Return the history item as a repeat of a stored end, preferably that of the same employee."""
    ends = [part for part in parts if part["event"] == "CallCompleted"]
    chosen = min(ends, key=lambda part: (part.get("contactID") != listed.get("contactID"), part["id"]))
    return "CallCompleted", {**end, "contactID": chosen.get("contactID")}, chosen["id"]


def _has_more(listed: Data, story: Story, region: str) -> bool:
    """Return True if history has a value that the call's story lacks or contradicts."""
    for name in ("caller", "destination", "direction"):
        value, known = listed.get(name), story[name] or ""
        if value and (e164(value, region) or value.lower()) != (e164(known, region) or known.lower()):
            return True
    times = (("callStarted", "started"), ("callConnected", "connected"), ("callEnded", "ended"))
    pairs = [(listed[name], story[column]) for name, column in times if name in listed]
    return any(known is None or abs(time - known) > _ROUNDING for time, known in pairs)


def _announced(run: Run, number: int, item: Item, *, name: str) -> list[Missing]:
    """Return the only event of an item, unless it is stored with all fields that the list has."""
    event, data, storage = event_named(name), as_event(item, run.resource, name), run.bridge.storage
    # The list has the times of a recording's talk, and the webhook its length.
    if data.get("connectionTime") is None and (length := talk_seconds(item)) is not None:
        data["connectionTime"] = length
    id = event_id(event, Data(**{event.key[0]: number}), "")
    row = events.get(storage, id)
    if row is None:
        return [(name, data, None)]
    stored = row_envelope(storage, row)["data"]
    known, listed = (check_envelope(event, {"data": dict(values)})[1] for values in (stored, data))
    lacks = any(field.name in listed and field.name not in known for field in event.model.fields)
    return [(name, data, id)] if lacks else []


# By resource; the poll of lost callers passes the names of its missing events.
FINDERS: Mapping[str, Callable[[Run, Any, Item], list[Missing]]] = {
    "call_history": _of_call,
    "call_records": partial(_announced, name="CallRecorded"),
    "voicemails": partial(_announced, name="VoicemailCreated"),
    "lost_calls": lambda run, name, item: [(name, item, None)],
}
