"""The simulated PBX: items, clock, webhooks, faults and the record of what was asked of it."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from dev.simulator.audio import AudioFile, token_for, token_owner
from dev.simulator.clock import Clock
from dev.simulator.faults import API_KINDS, Faults
from dev.simulator.resources import RESOURCE, RESOURCES, Item, Resource
from dev.simulator.samples import sample
from dev.simulator.store import Rows
from dev.simulator.webhooks import Subscription, Webhooks
from dev.simulator.wire import Options, Writer

if TYPE_CHECKING:
    from collections.abc import Callable

    from dev.simulator.calls import Rang
    from dev.simulator.http import Seen

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Pbx:
    """All state of one simulated account; thread-safe."""

    def __init__(self, api_key: str = "demo-key", workers: int = 4) -> None:
        self.api_key = api_key
        self.url = ""
        self.clock = Clock()
        self.options = Options()
        self.writer = Writer(self.options, lambda: self.url)
        self.faults = Faults(API_KINDS)
        self.hooks = Webhooks(self.options, self.writer, workers)
        self.rows: dict[str, Rows] = {}
        self.lost: dict[tuple[str, str], Item] = {}
        self.requests: list[Seen] = []
        self.rang: list[Rang] = []
        self.extra_files: dict[str, AudioFile] = {}
        self._lock = threading.RLock()
        self._last: dict[str, int] = {}
        self._call_ids: set[int] = set()
        self._fill()

    def _fill(self) -> None:
        for row in RESOURCES:
            self.rows[row.path] = Rows(self._maker(row))

    def _maker(self, row: Resource) -> Callable[[int], Item]:
        return lambda item_id: self._complete(row, item_id, sample(row.path, item_id))

    def _complete(self, row: Resource, item_id: int, fields: Item) -> Item:
        item = {row.id_field: item_id} | dict(row.fields) | fields | {row.id_field: item_id}
        for name in ("recordingURL", "messageURL"):
            if name in row.fields and not isinstance(item[name], AudioFile):
                item[name] = AudioFile(token_for(row.path, item_id), tone=item_id % 7)
        return item

    def new_id(self, resource: str, started: datetime | None = None) -> int:
        """Return an id that no item has; a call's is its start in microseconds."""
        row = RESOURCE[resource]
        with self._lock:
            last = self._last.get(resource, 0)
            if row.clocked:
                # Calls are numbered by their start alone.
                new = ((started or self.clock.now()) - _EPOCH) // timedelta(microseconds=1)
                while new in self._call_ids:
                    new += 1
                self._call_ids.add(new)
            else:
                new = max(last + 1, row.first_id)
            while new in self.rows[resource]:
                new += 1
            self._last[resource] = max(last, new)
            return new

    def add(self, resource: str, item_id: int | None = None, **fields: Any) -> int:
        """Put an item into a list as the PBX would have it there, without any webhook; return its id."""
        row = RESOURCE[resource]
        item_id = self.new_id(resource) if item_id is None else item_id
        self._last[resource] = max(self._last.get(resource, 0), item_id if not row.clocked else 0)
        if "created" in row.fields:
            fields.setdefault("created", self.clock.now())
        self.rows[resource].put(item_id, self._complete(row, item_id, fields))
        return item_id

    def edit(self, resource: str, item_id: int, **fields: Any) -> None:
        """Change fields of an item; raise KeyError where there is none."""
        self.rows[resource].put(item_id, self.item(resource, item_id) | fields)

    def remove(self, resource: str, item_id: int) -> None:
        """Take an item away without any webhook; raise KeyError where there is none."""
        if self.rows[resource].remove(item_id) is None:
            raise KeyError(item_id)

    def item(self, resource: str, item_id: int) -> Item:
        """Return the inner form of an item; raise KeyError where there is none."""
        item = self.rows[resource].get(item_id)
        if item is None:
            raise KeyError(item_id)
        return item

    def view(self, resource: str, item: Item) -> Item:
        """Return the item as it goes on the wire."""
        shown = self.writer.item(item)
        if resource == "contacts":
            number = item["contactID"]
            shown["group_membership"] = [
                self.writer.item(group)
                for group in self.rows["groups"].written()
                if any(member["contactID"] == number for member in group["members"])
            ]
        return shown

    def bulk(self, resource: str, count: int) -> range:
        """Add `count` plain rows above all there are (a second apart for calls) and return their ids."""
        row = RESOURCE[resource]
        largest = self.rows[resource].largest() or 0
        step = 1_000_000 if row.clocked else 1
        first = max(largest + step, self.new_id(resource) - (count * step if step > 1 else 0))
        ids = range(first, first + count * step, step)
        self.rows[resource].put_bulk(ids)
        self._last[resource] = max(self._last.get(resource, 0), ids[-1] if count else 0)
        return ids

    def add_contact(self, firstname: str, lastname: str = "", number: str = "", **fields: Any) -> int:
        """Add an employee; return contactID."""
        named = {"firstname": firstname, "lastname": lastname, "number": number, "current_callerid": number}
        return self.add("contacts", fields.pop("contact_id", None), **named | fields)

    def add_group(self, name: str, members: tuple[int, ...] | list[int] = ()) -> int:
        """Add a group of contacts; return groupID."""
        return self.add("groups", name=name, members=[{"contactID": member} for member in members])

    def file(self, resource: str, item_id: int) -> AudioFile:
        """Return the audio of a recording or voicemail, to be changed at will; it stays when the item is removed."""
        item = self.item(resource, item_id)
        audio = item["recordingURL" if resource == "call_records" else "messageURL"]
        if not isinstance(audio, AudioFile):
            raise KeyError(item_id)
        if not self.extra_files.get(audio.token):
            self.extra_files[audio.token] = audio
            self.rows[resource].put(item_id, item)
        return audio

    def find_file(self, token: str) -> AudioFile | None:
        """Return the audio behind a link, or None."""
        if token in self.extra_files:
            return self.extra_files[token]
        owner = token_owner(token)
        try:
            return self.file(*owner) if owner else None
        except KeyError:
            return None

    def recording_file(self, recording_id: int) -> AudioFile:
        """Return the audio of a recording."""
        return self.file("call_records", recording_id)

    def voicemail_file(self, voicemail_id: int) -> AudioFile:
        """Return the audio of a voicemail."""
        return self.file("voicemails", voicemail_id)

    @property
    def webhooks(self) -> list[Subscription]:
        """The webhooks that exist now."""
        return list(self.hooks.subscriptions.values())

    def settle(self, timeout: float = 10.0) -> bool:
        """Wait until no delivery is open; False where time ran out first."""
        return self.hooks.settle(timeout)

    def calls_seen(self, operation: str = "") -> list[Seen]:
        """Return the requests to the API, audio left out, or those of one operationId."""
        return [row for row in list(self.requests) if row.operation and operation in ("", row.operation)]

    def reset(self) -> None:
        """Go back to an empty account with default options, no faults and no subscriptions."""
        self.clock.clear()
        self.hooks.clear()
        self.faults.clear()
        vars(self.options).update(vars(Options()))
        with self._lock:
            for kept in (self.lost, self.requests, self.rang, self.extra_files, self._last, self._call_ids):
                kept.clear()
            self._fill()

    def close(self) -> None:
        """End the threads of clock and webhooks."""
        self.clock.close()
        self.hooks.close()
