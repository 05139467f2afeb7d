"""Ranges of a list compared with what is stored: differences are written, and become events that have not come."""

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
from shared.errors import PbxForbidden, PbxNotFound
from shared.events import store as events
from shared.events.event import Data, check_envelope, row_envelope, submit
from shared.events.table import event_id, event_named, wanted_events
from shared.items import store
from shared.items.content import content_hash, drift
from shared.items.store import KINDS, Change, Item, Stored, began, pointers, subjects
from shared.pbx.resources import Resource
from shared.people import Pointer
from shared.polling.run import Run
from shared.times import event_time
from shared.values import e164, identifier

# An event's name and data, and the id of the one that it repeats.
Missing = tuple[str, dict[str, Any], str | None]

logger = logging.getLogger(__name__)

# Items that a run asks the PBX for.
MOST_LOOKUPS = 20
# What began longer ago may lie outside of the next run's range: no webhook is waited for.
_SURELY_SEEN_AGAIN = timedelta(hours=2)
# Webhooks say how many seconds somebody talked, the history when it ended: they differ by one.
_ROUNDING = timedelta(seconds=1)


@dataclass(slots=True)
class Comparison:
    """
    Ranges of a list, compared with what is stored.

    New items are written with each page. An item has changed where no record of it in the range is like the stored one:
    a list may have several of the same id. `known` is what is stored: all of it for a `whole` list; of a range of dates
    it is read with each page. Events of a `backfill` are made at once: no webhook can come for them.
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
        run, id_field = self.run, self.run.resource.id_field
        # What an ordinary run leaves out is found by the next thorough one, but a day or month is read once.
        quick = not run.thorough and "date_to" not in filters
        try:
            for _ in range(1 if self.backfill else 2):
                found = run.pages(lambda item: identifier(item.get(id_field)), quick=quick, **filters)
                news = [self._take(page) for page in found]
                if len(news) < 2 or not any(news):
                    break
        finally:
            self._write([change for id, change in self._changed.items() if id not in self._same])
            rows = [self.known[id] for id in self._listed if id in self.known]
            dues = [run.columns["waiting"], *(row.due for row in rows)]
            run.columns["waiting"] = min(filter(None, dues), default=None)

    def remove(self, since: datetime | None = None) -> None:
        """
        Remove what the list, read to its end, lacks and the PBX does not have, as it says when asked by id.

        Of a list that was read by date these are items that began `since`, among the thousand with the largest ids.
        """
        run, resource, columns = self.run, self.run.resource, self.run.columns
        if since:
            self.known |= store.recent(run.bridge.storage, resource.name, since)
        missing = [id for id, row in self.known.items() if not row.removed and id not in self._listed]
        # By chance: those that the PBX still has must not keep the others from being asked for.
        for id in random.sample(missing, min(len(missing), MOST_LOOKUPS)):
            asked = {resource.id_parameter: id}
            try:
                run.bridge.pbx.call(resource.read_operation, lane=run.lane, until=run.until, **asked)
            except PbxNotFound:
                item, before = store.get(run.bridge.storage, resource.name, id) or {}, self.known[id]
                self._write([Change(id=id, item=item, hash=before.hash, before=before, removed=True)])
                columns["items"] = columns.get("items", run.checkpoint.items) - 1
            except PbxForbidden:
                # The key may list these and not read one.
                return

    def _take(self, page: Sequence[tuple[int, Item]]) -> bool:
        """Compare a page, and write what is new of it; return True where anything was new or other than stored."""
        run, resource, region = self.run, self.run.resource, self.run.bridge.settings.default_region
        found = [(id, {**item, resource.id_field: id}) for id, item in page if run.keeps(item)]
        if not self.whole:
            self.known |= store.stored(run.bridge.storage, resource.name, dict(found).keys() - self._listed.keys())
        shape, changes, is_new = resource.shape, dict[int, Change](), False
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

    @property
    def _is_news(self) -> bool:
        return self.run.checkpoint.started and not self.backfill

    def _change(self, id: int, item: Item, sha256: str, before: Stored | None) -> Change:
        """Return the change of an item that is new, or other than stored; it has events if it is handed on."""
        run, columns, begin = self.run, self.run.columns, self.run.checkpoint.begin
        # When it came to be, as far as it says: a call when it ended.
        times = (event_time(item.get(name)) for name in ("callEnded", "callStarted", "created"))
        moment = next(filter(None, times), None)
        due, is_new = before.due if before else None, before is None or before.removed
        is_wanted = due is not None or begin is None or (moment is not None and moment >= begin)
        if is_new:
            columns["items"] = columns.get("items", run.checkpoint.items) + 1
            # Of what was there before the first reading ended, only what is wanted is handed on.
            is_wanted = is_wanted or self._is_news
            if is_wanted and moment and not self.backfill:
                lag = round((run.moment - moment).total_seconds(), 3)
                columns["lag"] = min(columns.get("lag", lag), lag)
        if is_wanted and due is None and not run.resource.editable:
            start = began(item)
            # At once where no webhook comes, or no run may see it again.
            waits = self._is_news and start is not None and run.moment - start < _SURELY_SEEN_AGAIN
            due = run.moment + run.grace if waits else run.moment
        arrives = is_wanted and is_new
        return Change(id=id, item=item, hash=sha256, before=before, arrives=arrives, due=due)

    def _is_forgotten(self, id: int, item: Item) -> bool:
        """Return True if an item of history began before what it has to do with was erased."""
        bridge, resource, moment = self.run.bridge, self.run.resource, began(item)
        if resource.editable or moment is None or not people.is_before(bridge.storage, moment):
            return False
        region = bridge.settings.default_region
        found = subjects(item, region) | people.loose(item, drift(item, resource.shape), region)
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
                unknown.append(drift(change.item, run.resource.shape))
                region = run.bridge.settings.default_region
                found += pointers(name, change.id, change.item, region, unknown[-1])
        people.add(storage, found)
        if happened := [(one, one.item) for one in changes if run.resource.event(one.happened)]:
            run.for_each(self._submit, happened)
        if due := {one.id: one.item for one in changes if one.due and one.due <= run.moment}:
            submit_missing(run, due.items(), "reconciled" if self._is_news else "backfill")
            changes = [replace(one, due=None) if one.id in due else one for one in changes]
        store.write(storage, name, changes, run.moment)
        for names in filter(None, unknown):
            health.drifted(storage, names)
        for one in changes:
            state = Stored(etag="", hash=one.hash, revision=one.revision, removed=one.removed, due=one.due)
            self.known[one.id] = state
            self._same.add(one.id)

    def _submit(self, change: Change, item: Item) -> int:
        """
        Submit the event of an item that came, changed or went.

        The number of its changes makes two events of what happens to it twice, such as an edit that is taken back; it
        is the same for whoever finds the same change, also after a crash. A deletion that nobody announced has the
        event of the PBX's webhook; no audio is deleted for it.
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
    """Return the item as the webhook has it: without what only lists have, and with what nobody knows."""
    known = {field.name for field in event_named(name).model.fields}
    listed = {field.name for field in source.shape}
    return {field: value for field, value in item.items() if field in known or field not in listed}


