"""Long history: a list by number over many calls against one over few, and retention against bare deletes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from dev.azurite import AzuriteProcess
from dev.bench.figures import at_least, at_most, median_ratio, seconds
from shared.api.lists import list_items
from shared.api.parameters import Given
from shared.bridge import Bridge, assemble
from shared.events import store
from shared.events.event import ReceivedEvent, check_envelope
from shared.events.table import event_named
from shared.items import index
from shared.items.intake import Intake, row_of
from shared.pbx.operations import operation
from shared.privacy.retention import expire
from shared.settings import Settings
from shared.storage.expiry import Period

if TYPE_CHECKING:
    from dev.bench.figures import Figure

# Of 200,000 calls the emulator alone would take an hour.
_MANY, _FEW = 20_000, 2_000
_LISTS = 20
_EVENTS = 2000
_RARE, _EVERY = "+37129998877", 5000
_BEGIN = datetime(2016, 1, 1, tzinfo=UTC)
_ROUNDS = 3


def figures() -> list[Figure]:
    """Both as ratios."""
    with AzuriteProcess(accounts=20) as azurite:
        many, few = (_bridge(azurite.account(number)) for number in range(2))
        for bridge, count in ((many, _MANY), (few, _FEW)):
            _fill(bridge, count)
        lists = median_ratio(lambda: _list(many), lambda: _list(few))
        others = iter(range(2, 20))
        ratio = median_ratio(
            lambda: _retain(_bridge(azurite.account(next(others)))),
            lambda: _bare(_bridge(azurite.account(next(others)))),
            _ROUNDS,
        )
    return [
        at_most(f"List by number with {_MANY:,} calls", f"with {_FEW:,} calls", lists, 1.5),
        at_least("Retention of events", "bare deletes of as many rows in batches", 1 / ratio, 0.7),
    ]


def _bridge(connection_string: str) -> Bridge:
    environment = {"DataStorage": connection_string, "PBX_BASE_URL": "http://127.0.0.1:9/", "PBX_API_KEY": "bench"}
    bridge = assemble(Settings.from_env(environment))
    bridge.storage.ready()
    return bridge


def _call(number: int, count: int) -> dict[str, Any]:
    rare = number in (count // 3, count // 2, 7)
    return {"callID": number, "caller": _RARE if rare else f"2777{number % _EVERY:04d}", "destination": "67000123"}


def _fill(bridge: Bridge, count: int) -> None:
    intake = Intake(bridge.storage, "call_history")
    intake.add([row_of(number, _call(number, count), baseline=True) for number in range(1, count + 1)], _BEGIN)
    listed = {number: _call(number, count) for number in range(1, count + 1)}
    index.add(
        bridge.storage, "call_history", {id: item for id, item in listed.items() if item["caller"] == _RARE}, "LV"
    )


def _list(bridge: Bridge) -> float:
    row, given = operation("GetCallHistory"), Given(query={"source": _RARE})

    def ask() -> None:
        for _ in range(_LISTS):
            if len(list_items(bridge, row, given, "").body["data"]) != 3:
                raise RuntimeError("the list is not what it should be")

    return seconds(ask)


def _written(bridge: Bridge) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Events of long ago, as rows of tables `events` and `feed`, that are stored."""
    events, feed = [], []
    kind = event_named("CallStarted")
    for number in range(_EVENTS):
        envelope, data = check_envelope(kind, {"data": {**_call(number + 1, 1), "contactID": 966}})
        moment = _BEGIN + timedelta(minutes=number)
        event = ReceivedEvent(
            type=kind, id=f"e{number:051d}", data=data, envelope=envelope, origin="webhook", received=moment
        )
        row = event.row(bridge.storage, "LV")
        events.append({**row, "PartitionKey": store.PARTITION, "RowKey": event.id})
        feed.append({**row, "PartitionKey": store.FEED, "RowKey": store.place(row)})
    for table, rows in ((store.TABLE, events), (store.FEED, feed)):
        for start in range(0, len(rows), 100):
            bridge.storage.table(table).submit_transaction([("create", row) for row in rows[start : start + 100]])
    return events, feed


def _retain(bridge: Bridge) -> float:
    _written(bridge)
    return seconds(lambda: expire(bridge.storage, Period(None, datetime.now(UTC)), dry=False, seconds=600))


def _bare(bridge: Bridge) -> float:
    tables = zip((store.TABLE, store.FEED), _written(bridge), strict=True)

    def delete() -> None:
        for table, rows in tables:
            keys = [{"PartitionKey": row["PartitionKey"], "RowKey": row["RowKey"]} for row in rows]
            for start in range(0, len(keys), 100):
                bridge.storage.table(table).submit_transaction([("delete", key) for key in keys[start : start + 100]])

    return seconds(delete)
