"""Calls: plan them, and make their webhooks, list items and lost callers as time passes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from dev.simulator.audio import AudioFile, token_for
from dev.simulator.pbx import Pbx
from dev.simulator.wire import Item

RINGING, TALKING, ENDED, MISSED = 1, 2, 3, 4
_DIAL_RINGS, _DIAL_TALKS = 1.0, 2.0  # seconds


@dataclass
class Call:
    """A planned call; the ids of its recording and voicemail are assigned in advance."""

    id: int
    caller: str
    destination: str
    direction: str
    contact_ids: tuple[int, ...]  # everyone who rings; the first one answers
    started: datetime
    connected: datetime | None
    ended: datetime
    transfers: tuple[int, ...] = ()
    recording_id: int | None = None
    voicemail_id: int | None = None
    previous: int | None = None

    @property
    def contact_id(self) -> int | None:
        """The employee of the call: the first contact, or after transfers the last one."""
        return self.contact_ids[0] if self.contact_ids else None

    def data(self, status: int, contact_id: int | None, now: datetime) -> Item:
        """Return the fields of all events of this call."""
        connected = self.connected if self.connected and status != RINGING else None
        return {
            "callID": self.id,
            "caller": self.caller,
            "destination": self.destination,
            "direction": self.direction,
            "status": status,
            "callStarted": self.started,
            "callConnected": connected,
            "connectionTime": int((now - connected).total_seconds()) if connected else 0,
            "contactID": contact_id,
            "previous_contactID": self.previous,
        }


def place(
    pbx: Pbx,
    caller: str,
    destination: str,
    *,
    contact_id: int | None = None,
    direction: str = "in",
    rings: float = 5.0,
    talks: float = 20.0,
    recorded: bool = False,
    transferred_to: int | Sequence[int] = (),
    voicemail: bool = False,
    group: Sequence[int] = (),
    at: float | datetime = 0.0,
    recording_delay: float = 2.0,
    audio: dict[str, Any] | None = None,
) -> Call:
    """
    Plan a call and return it; its events and items are made when the clock reaches them.

    `at`: seconds from now, or a moment. `talks`: seconds, 0 if nobody answers. `group`: contacts whose phones ring;
    `contact_id` answers. `transferred_to`: contacts in turn, spread over the talk. `audio`: fields of the AudioFile.
    """
    start = at if isinstance(at, datetime) else pbx.clock.now() + timedelta(seconds=at)
    connected = start + timedelta(seconds=rings) if talks > 0 else None
    contacts = tuple(dict.fromkeys((*(() if contact_id is None else (contact_id,)), *group)))
    call = Call(
        pbx.new_id("call_history", start),
        caller, destination, direction, contacts,
        start, connected, start + timedelta(seconds=rings + max(talks, 0)),
        (transferred_to,) if isinstance(transferred_to, int) else tuple(transferred_to),
        pbx.new_id("call_records") if recorded and connected else None,
        pbx.new_id("voicemails") if voicemail and not connected else None,
    )  # fmt: skip
    _schedule(pbx, call, recording_delay, audio or {})
    return call


def _schedule(pbx: Pbx, call: Call, delay: float, audio: dict[str, Any]) -> None:
    steps = [(call.started, lambda: _start(pbx, call))]
    if call.connected:
        steps.append((call.connected, lambda: _connect(pbx, call)))
        share = (call.ended - call.connected) / (len(call.transfers) + 1)
        for turn, contact in enumerate(call.transfers, 1):
            moment = call.connected + share * turn
            steps.append((moment, lambda contact=contact: _transfer(pbx, call, contact)))  # type: ignore[misc]
    steps.append((call.ended, lambda: _end(pbx, call)))
    after = call.ended + timedelta(seconds=delay)
    if call.recording_id is not None:
        steps.append((after, lambda: _record(pbx, call, audio)))
    if call.voicemail_id is not None:
        steps.append((after, lambda: _leave_message(pbx, call, audio)))
    for moment, step in steps:
        pbx.clock.at(moment, step)


def _start(pbx: Pbx, call: Call) -> None:
    for contact in call.contact_ids or (None,):
        pbx.hooks.emit("CallStarted", call.data(RINGING, contact, pbx.clock.now()))


def _connect(pbx: Pbx, call: Call) -> None:
    pbx.hooks.emit("CallConnected", call.data(TALKING, call.contact_id, pbx.clock.now()))


def _transfer(pbx: Pbx, call: Call, contact: int) -> None:
    call.previous = call.contact_id
    call.contact_ids = (contact,)
    pbx.hooks.emit("CallTransfered", call.data(TALKING, contact, pbx.clock.now()))


def _end(pbx: Pbx, call: Call) -> None:
    status = ENDED if call.connected else MISSED
    fields = call.data(status, call.contact_id, call.ended)
    previous = fields.pop("previous_contactID")
    pbx.add("call_history", call.id, **fields | {"callEnded": call.ended, "recordingID": call.recording_id})
    rung = call.contact_ids[:1] if call.connected else call.contact_ids
    for contact in rung or (None,):
        data = fields | {"contactID": contact, "previous_contactID": previous}
        pbx.hooks.emit("CallCompleted", data)
    _update_lost(pbx, call)


def _update_lost(pbx: Pbx, call: Call) -> None:
    outsider, line = (call.caller, call.destination) if call.direction == "in" else (call.destination, call.caller)
    if not outsider.lstrip("+").isdigit():
        return
    if call.connected:
        for key in [key for key in pbx.lost if key[0] == outsider]:
            pbx.lost.pop(key)
            pbx.hooks.emit("LostCallerRemoved", {"callerid": key[0], "destination": key[1]})
    elif call.direction == "in":
        known = pbx.lost.get((outsider, line))
        record = {
            "contact_name": _name(pbx, outsider),
            "destination": line,
            "attempts": known["attempts"] + 1 if known else 1,
            "callerid": outsider,
            "last_contact": call.started,
        }
        pbx.lost[outsider, line] = record
        pbx.hooks.emit("LostCallerUpdated" if known else "LostCallerAdded", record)


def _name(pbx: Pbx, number: str) -> str:
    contact = next((row for row in pbx.rows["contacts"].values() if row["number"] == number), None)
    return f"{contact['firstname']} {contact['lastname']}".strip() if contact else ""


def _record(pbx: Pbx, call: Call, audio: dict[str, Any]) -> None:
    number = call.recording_id or 0
    file = AudioFile(token_for("call_records", number), **{"tone": number % 7} | audio)
    fields = call.data(ENDED, call.contact_id, call.ended) | {"callEnded": call.ended, "recordingURL": file}
    seconds = fields.pop("connectionTime")
    fields.pop("previous_contactID")
    pbx.add("call_records", number, **fields)
    pbx.hooks.emit("CallRecorded", fields | {"recordingID": number, "connectionTime": seconds})


def _leave_message(pbx: Pbx, call: Call, audio: dict[str, Any]) -> None:
    number = call.voicemail_id or 0
    boxes = pbx.rows["voicemail_boxes"]
    box_id = min(boxes, default=None)
    if box_id is None:
        box_id = pbx.add("voicemail_boxes", boxName="Klientu centrs")
    box = boxes.get(box_id) or {}
    fields = {
        "sender": call.caller,
        "length": 9,
        "callStarted": call.started,
        "voicemailBoxID": box_id,
        "voicemailBoxName": box.get("boxName", ""),
        "messageURL": AudioFile(token_for("voicemails", number), **{"tone": number % 7} | audio),
    }
    pbx.add("voicemails", number, **fields | {"_contactID": call.contact_id})
    pbx.hooks.emit("VoicemailCreated", fields | {"voicemailID": number})


def delete_voicemail(pbx: Pbx, voicemail_id: int) -> None:
    """Delete a voicemail as a user does, with its event, and keep its audio; KeyError for an unknown one."""
    item = pbx.item("voicemails", voicemail_id)
    pbx.remove("voicemails", voicemail_id)
    pbx.hooks.emit("VoicemailDeleted", item)


def place_dial(pbx: Pbx, destination: str, contact_id: int) -> Call:
    """Plan an outgoing call from the phone of an employee."""
    number = pbx.item("contacts", contact_id)["number"]
    call = place(pbx, number, destination, contact_id=contact_id, direction="out", rings=_DIAL_RINGS, talks=_DIAL_TALKS)
    pbx.rang.append(call)
    return call