def submit_missing(run: Run, items: Iterable[tuple[Any, Item]], origin: str) -> None:
    """
    Submit the events of items whose webhook has not come, under the ids that those would have had.

    A late webhook is a repeat then. What a list knows beyond an event that came completes it, as a repeat. Other events
    are made only where PBX_EVENTS wants them. Webhooks that never came are signalled.
    """
    storage, settings, find = run.bridge.storage, run.bridge.settings, FINDERS[run.resource.name]
    wanted = {event.name for event in wanted_events(settings.pbx_events)}

    def restore(key: Any, item: Item) -> int:
        found = [one for one in find(run, key, item) if one[2] or one[0] in wanted]
        if not run.keeps(item):
            # Its month has been dropped meanwhile: nothing of it comes back.
            return 0
        for name, data, repeated in found:
            submit(run.bridge, name, data, origin=origin, id=repeated)
        return sum(not repeated for _, _, repeated in found)

    count = run.for_each(restore, items)
    # Without an address for webhooks, or after their end, there are none.
    if count and origin == "reconciled" and settings.public_base_url and not webhooks.read(storage)[1]:
        logger.warning("signal webhook_loss resource=%s events=%d", run.resource.name, count)


def _of_call(run: Run, number: int, item: Item) -> list[Missing]:
    """
    Return the events that the call's story lacks: its end, what led to it, and a repeat of an end that has less.

    A call that was answered ends once, and one that nobody answered for each one it rang. Ids alone would not do:
    history may name another employee than the webhook did. While the call goes on, its end is not announced; after an
    end has come, what should have led to it is only counted.
    """
    row, storage, region = run.resource, run.bridge.storage, run.bridge.settings.default_region
    gathered = calls.gathered_in(calls.get(storage, number))
    parts, story = list(gathered.parts.values()), story_of(number, gathered, region)
    end = as_event(item, row, "CallCompleted")
    said = check_envelope(event_named("CallCompleted"), {"data": end})[1]
    names = {part["event"] for part in parts}
    goes_on, completed = story["outcome"] in UNENDED, "CallCompleted" in names
    answered = "callConnected" in said or "CallConnected" in names
    lost = {"CallStarted", *(["CallConnected"] if answered else [])} - names
    found: list[Missing] = []
    if not completed:
        found = [(name, as_event(item, row, name), None) for name in sorted(lost, reverse=True)]
    elif "callEnded" in said or not goes_on:
        connected, moved = _contacts(parts, "CallConnected"), "CallTransfered" in names
        if connected and said.get("contactID") not in {None, *connected} and not moved:
            # A transfer shows as an end with another employee only.
            lost.add("CallTransfered")
        for name in lost:
            health.missed(storage, name)
    if "callEnded" not in said:
        return found
    contacts = {said.get("contactID")} if answered or not completed else set[int | None]()
    contacts |= set() if answered else _contacts(parts, "CallStarted")
    contacts -= _contacts(parts, "CallCompleted")
    left = sorted(filter(None, contacts)) if goes_on or not completed else []
    if left or not completed:
        ends = [{**end, "contactID": contact} for contact in left] or [end]
        return found + [("CallCompleted", data, None) for data in ends]
    return [_completion(parts, said, end)] if _says_more(said, story, region) else []


