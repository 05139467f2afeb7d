"""The scripted day: rows of calls that the clock plays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from dev.simulator.calls import delete_voicemail, place
from dev.simulator.pbx import Pbx
from dev.simulator.resources import EVENTS, RESOURCES

_MAIN_LINE = "67021234"
_CLIENTS = ("+37129411870", "26188902", "+37122004716", "29330145", "+37120177453", "+37127771153")


@dataclass(frozen=True)
class Planned:
    """One call of the day; contacts are first names, times are in seconds unless named otherwise."""

    minute: float
    caller: str
    contact: str = ""
    rings: float = 7
    talks: float = 0
    destination: str = _MAIN_LINE
    group: tuple[str, ...] = ()
    transferred_to: tuple[str, ...] = ()
    plan: Mapping[str, Any] = field(default_factory=dict)  # further arguments of the call
    drops: str = ""  # the event of this call that is not delivered
    message_deleted_after: float = 0  # minutes


_DEMO_CONTACTS = (("Anna", "Bērziņa", "26550101"), ("Jānis", "Kalniņš", "26550102"), ("Līga", "Ozola", "26550103"))
_LATE = {"ready_tries": 1}
_DEMO_CALLS = (
    Planned(0, _CLIENTS[0], "Līga", talks=118 * 60),
    Planned(4, _CLIENTS[1], "Anna", talks=95, plan={"recorded": True}),
    Planned(12, _CLIENTS[2], rings=20, group=("Anna", "Jānis")),
    Planned(21, _CLIENTS[2], "Jānis", rings=25, plan={"voicemail": True}, message_deleted_after=80),
    Planned(34, _CLIENTS[3], "Anna", talks=240, transferred_to=("Jānis",), plan={"recorded": True, "audio": _LATE}),
    Planned(47, "26550102", "Jānis", talks=64, destination=_CLIENTS[2], plan={"direction": "out"}),
    Planned(63, "", "Anna", talks=31),
    Planned(80, _CLIENTS[4], "Jānis", talks=42, plan={"recorded": True}, drops="CallCompleted"),
    Planned(121, _CLIENTS[5], "Anna", rings=25),
)
_DEMO_MINUTES = 125


def demo(pbx: Pbx) -> None:
    """
    Plan two hours with all events, a long call, one lost webhook, and a caller who waits at the end.

    They end about now, so that no time is in the future.
    """
    pbx.clock.set(pbx.clock.now() - timedelta(minutes=_DEMO_MINUTES))
    contacts = {
        first: pbx.add_contact(first, last, number, current_callerid=_MAIN_LINE)
        for first, last, number in _DEMO_CONTACTS
    }
    pbx.add_group("Pārdošana", [contacts["Anna"], contacts["Jānis"]])
    pbx.add("voicemail_boxes", boxName="Klientu centrs")
    pbx.add("audio_prompts", name="Sveiciens darba laikā")
    pbx.add("voip_endpoints", name="Birojs 2. stāvs", employee_id=contacts["Līga"])
    begin = pbx.clock.now()
    for row in _DEMO_CALLS:
        _plan(pbx, row, begin, contacts)
    for name, resource in RESOURCES.items():
        if resource.editable and not pbx.rows[name]:
            pbx.add(name)
    pbx.clock.at(begin + timedelta(minutes=_DEMO_MINUTES), lambda: _post_others(pbx))


def _plan(pbx: Pbx, row: Planned, begin: datetime, contacts: Mapping[str, int]) -> None:
    call = place(
        pbx,
        row.caller,
        row.destination,
        at=begin + timedelta(minutes=row.minute),
        contact_id=contacts.get(row.contact),
        rings=row.rings,
        talks=row.talks,
        group=[contacts[name] for name in row.group],
        transferred_to=[contacts[name] for name in row.transferred_to],
        **row.plan,
    )
    if row.drops:
        faults = pbx.hooks.faults
        pbx.clock.at(call.ended - timedelta(seconds=1), lambda: faults.add("drop", row.drops, times=1))
    if row.message_deleted_after and call.voicemail_id is not None:
        number = call.voicemail_id
        deleted = call.ended + timedelta(minutes=row.message_deleted_after)
        pbx.clock.at(deleted, lambda: delete_voicemail(pbx, number))


def _post_others(pbx: Pbx) -> None:
    """Post each event that the script does not cause, once, with the fields of the day's items."""
    known = {name: value for rows in pbx.rows.values() for item in rows.values() for name, value in item.items()}
    for name, event in EVENTS.items():
        if name not in pbx.hooks.happened:
            pbx.hooks.emit(name, dict.fromkeys(event.key, 1) | known)
