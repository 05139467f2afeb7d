"""The simulator's resources, events and operations, derived from the bridge's tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dev.simulator.lists import Filter, filters_of
from shared.events import table as events
from shared.pbx import operations
from shared.pbx import resources as polled
from shared.pbx.operations import Operation as Described

BASE_PATH = "/api/v2"

FIRST_IDS: Mapping[str, int] = {
    "audio_prompts": 310,
    "call_history": 150818921852,
    "call_records": 161204400117,
    "contacts": 966,
    "groups": 77,
    "voicemail_boxes": 5120,
    "voicemails": 171118926552,
    "voip_endpoints": 2204,
}
# The default value of a field by its type.
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
# Only the list of calls has the end of a call.
_NEVER_POSTED = frozenset({"callEnded"})
_PREVIOUS = "previous_contactID"


def _fields(row: polled.Resource) -> dict[str, Any]:
    shape = operations.operation(row.read_operation).item
    return {field.name: _DEFAULTS.get(field.name, _ABSENT[field.type]) for field in shape} | {row.id_field: 0}


def _filters(row: polled.Resource) -> tuple[Filter, ...]:
    names = [parameter.name for parameter in operations.operation(row.list_operation).parameters]
    own = (row.id_parameter, row.cursor_parameter)
    return filters_of((name for name in names if name not in own), FIELDS[row.name])


RESOURCES = {row.name: row for row in polled.RESOURCES}
# By resource: the default fields of an item, and the filters of its list.
FIELDS = {row.name: _fields(row) for row in polled.RESOURCES}
FILTERS = {row.name: _filters(row) for row in polled.RESOURCES}
EVENTS = {row.name: row for row in events.EVENTS if row.source == "pbx"}


def is_clocked(resource: str) -> bool:
    """True if an id is the call's start in microseconds."""
    return RESOURCES[resource].id_field == "callID"


def posted(event: str, data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of an event's `data`.

    Only a transferred call has the previous employee in events other than CallTransfered.
    """
    row = EVENTS[event]
    names = [field.name for field in row.model.fields if field.name not in _NEVER_POSTED]
    if _PREVIOUS not in row.key and data.get(_PREVIOUS) is None:
        names = [name for name in names if name != _PREVIOUS]
    return {name: data.get(name) for name in names}


@dataclass(frozen=True)
class Operation:
    """One operation of the API by its operationId; each event has its own for webhooks."""

    id: str
    method: str
    path: str  # below BASE_PATH; a `{name}` part matches any value
    parameters: tuple[str, ...] = ()
    row: Described | None = None


def _operations(row: Described) -> tuple[Operation, ...]:
    if "{event}" in row.path:
        return tuple(Operation(event, row.method, f"/{row.path.format(event=event)}") for event in EVENTS)
    query = tuple(parameter.name for parameter in row.parameters if parameter.where == "query")
    return (Operation(row.id, row.method, f"/{row.path}", query, row),)


OPERATIONS = tuple(operation for row in operations.OPERATIONS for operation in _operations(row))
_LOST_CALLS = operations.operation("GetLostCalls")
LOST_CALL_FILTERS = filters_of(
    (parameter.name for parameter in _LOST_CALLS.parameters), (field.name for field in _LOST_CALLS.item)
)
