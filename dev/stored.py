"""Store items as a poll does, for benchmarks and tests."""

from __future__ import annotations

from datetime import datetime

from shared import people
from shared.items.content import content_hash
from shared.items.store import Change, Item, pointers, write
from shared.pbx.operations import operation
from shared.pbx.resources import resource
from shared.storage.account import Storage
from shared.times import now
from shared.values import identifier


def put(storage: Storage, name: str, *items: Item, moment: datetime | None = None, arrives: bool = True) -> None:
    """Store new items of a resource, with their pointers in the index."""
    row, shape = resource(name), operation(resource(name).read_operation).item
    named = {identifier(item[row.id_field]) or 0: item for item in items}
    people.add(storage, {one for id, item in named.items() for one in pointers(name, id, item, "LV")})
    changes = [
        Change(id=id, item=item, hash=content_hash(item, shape, "LV"), arrives=arrives) for id, item in named.items()
    ]
    write(storage, name, changes, moment or now())
