"""The table of polled resources."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from shared.pbx.fields import Shape
from shared.pbx.operations import OPERATIONS, operation
from shared.settings import SCHEDULES, polls


@dataclass(frozen=True, kw_only=True, slots=True)
class Resource:
    """
    A row of RESOURCES: a name in the PBX's paths, two operations, and the field and parameter with an item's id.

    The names of its events begin with `noun`. `editable` items change and are deleted, and are polled as a whole list;
    other items are history. `withdrawn` is the PBX's event for a deleted item of history. `title` are the fields that
    make up an item's title.
    """

    name: str
    noun: str
    list_operation: str
    read_operation: str
    id_field: str
    id_parameter: str
    editable: bool = False
    withdrawn: str | None = None
    title: tuple[str, ...] = ()

    def event(self, happened: str) -> str | None:
        """Return the name of the event for an item that was Created, Updated or Removed, or None."""
        if self.editable and happened:
            return f"{self.noun}{happened}"
        return self.withdrawn if happened == "Removed" else None

    @property
    def shape(self) -> Shape:
        """Return the fields of its items."""
        return operation(self.read_operation).item

    @property
    def list_action(self) -> str:
        """Return the operationId of the action that finds its items in storage."""
        return f"List{self.list_operation.removeprefix('Get')}"

    @property
    def function(self) -> str:
        """Return the name of the timer function that polls it."""
        return "Poll" + "".join(word.capitalize() for word in self.name.split("_"))

    @property
    def schedule(self) -> str:
        """Return the name of the setting with its schedule."""
        return polls(self.name)

    @property
    def cursor_parameter(self) -> str:
        """Return the name of the list's parameter for greater ids only."""
        return f"initial_{self.id_parameter}"


def _polled(name: str, noun: str, id_field: str, **options: Any) -> Resource:
    """
    Return the row of a resource, with its operations: the list under `trigger/` and the read by id.

    Raises ValueError if the two do not agree, if there is no schedule, or if a list of history has no filters by date.
    """
    listing = next((row for row in OPERATIONS if row.path == f"trigger/{name}"), None)
    reading = next((row for row in OPERATIONS if re.fullmatch(rf"{name}/{{\w+}}", row.path)), None)
    if listing is None or reading is None:
        raise ValueError(f"OPERATIONS has no list of {name}, or no read by id")
    (id_parameter,) = (parameter.name for parameter in reading.parameters)
    options |= {"list_operation": listing.id, "read_operation": reading.id}
    row = Resource(name=name, noun=noun, id_field=id_field, id_parameter=id_parameter, **options)
    narrowed = {id_parameter, row.cursor_parameter} | (set() if row.editable else {"date_from", "date_to"})
    agree = listing.lists and not reading.lists and listing.item == reading.item
    is_found = narrowed <= {parameter.name for parameter in listing.parameters}
    has_id = id_field in {field.name for field in reading.item}
    if not (agree and is_found and has_id and row.schedule in {name for name, _, _ in SCHEDULES}):
        raise ValueError(f"resource {name} does not agree with its operations or has no schedule")
    return row


RESOURCES: tuple[Resource, ...] = (
    _polled("audio_prompts", "AudioPrompt", "id", editable=True, title=("name",)),
    _polled("call_history", "Call", "callID"),
    _polled("call_records", "Recording", "recordingID"),
    _polled("contacts", "Contact", "contactID", editable=True, title=("firstname", "lastname")),
    _polled("groups", "Group", "groupID", editable=True, title=("name",)),
    _polled("voicemail_boxes", "VoicemailBox", "voicemailBoxID", editable=True, title=("boxName",)),
    _polled("voicemails", "Voicemail", "voicemailID", withdrawn="VoicemailDeleted"),
    _polled("voip_endpoints", "VoipEndpoint", "id", editable=True, title=("name",)),
)
# Not a row of RESOURCES: lost callers have no id, and are stored by their events.
LOST_CALLS = Resource(
    name="lost_calls",
    noun="LostCaller",
    list_operation="GetLostCalls",
    read_operation="GetLostCalls",
    id_field="callerid, destination",
    id_parameter="destination",
)
_BY_NAME = {row.name: row for row in (*RESOURCES, LOST_CALLS)}


def resource(name: str) -> Resource:
    """Return the resource of a name; raises KeyError for any other."""
    return _BY_NAME[name]
