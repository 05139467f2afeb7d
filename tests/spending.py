"""A process that takes calls from the PBX's budget as its arguments say, and prints what it got and what that cost."""

from __future__ import annotations

import json
import sys
import threading
import time
from typing import Any

from shared.errors import BudgetExhausted
from shared.pbx.budget import Budget
from shared.settings import StorageAccount
from shared.storage.account import Storage
from tests.counting import counted


def spend(plan: dict[str, Any]) -> dict[str, Any]:
    """
    Take tokens in the plan's lanes for so many seconds; returns each grant as [lane, monotonic time, wait].

    A plan: connection, account, seconds, scale, and lanes as {lane: [threads, seconds between takes]}.
    """
    storage = Storage(StorageAccount(connection_string=plan["connection"]))
    adapter = counted(storage)
    budget = Budget(storage, plan["account"], window=60 * plan["scale"])
    stop = time.monotonic() + plan["seconds"]
    grants: list[tuple[str, float, float]] = []
    denied: list[tuple[str, float]] = []

    def draw(lane: str, pause: float) -> None:
        while (began := time.monotonic()) < stop:
            try:
                budget.take(lane)
                grants.append((lane, time.monotonic(), time.monotonic() - began))
            except BudgetExhausted as error:
                denied.append((lane, time.monotonic() - began))
                threading.Event().wait(error.retry_after)
            threading.Event().wait(pause)

    crew = [
        threading.Thread(target=draw, args=(lane, pause))
        for lane, (threads, pause) in plan["lanes"].items()
        for _ in range(threads)
    ]
    for thread in crew:
        thread.start()
    for thread in crew:
        thread.join()
    return {"grants": grants, "denied": denied, "operations": adapter.count}


if __name__ == "__main__":
    json.dump(spend(json.loads(sys.argv[1])), sys.stdout)