def _contacts(parts: Sequence[Part], event: str) -> set[int | None]:
    return {part["contactID"] for part in parts if part["event"] == event and "contactID" in part}


def _completion(parts: Sequence[Part], said: Data, end: Mapping[str, Any]) -> Missing:
    """Return the history item as a repeat of an end that came: of its own employee's, where there is one."""
    ends = [part for part in parts if part["event"] == "CallCompleted"]
    chosen = min(ends, key=lambda part: (part.get("contactID") != said.get("contactID"), part["id"]))
    return "CallCompleted", {**end, "contactID": chosen.get("contactID")}, chosen["id"]


def _says_more(said: Data, story: Story, region: str) -> bool:
    """Return True if history has a value of the call that its story lacks, or another one."""
    for name in ("caller", "destination", "direction"):
        mine, known = said.get(name), story[name] or ""
        if mine and (e164(mine, region) or mine.lower()) != (e164(known, region) or known.lower()):
            return True
    times = (("callStarted", "started"), ("callConnected", "connected"), ("callEnded", "ended"))
    pairs = [(said[name], story[column]) for name, column in times if name in said]
    return any(known is None or abs(mine - known) > _ROUNDING for mine, known in pairs)


def _announced(run: Run, number: int, item: Item, *, name: str) -> list[Missing]:
    """Return the event of an item that is announced once, unless it is there with all that the list has."""
    event, data, storage = event_named(name), as_event(item, run.resource, name), run.bridge.storage
    identity = event_id(event, Data(**{event.key[0]: number}), "")
    there = events.get(storage, identity)
    if there is None:
        return [(name, data, None)]
    known = row_envelope(storage, there)["data"]
    had, said = (check_envelope(event, {"data": dict(one)})[1] for one in (known, data))
    lacks = any(field.name in said and field.name not in had for field in event.model.fields)
    return [(name, data, identity)] if lacks else []


# By resource; the poll of lost callers has found its events before.
FINDERS: Mapping[str, Callable[[Run, Any, Item], list[Missing]]] = {
    "call_history": _of_call,
    "call_records": partial(_announced, name="CallRecorded"),
    "voicemails": partial(_announced, name="VoicemailCreated"),
    "lost_calls": lambda run, name, item: [(name, item, None)],
}
