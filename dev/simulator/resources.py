"""The simulator's resources, events and operations, derived from the bridge's tables."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
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

_FIRST_ID = 1
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

    @property
    def path(self) -> str:
        """Its name in the API's paths."""
        return self.row.name

    @property
    def id_field(self) -> str:
        """The field of its id."""
        return self.row.id_field

    @property
    def id_parameter(self) -> str:
        """The parameter of its id."""
        return self.row.id_parameter

    @property
    def first_id(self) -> int:
        """The id of the first item."""
        return _FIRST_IDS.get(self.path, _FIRST_ID)

    @property
    def clocked(self) -> bool:
        """True if ids are the call's start in microseconds."""
        return self.id_field == "callID"

    @cached_property
    def fields(self) -> Mapping[str, Any]:
        """The fields of an item of which only the id is known."""
        shape = operations.operation(self.row.read_operation).item
        return {field.name: 0 if field.name == self.id_field else _default(field) for field in shape}

    @cached_property
    def filters(self) -> tuple[Filter, ...]:
        """The parameters that narrow the list, beside its id."""
        parameters = (parameter.name for parameter in operations.operation(self.row.list_operation).parameters)
        own = (self.id_parameter, self.row.cursor_parameter)
        return filters_of((name for name in parameters if name not in own), self.fields)


RESOURCES = tuple(Resource(row) for row in polled.RESOURCES)
RESOURCE = {row.path: row for row in RESOURCES}


@dataclass(frozen=True)
class Event:
    """One webhook: the fields of its `data`, and those left out where they are absent."""

    row: events.Event

    @property
    def name(self) -> str:
        """Its name on the wire."""
        return self.row.name

    @cached_property
    def fields(self) -> tuple[str, ...]:
        """The fields that it always has."""
        left_out = {*_NEVER_POSTED, *self.optional}
        return tuple(field.name for field in self.row.model.fields if field.name not in left_out)

    @property
    def optional(self) -> tuple[str, ...]:
        """Fields that stand only where they have a value: the previous employee of a call that was handed over."""
        known, name = {field.name for field in self.row.model.fields}, "previous_contactID"
        return (name,) if name in known and name not in self.row.key else ()


EVENTS = tuple(Event(row) for row in events.EVENTS if row.source == "pbx")
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
