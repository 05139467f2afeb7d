"""The state of the simulated PBX: items, clock, webhooks, faults and the requests so far."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from dev.simulator.audio import AudioFile, token_for
from dev.simulator.clock import Clock
from dev.simulator.faults import Faults
from dev.simulator.resources import FIELDS, FIRST_IDS, RESOURCES, is_clocked
from dev.simulator.webhooks import Subscription, Webhooks
from dev.simulator.wire import Item, Options, Seen, shown

if TYPE_CHECKING:
    from dev.simulator.calls import Call

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_BULK_BEGIN = datetime(2026, 1, 5, 8, tzinfo=UTC)


class Pbx:
    """All state of one simulated account; thread-safe."""

    def __init__(self, api_key: str = "demo-key", workers: int = 4) -> None:
        self.api_key = api_key
        self.url = ""
        self.clock = Clock()
        self.options = Options()
        self.faults = Faults()
        self.hooks = Webhooks(self.options, self.wire, workers)
        self.rows: dict[str, dict[int, Item]] = {name: {} for name in RESOURCES}
        self.lost: dict[tuple[str, str], Item] = {}
        self.requests: list[Seen] = []
        self.rang: list[Call] = []  # calls made by dials
        self.files: dict[str, AudioFile] = {}  # by the token in their links
        self._lock = threading.RLock()
        self._last: dict[str, int] = {}
        self._call_ids: set[int] = set()

    def _complete(self, resource: str, item_id: int, fields: Item) -> Item:
        item = FIELDS[resource] | fields | {RESOURCES[resource].id_field: item_id}
        for name in ("recordingURL", "messageURL"):
            if name in item:
                if not isinstance(item[name], AudioFile):
                    item[name] = AudioFile(token_for(resource, item_id), tone=item_id % 7)
                self.files[item[name].token] = item[name]
        return item

    def new_id(self, resource: str, started: datetime | None = None) -> int:
        """Return an unused id; a call's id is its start in microseconds."""
        with self._lock:
            last = self._last.get(resource, 0)
            if is_clocked(resource):
                # Calls are numbered by their start alone.
                new = ((started or self.clock.now()) - _EPOCH) // timedelta(microseconds=1)
                while new in self._call_ids:
                    new += 1
                self._call_ids.add(new)
            else:
                new = max(last + 1, FIRST_IDS.get(resource, 1))
            while new in self.rows[resource]:
                new += 1
            self._last[resource] = max(last, new)
            return new

    def add(self, resource: str, item_id: int | None = None, **fields: Any) -> int:
        """Add an item with defaults for missing fields, without a webhook; return its id."""
        item_id = self.new_id(resource) if item_id is None else item_id
        self._last[resource] = max(self._last.get(resource, 0), item_id if not is_clocked(resource) else 0)
        if "created" in FIELDS[resource]:
            fields.setdefault("created", self.clock.now())
        self.rows[resource][item_id] = self._complete(resource, item_id, fields)
        return item_id

    def edit(self, resource: str, item_id: int, **fields: Any) -> None:
        """Change fields of an item; KeyError for an unknown one."""
        self.rows[resource][item_id] = self.item(resource, item_id) | fields

    def remove(self, resource: str, item_id: int) -> None:
        """Remove an item, without a webhook; KeyError for an unknown one."""
        del self.rows[resource][item_id]

    def item(self, resource: str, item_id: int) -> Item:
        """Return the inner form of an item; KeyError for an unknown one."""
        return self.rows[resource][item_id]

    def wire(self, item: Item) -> Item:
        """Return the wire format of an item."""
        return shown(item, self.url, extra_fields=self.options.extra_fields)

    def view(self, resource: str, item: Item) -> Item:
        """Return the wire format of a resource's item; a contact has its groups."""
        if resource != "contacts":
            return self.wire(item)
        id, groups = item["contactID"], list(self.rows["groups"].values())
        of_contact = [group for group in groups if any(member["contactID"] == id for member in group["members"])]
        return self.wire(item) | {"group_membership": [self.wire(group) for group in of_contact]}

    def bulk(self, resource: str, count: int) -> range:
        """Add `count` plain items above the largest id, calls a second apart, and return their ids."""
        clocked = is_clocked(resource)
        step = 1_000_000 if clocked else 1
        largest = max(self.rows[resource], default=0)
        first = max(largest + step, self.new_id(resource) - (count * step if clocked else 0))
        ids = range(first, first + count * step, step)
        self.rows[resource] |= {id: self._complete(resource, id, _sample(resource, id)) for id in ids}
        self._last[resource] = max(self._last.get(resource, 0), ids[-1] if count else 0)
        return ids

    def add_contact(self, firstname: str, lastname: str = "", number: str = "", **fields: Any) -> int:
        """Add an employee and return the contactID."""
        named = {"firstname": firstname, "lastname": lastname, "number": number, "current_callerid": number}
        return self.add("contacts", fields.pop("contact_id", None), **named | fields)

    def add_group(self, name: str, members: tuple[int, ...] | list[int] = ()) -> int:
        """Add a group of contacts and return the groupID."""
        return self.add("groups", name=name, members=[{"contactID": member} for member in members])

    def file(self, resource: str, item_id: int) -> AudioFile:
        """Return the audio of a recording or voicemail, which may be removed already."""
        return self.files[token_for(resource, item_id)]

    @property
    def webhooks(self) -> list[Subscription]:
        """The existing webhooks."""
        return list(self.hooks.subscriptions.values())

    def wait_delivered(self, timeout: float = 10.0) -> bool:
        """Wait until no delivery is open; False if that takes longer than `timeout`."""
        return self.hooks.wait_delivered(timeout)

    def calls_seen(self, operation: str = "") -> list[Seen]:
        """Return the requests to the API, without audio; with `operation` those of one operationId."""
        return [row for row in list(self.requests) if row.operation and operation in ("", row.operation)]

    def reset(self) -> None:
        """Empty the account, and restore default options without faults and subscriptions."""
        self.clock.clear()
        self.hooks.clear()
        self.faults.clear()
        vars(self.options).update(vars(Options()))
        with self._lock:
            for kept in (self.lost, self.requests, self.rang, self.files, self._last, self._call_ids):
                kept.clear()
            self.rows = {name: {} for name in RESOURCES}


def _sample(resource: str, item_id: int) -> Item:
    """Return plain fields of an item, derived from its id."""
    clocked = is_clocked(resource)
    seed = item_id // 1_000_000 if clocked else item_id
    start = _EPOCH + timedelta(microseconds=item_id) if clocked else _BULK_BEGIN + timedelta(seconds=seed % 10**7)
    number, talked = f"+3712{seed % 10**7:07d}", 5 + seed % 240
    fields = {
        **dict.fromkeys(("caller", "sender", "number"), number),
        **dict.fromkeys(("callStarted", "created"), start),
        **dict.fromkeys(("name", "boxName", "lastname"), f"{resource} {item_id}"),
        "destination": "67021234",
        "callID": 1_524_664_459_097_344 + item_id % 1_000_000_000,
        "callConnected": start + timedelta(seconds=6),
        "callEnded": start + timedelta(seconds=6 + talked),
        "connectionTime": talked,
        "contactID": 966 + item_id % 7,
        "firstname": "Anna",
        "length": 3 + item_id % 90,
        "voicemailBoxID": 5120,
        "voicemailBoxName": "Klientu centrs",
    }
    return {name: value for name, value in fields.items() if name in FIELDS[resource]}
