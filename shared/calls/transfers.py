"""Transfers of one call: A to B, B to A, and A to B again are three, though the first and the last look alike."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from shared.storage.rows import row_key
from shared.times import stamp

if TYPE_CHECKING:
    from shared.events.event import ReceivedEvent


def key(event: ReceivedEvent, region: str) -> str:
    """The row key of a call's transfers."""
    return row_key(event.data.callID)  # type: ignore[attr-defined]


def entry(event: ReceivedEvent) -> dict[str, Any]:
    """Who handed the call to whom, and when, as far as the event says."""
    pair = [_contact(event, name) for name in ("previous_contactID", "contactID")]
    return {"pair": pair, "moment": stamp(event.data.moment) if event.data.moment else ""}


def _contact(event: ReceivedEvent, name: str) -> str:
    value = getattr(event.data, name, None)
    return json.dumps(event.data.misfits.get(name) if value is None else value)


def repeated(state: dict[str, Any], entry: dict[str, Any]) -> str | None:
    """The last transfer is repeated by one of the same two, unless both say when and differ."""
    if entry["pair"] != state.get("pair"):
        return None
    times = {entry["moment"], state["moment"]} - {""}
    return state["id"] if len(times) < 2 else None


def after(state: dict[str, Any], entry: dict[str, Any]) -> dict[str, Any]:
    """The call is with whom it was handed to last."""
    return {name: entry[name] for name in ("id", "pair", "moment")}
