"""Calls and their events, for tests that read them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from shared.calls.store import Calls
from shared.times import iso, parse_time
from tests.events import received

RINGS = timedelta(seconds=8)


def add_call(
    stories: Calls,
    started: str,
    *,
    caller: str,
    destination: str = "67021234",
    employee: int,
    talks: int = 0,
    out: bool = False,
) -> int:
    """Merge a call that is over into the stories; its callID spells its start."""
    begin = parse_time(started)
    connected = begin + RINGS
    data: dict[str, Any] = {
        "callID": int(begin.timestamp() * 1_000_000),
        "caller": caller,
        "destination": destination,
        "direction": "out" if out else "in",
        "contactID": employee,
        "callStarted": iso(begin),
    }
    end = {"callEnded": iso(connected + timedelta(seconds=talks))}
    answered = {"callConnected": iso(connected), "connectionTime": talks} if talks else {}
    for name, more in (("CallStarted", {}), ("CallCompleted", end | answered)):
        stories.merge(data["callID"], received(name, at=connected, **data | more))
    return int(data["callID"])
