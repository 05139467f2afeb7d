"""Plain rows for bulk lists, made from the id alone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from dev.simulator.resources import Item

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_BASE = datetime(2026, 1, 5, 8, 0, tzinfo=UTC)
_FIRST_NAMES = ("Anna", "Jānis", "Līga", "Mārtiņš", "Ieva", "Kristaps", "Žanete")
_LAST_NAMES = ("Bērziņa", "Kalniņš", "Ozola", "Liepiņš", "Krūmiņa")


def _start(item_id: int) -> datetime:
    if 946_684_800_000_000 <= item_id <= 4_102_444_800_000_000:
        return _EPOCH + timedelta(microseconds=item_id)
    return _BASE + timedelta(seconds=item_id % 10_000_000)


def _call(item_id: int) -> Item:
    start, talk = _start(item_id), 5 + item_id // 1_000_000 % 240
    return {
        "caller": f"+3712{item_id // 1_000_000 % 10_000_000:07d}",
        "destination": "67021234",
        "direction": "in",
        "status": 1,
        "callStarted": start,
        "callConnected": start + timedelta(seconds=6),
        "callEnded": start + timedelta(seconds=6 + talk),
        "contactID": 966 + item_id % 7,
    }


def _history(item_id: int) -> Item:
    return _call(item_id) | {"connectionTime": 5 + item_id // 1_000_000 % 240}


def _recording(item_id: int) -> Item:
    return _call(item_id) | {"callID": 1_524_664_459_097_344 + item_id % 1_000_000_000}


def _voicemail(item_id: int) -> Item:
    return {
        "sender": f"+3712{item_id % 10_000_000:07d}",
        "length": 3 + item_id % 90,
        "callStarted": _start(item_id),
        "voicemailBoxID": 5120,
        "voicemailBoxName": "Klientu centrs",
    }


def _contact(item_id: int) -> Item:
    return {
        "firstname": _FIRST_NAMES[item_id % len(_FIRST_NAMES)],
        "lastname": _LAST_NAMES[item_id % len(_LAST_NAMES)],
        "created": _start(item_id),
        "number": f"+3712{item_id % 10_000_000:07d}",
        "current_callerid": "67021234",
    }


_SAMPLES: Mapping[str, Callable[[int], Item]] = {
    "audio_prompts": lambda item_id: {"name": f"Prompt {item_id}"},
    "call_history": _history,
    "call_records": _recording,
    "contacts": _contact,
    "groups": lambda item_id: {"name": f"Group {item_id}", "created": _start(item_id)},
    "voicemail_boxes": lambda item_id: {"boxName": f"Box {item_id}", "created": _start(item_id)},
    "voicemails": _voicemail,
    "voip_endpoints": lambda item_id: {"name": f"Endpoint {item_id}"},
}


def sample(resource: str, item_id: int) -> Item:
    """Return realistic fields of the item with this id, always the same."""
    make = _SAMPLES.get(resource)
    return make(item_id) if make else {}
