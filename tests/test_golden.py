"""What each release wrote is read, finished and added to by the code of today."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from shared import health
from shared.events.receive import accept
from shared.events.store import feed_bounds, feed_page
from shared.events.table import event_named
from shared.pipeline.queues import CONSUMERS, consume
from shared.polling import checkpoints
from shared.storage.rows import row_key
from shared.storage.versions import VERSION
from shared.subscriptions.store import subscriptions
from shared.times import now, parse_time
from tests.golden import ENVIRONMENT, GOLDEN, fixtures, take, unpacked

if TYPE_CHECKING:
    import pathlib

    from shared.bridge import Bridge

FILES = sorted(GOLDEN.glob("*.json"))
CALL = 1524664459097344

pytestmark = pytest.mark.parametrize("file", FILES, ids=lambda file: f"version {file.stem}")


@pytest.fixture
def environment(environment: dict[str, str]) -> dict[str, str]:
    return ENVIRONMENT | {"DataStorage": environment["DataStorage"]}


def kept(file: pathlib.Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(file.read_text())
    return found


def restore(bridge: Bridge, file: pathlib.Path) -> dict[str, Any]:
    bridge.storage.create_all()
    written = kept(file)
    for table, rows in written["rows"].items():
        for row in rows:
            bridge.storage.table(table).upsert_entity({name: unpacked(value) for name, value in row.items()})
    return written


def ids(bridge: Bridge, table: str) -> list[str]:
    """The keys in a table; in the feed, those of the events' places without their copies."""
    found = bridge.storage.table(table).query_entities("RowKey lt 'n0'" if table == "feed" else "RowKey ge ''")
    return sorted(str(row["RowKey"]) for row in found)


def test_there_is_a_file_for_this_version_and_none_for_a_later_one(file: pathlib.Path) -> None:
    assert {int(one.stem) for one in FILES} == set(range(1, VERSION + 1))


def test_messages_have_their_effect(bridge: Bridge, file: pathlib.Path) -> None:
    bridge.storage.create_all()
    for body in kept(file)["messages"]["events"]:
        consume(bridge, CONSUMERS[0], body.encode(), id="", attempt=1)
    assert len(ids(bridge, "events")) == len(ids(bridge, "feed")) == len(kept(file)["messages"]["events"])
    assert not ids(bridge, "deadletters")
    assert len(take(bridge.storage, "media")) == len(kept(file)["messages"]["media"])


def test_messages_that_come_again_find_their_rows_and_change_nothing(bridge: Bridge, file: pathlib.Path) -> None:
    written = restore(bridge, file)
    before = ids(bridge, "events"), ids(bridge, "feed"), ids(bridge, "deadletters")
    for body in written["messages"]["events"]:
        consume(bridge, CONSUMERS[0], body.encode(), id="", attempt=2)
    assert (ids(bridge, "events"), ids(bridge, "feed"), ids(bridge, "deadletters")) == before
    assert not take(bridge.storage, "media")


def test_messages_of_every_queue_are_understood(bridge: Bridge, file: pathlib.Path) -> None:
    written = restore(bridge, file)
    before = ids(bridge, "deadletters")
    for consumer in CONSUMERS:
        for body in written["messages"][consumer.queue]:
            consume(bridge, consumer, body.encode(), id="", attempt=1)
    assert ids(bridge, "deadletters") == before


def test_rows_are_read_and_added_to(bridge: Bridge, file: pathlib.Path) -> None:
    written = restore(bridge, file)
    rows, _ = feed_page(bridge.storage, feed_bounds(parse_time("2018-01-01"), now()), None, 100)
    assert len(rows) == len([row for row in written["rows"]["feed"] if row["RowKey"] < "n0"])
    assert [one.event for one in subscriptions(bridge).all()] == ["CallCompleted"]
    assert [one.cursor for one in checkpoints.read_all(bridge.storage)] == [7]
    (day,) = written["rows"]["health"]
    assert health.today(bridge.storage, parse_time(day["RowKey"]))["webhooks"] == day["webhooks"]
    call = bridge.storage.table("calls").get_entity("call", row_key(CALL))
    more = json.loads(fixtures()["CallStarted"])
    more["data"] |= {"contactID": 4711}
    accept(bridge.storage, bridge.settings, event_named("CallStarted"), json.dumps(more).encode())
    for body in take(bridge.storage, "events"):
        consume(bridge, CONSUMERS[0], body.encode(), id="", attempt=1)
    after = bridge.storage.table("calls").get_entity("call", row_key(CALL))
    assert after["revision"] == call["revision"] + 1
