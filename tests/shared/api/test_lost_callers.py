"""Lost callers over HTTP: those who wait first, and as files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shared.api.calls import read_lost
from shared.api.operations import GET_LOST_CALLERS
from shared.api.parameters import Request
from shared.api.sheets import File
from shared.calls import lost_callers
from shared.events.event import ReceivedEvent, check_envelope
from shared.events.table import event_id, event_named
from shared.times import iso, now

if TYPE_CHECKING:
    from shared.bridge import Bridge


def lost(bridge: Bridge, caller: str) -> str:
    """Have a caller reach nobody; the id of its row."""
    row, moment = event_named("LostCallerAdded"), now()
    data = {"callerid": caller, "destination": "67021234", "attempts": 2, "last_contact": iso(moment)}
    envelope, checked = check_envelope(row, {"data": data})
    id = event_id(row, checked, "LV")
    lost_callers.identified(
        bridge, ReceivedEvent(type=row, id=id, data=checked, envelope=envelope, origin="webhook", received=moment)
    )
    return lost_callers.key(bridge.storage, caller, "67021234", "LV")


def listed(bridge: Bridge, **query: str) -> list[dict[str, Any]]:
    found = read_lost(bridge, GET_LOST_CALLERS, Request(query=query))
    assert isinstance(found, dict)
    return list(found["data"])


def test_those_who_wait_come_first(bridge: Bridge) -> None:
    closed, waits = lost(bridge, "29411870"), lost(bridge, "22004716")
    lost_callers.close(bridge.storage, closed, now(), "key: wrote a mail")
    assert [item["id"] for item in listed(bridge)] == [waits, closed]
    assert [item["id"] for item in listed(bridge, open="true")] == [waits]
    (item,) = listed(bridge, number="+371 29 411 870", open="false")
    assert (item["note"], item["attempts"], item["open"]) == ("key: wrote a mail", 2, False)
    assert item["closed"]
    file = read_lost(bridge, GET_LOST_CALLERS, Request(query={"format": "csv"}))
    assert isinstance(file, File)
    assert file.name == "lost_callers.csv"
    assert "+37122004716" in file.content.decode("utf-8-sig")
