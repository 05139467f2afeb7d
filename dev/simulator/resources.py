"""The simulator's resources, events and operations, derived from the bridge's tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dev.simulator.lists import Filter, filters_of
from shared.events import table as events
from shared.pbx import operations
from shared.pbx import resources as polled

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shared.pbx.fields import Field
    from shared.pbx.operations import Operation as Described

BASE_PATH = "/api/v2"

_FIRST_IDS: Mapping[str, int] = {
    "audio_prompts": 310,
    "call_history": 150818921852,
    "call_records": 161204400117,
    "contacts": 966,
    "groups": 77,
    "voicemail_boxes": 5120,
    "voicemails": 171118926552,
    "voip_endpoints": 2204,
}
# An item's fields before anything is known of it, where absence is not what one sees.
_ABSENT: Mapping[str, Any] = {"integer": 0, "string": "", "date-time": None, "array": (), "object": None}
_DEFAULTS: Mapping[str, Any] = {
    "direction": "in",
    "type": 1,
    "clientID": 40017,
    "contactID": None,
    "recordingID": None,
    "voicemailBoxID": None,
    "employee_id": None,
    "recordingURL": None,
    "messageURL": None,
}
# Only history knows the end of a call.
_NEVER_POSTED = frozenset({"callEnded"})


def _default(field: Field) -> Any:
    return _DEFAULTS.get(field.name, _ABSENT[field.type])


@dataclass(frozen=True)
class Resource:
    """One kind of item: where it is read, what identifies it, the fields that every item has, and its filters."""

    row: polled.Resource
    path: str
    id_field: str
    id_parameter: str
    first_id: int
    clocked: bool  # ids are the call's start in microseconds
    fields: Mapping[str, Any]  # those of an item of which only the id is known
    filters: tuple[Filter, ...]  # the parameters that narrow the list, beside its id


def _resource(row: polled.Resource) -> Resource:
    shape = operations.operation(row.read_operation).item
    fields = {field.name: 0 if field.name == row.id_field else _default(field) for field in shape}
    parameters = (parameter.name for parameter in operations.operation(row.list_operation).parameters)
    own = (row.id_parameter, row.cursor_parameter)
    return Resource(
        row=row,
        path=row.name,
        id_field=row.id_field,
        id_parameter=row.id_parameter,
        first_id=_FIRST_IDS.get(row.name, 1),
        clocked=row.id_field == "callID",
        fields=fields,
        filters=filters_of((name for name in parameters if name not in own), fields),
    )


RESOURCES = tuple(_resource(row) for row in polled.RESOURCES)
RESOURCE = {row.path: row for row in RESOURCES}


@dataclass(frozen=True)
class Event:
    """One webhook: the fields of its `data`, and those left out where they have no value."""

    row: events.Event
    name: str
    fields: tuple[str, ...]
    optional: tuple[str, ...]


def _event(row: events.Event) -> Event:
    known = tuple(field.name for field in row.model.fields if field.name not in _NEVER_POSTED)
    # The previous employee of a call that was handed over, in other events than that of the transfer.
    optional = tuple(name for name in known if name == "previous_contactID" and name not in row.key)
    return Event(row, row.name, tuple(name for name in known if name not in optional), optional)


EVENTS = tuple(_event(row) for row in events.EVENTS if row.source == "pbx")
EVENT = {row.name: row for row in EVENTS}


@dataclass(frozen=True)
class Operation:
    """One operation of the API by its operationId; webhooks have one for each event."""

    id: str
    method: str
    path: str  # below BASE_PATH; a `{name}` part takes any value
    parameters: tuple[str, ...] = ()
    row: Described | None = None


def _operations(row: Described) -> tuple[Operation, ...]:
    if "{event}" in row.path:
        return tuple(Operation(event.name, row.method, f"/{row.path.format(event=event.name)}") for event in EVENTS)
    query = tuple(parameter.name for parameter in row.parameters if parameter.where == "query")
    return (Operation(row.id, row.method, f"/{row.path}", query, row),)


OPERATIONS = tuple(operation for row in operations.OPERATIONS for operation in _operations(row))
_LOST_CALLS = operations.operation("GetLostCalls")
LOST_CALL_FILTERS = filters_of(
    (parameter.name for parameter in _LOST_CALLS.parameters), (field.name for field in _LOST_CALLS.item)
)
