"""Polling new items into storage, against bare paging of the same list with batch inserts."""

from __future__ import annotations

import itertools
import json
import secrets
import statistics

import requests
from azure.data.tables import TableClient, TableServiceClient

from dev.azurite import AzuriteProcess
from dev.bench.app import App
from dev.bench.figures import Figure, at_least, at_most, seconds
from dev.simulator import SimulatorProcess
from shared.polling.run import checkpoint_of

_NEW = 10_000
_ROUNDS = 3
_PAGE, _BATCH = 1000, 100
# Rows of the index for each call: its two numbers and its employee.
_POINTERS = 3
_POLL = "PollCallHistory"
# The host needs a schedule to load a timer; runs are by hand.
_SCHEDULE = {"POLL_CALL_HISTORY_SCHEDULE": "0 0 0 1 1 *"}


def figures() -> list[Figure]:
    """Return the throughput as a ratio, and the app's CPU seconds."""
    accounts = itertools.count()
    with AzuriteProcess(accounts=2 * _ROUNDS) as azurite:
        measured = [_round(azurite, accounts) for _ in range(_ROUNDS)]
    ratio, cpu = (statistics.median(values) for values in zip(*measured, strict=True))
    name = f"Polling {_NEW:,} new items"
    return [
        at_least(f"{name} into storage", "bare paging plus batch inserts of as many rows", ratio, 0.7),
        at_most(f"{name}: CPU s, user and system", "the app's process alone", cpu, 6),
    ]


def _round(azurite: AzuriteProcess, accounts: itertools.count[int]) -> tuple[float, float]:
    """Return the bare time over the app's, and the app's CPU seconds."""
    with (
        SimulatorProcess() as pbx,
        App(azurite.account(next(accounts)), _POLL, pbx_url=pbx.base_url, pbx_key=pbx.api_key, **_SCHEDULE) as app,
    ):
        pbx.control("POST", "bulk", resource="call_history", count=1)
        app.run(_POLL)
        pbx.control("POST", "bulk", resource="call_history", count=_NEW)
        before = app.cpu()
        ours = seconds(lambda: app.run(_POLL))
        cpu = app.cpu() - before
        polled = checkpoint_of(app.storage, "call_history")
        if polled is None or polled.items != _NEW + 1:
            raise RuntimeError(f"not all items were polled: {polled}")
        bare = seconds(lambda: _bare(azurite.account(next(accounts)), pbx))
    return bare / ours, cpu


def _bare(connection: str, pbx: SimulatorProcess) -> None:
    """Page the list, and insert its items and as many index rows as the app does, a hundred at a time."""
    offset = 0
    with TableServiceClient.from_connection_string(connection) as service, requests.Session() as session:
        items, index = service.create_table("items"), service.create_table("index")
        session.headers["Authorization"] = f"Bearer {pbx.api_key}"
        while offset <= _NEW:
            query = {"initial_call_id": 0, "limit": _PAGE, "offset": offset}
            page = session.get(f"{pbx.base_url}trigger/call_history", params=query, timeout=30).json()["data"]
            offset += len(page)
            _insert(items, [{"RowKey": f"{item['callID']:020d}", "item": json.dumps(item)} for item in page])
            keys = [secrets.token_hex(20) for _ in range(_POINTERS * len(page))]
            _insert(index, [{"RowKey": f"{key}-call", "id": key} for key in keys])


def _insert(table: TableClient, rows: list[dict[str, str]]) -> None:
    for start in range(0, len(rows), _BATCH):
        table.submit_transaction([("create", {"PartitionKey": "a", **row}) for row in rows[start : start + _BATCH]])
