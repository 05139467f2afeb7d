"""Each row says which version wrote it, and what a newer release wrote is not misread, whoever reads it."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from shared.calls.cases import open_cases
from shared.deliveries.drain import drain
from shared.deliveries.fanout import event_of_row
from shared.deliveries.outbox import Outbox
from shared.errors import NewerRelease
from shared.events.store import feed_bounds, feed_page
from shared.items import reader as items
from shared.polling.poll import poll
from shared.polling.sweep import sweep
from shared.storage import rows
from shared.storage.account import TABLES
from shared.storage.versions import VERSION
from shared.subscriptions.store import Subscriptions, subscriptions
from shared.times import now
from tests.golden import scene
from tests.polls import CALLS, bridge_to

if TYPE_CHECKING:
    from collections.abc import Callable

    from dev.simulator import Simulator
    from shared.bridge import Bridge
    from shared.settings import Settings


@pytest.fixture
def bridge(pbx: Simulator, settings: Settings) -> Bridge:
    """One whose tables have rows of all that is written in transactions."""
    bridge = bridge_to(pbx, settings)
    bridge.storage.create_all()
    poll(bridge, CALLS)
    pbx.bulk(CALLS.name, 3)
    poll(bridge, CALLS)
    sweep(bridge, at=now() + timedelta(minutes=5))
    scene(bridge)
    (one,) = subscriptions(bridge).all()
    drain(bridge, one.id)
    subscriptions(bridge).note_shown(one.id)
    waits = {"PartitionKey": "lost", "RowKey": "x", "open": True, "callerid": "", "destination": "67000123"}
    rows.put(bridge.storage.table("cases"), waits)
    return bridge


def test_every_row_says_its_version(bridge: Bridge) -> None:
    for table in TABLES:
        for row in bridge.storage.table(table).list_entities():
            assert row.get("v") == VERSION, (table, row["PartitionKey"], row["RowKey"], dict(row))


def _one(bridge: Bridge) -> str:
    return next(iter(Subscriptions(bridge.storage).all())).id


def _feed(bridge: Bridge) -> Any:
    found, _ = feed_page(bridge.storage, feed_bounds(now() - timedelta(days=9999), now()), None, 9)
    return [event_of_row(bridge, row) for row in found]


READERS: tuple[tuple[str, Callable[[Bridge], Any]], ...] = (
    ("subscriptions", lambda bridge: Subscriptions(bridge.storage).all()),
    ("deliveries", lambda bridge: Outbox(bridge.storage, _one(bridge)).read(now() + timedelta(days=9))),
    ("deliveries", lambda bridge: Outbox(bridge.storage, _one(bridge)).state()),
    ("resources", lambda bridge: items.known(bridge.storage, CALLS.name)),
    ("resources", lambda bridge: items.arrived_after(bridge.storage, CALLS.name, "", 9)),
    ("feed", _feed),
    ("cases", lambda bridge: open_cases(bridge.storage)),
)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("table", "read"), READERS, ids=[f"{table} {number}" for number, (table, _) in enumerate(READERS)]
)
def test_what_a_newer_release_wrote_is_read_by_nobody_as_ours(
    table: str, read: Callable[[Bridge], Any], bridge: Bridge
) -> None:
    read(bridge)
    client = bridge.storage.table(table)
    for row in client.list_entities():
        client.update_entity({**row, "v": VERSION + 1})
    with pytest.raises(NewerRelease):
        read(bridge)


def test_a_deletion_in_a_transaction_has_no_version(bridge: Bridge) -> None:
    table, keys = bridge.storage.table("events"), {"PartitionKey": "p", "RowKey": "r"}
    rows.transact(table, [("create", keys | {"n": 1}), ("create", keys | {"RowKey": "s"})])
    rows.transact(table, [("delete", keys), ("update", keys | {"RowKey": "s", "n": 2}, {"mode": "merge"})])
    (row,) = table.query_entities("PartitionKey eq 'p'")
    assert json.loads(json.dumps(dict(row))) == keys | {"RowKey": "s", "n": 2, "v": VERSION}
