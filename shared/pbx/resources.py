"""The resources that are polled: one table for all pollers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.pbx.operations import operation
from shared.schedules import SCHEDULES, polls

if TYPE_CHECKING:
    from shared.pbx.operation import Operation


@dataclass(frozen=True, kw_only=True, slots=True)
class Resource:
    """
    A row: the resource's name in the PBX's paths, its two operations, and what identifies an item.

    `noun` begins the names of its events. `editable` items change and go, so that a full listing compares them; the
    others stay as they are once they have happened. `withdrawn` is the event that the PBX sends when one of them is
    deleted. The `title` of an item is made of these fields, where it has one.
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

    @property
    def dated(self) -> bool:
        """Whether its list can be narrowed by date."""
        return {"date_from", "date_to"} <= _names(operation(self.list_operation), "query")

    @property
    def list_action(self) -> str:
        """The operationId of the action that looks its items up."""
        return f"List{self.list_operation.removeprefix('Get')}"

    @property
    def function(self) -> str:
        """The name of the timer function that polls it."""
        return "Poll" + "".join(word.capitalize() for word in self.name.split("_"))

    @property
    def schedule(self) -> str:
        """The name of the setting with its schedule."""
        return polls(self.name)

    @property
    def cursor_parameter(self) -> str:
        """The list's parameter that asks for greater ids only."""
        return f"initial_{self.id_parameter}"


RESOURCES: tuple[Resource, ...] = (
    Resource(
        name="audio_prompts",
        noun="AudioPrompt",
        list_operation="GetAudioPrompts",
        read_operation="GetAudioPromptByID",
        id_field="id",
        id_parameter="prompt_id",
        editable=True,
        title=("name",),
    ),
    Resource(
        name="call_history",
        noun="Call",
        list_operation="GetCallHistory",
        read_operation="GetCallHistoryItemByID",
        id_field="callID",
        id_parameter="call_id",
    ),
    Resource(
        name="call_records",
        noun="Recording",
        list_operation="GetCallRecordings",
        read_operation="GetCallRecordingByID",
        id_field="recordingID",
        id_parameter="record_id",
    ),
    Resource(
        name="contacts",
        noun="Contact",
        list_operation="GetContacts",
        read_operation="GetContactsByID",
        id_field="contactID",
        id_parameter="contact_id",
        editable=True,
        title=("firstname", "lastname"),
    ),
    Resource(
        name="groups",
        noun="Group",
        list_operation="GetGroups",
        read_operation="GetGroupByID",
        id_field="groupID",
        id_parameter="group_id",
        editable=True,
        title=("name",),
    ),
    Resource(
        name="voicemail_boxes",
        noun="VoicemailBox",
        list_operation="GetVoicemailBoxes",
        read_operation="GetVoicemailBoxByID",
        id_field="voicemailBoxID",
        id_parameter="box_id",
        editable=True,
        title=("boxName",),
    ),
    Resource(
        name="voicemails",
        noun="Voicemail",
        list_operation="GetVoicemails",
        read_operation="GetVoicemailByID",
        id_field="voicemailID",
        id_parameter="voicemail_id",
        withdrawn="VoicemailDeleted",
    ),
    Resource(
        name="voip_endpoints",
        noun="VoipEndpoint",
        list_operation="GetVoipEndpoints",
        read_operation="GetVoipEndpointByID",
        id_field="id",
        id_parameter="endpoint_id",
        editable=True,
        title=("name",),
    ),
)


def _names(row: Operation, where: str) -> set[str]:
    return {parameter.name for parameter in row.parameters if parameter.where == where}


def _check(rows: tuple[Resource, ...]) -> dict[str, Resource]:
    schedules = {name for name, _, _ in SCHEDULES}
    for row in rows:
        listing, reading = operation(row.list_operation), operation(row.read_operation)
        query = _names(listing, "query")
        right = (
            listing.lists
            and not reading.lists
            and listing.item == reading.item
            and {row.id_parameter, row.cursor_parameter} <= query
            and _names(reading, "path") == {row.id_parameter}
            and row.id_field in {field.name for field in reading.item}
            and row.schedule in schedules
        )
        if not right:
            raise ValueError(f"resource {row.name} does not agree with its operations or has no schedule")
    known = {row.name: row for row in rows}
    if len(known) != len(rows):
        raise ValueError("two resources have the same name")
    return known


_BY_NAME = _check(RESOURCES)


def resource(name: str) -> Resource:
    """The resource of this name; raises KeyError with the known names for any other."""
    try:
        return _BY_NAME[name]
    except KeyError:
        raise KeyError(f"{name} is not one of {', '.join(_BY_NAME)}") from None
