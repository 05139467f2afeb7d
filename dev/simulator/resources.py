"""The PBX API as rows: resources, filters, events and the operations that follow from them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

Item = dict[str, Any]

BASE_PATH = "/api/v2"


@dataclass(frozen=True)
class Filter:
    """A query parameter of a list, the item's field that it reads, and how the two are compared."""

    parameter: str
    field: str
    kind: str = "integer"  # a key of store.MATCHES


@dataclass(frozen=True)
class Resource:
    """One kind of item: where it is read, what identifies it, and the fields that every item has."""

    path: str
    id_field: str
    id_parameter: str
    list_operation: str
    item_operation: str
    first_id: int
    fields: Mapping[str, Any]
    filters: tuple[Filter, ...] = ()
    clocked: bool = False  # ids are the call's start in microseconds

    @property
    def parameters(self) -> tuple[str, ...]:
        """The query parameters of the list."""
        own = (self.id_parameter, f"initial_{self.id_parameter}", "limit", "offset")
        return tuple(dict.fromkeys((*own, *(row.parameter for row in self.filters))))


def _date_range(name: str) -> tuple[Filter, ...]:
    return (Filter("date_from", name, "from"), Filter("date_to", name, "to"))


_CALL_FILTERS = (
    Filter("destination", "destination", "number"),
    Filter("source", "caller", "number"),
    Filter("direction", "direction", "direction"),
    Filter("contact_id", "contactID"),
    *_date_range("callStarted"),
)
_CALL = {
    "callID": 0,
    "caller": "",
    "destination": "",
    "direction": "in",
    "status": 0,
    "callStarted": None,
    "callConnected": None,
    "callEnded": None,
}

RESOURCES = (
    Resource(
        "audio_prompts", "id", "prompt_id", "GetAudioPrompts", "GetAudioPromptByID", 310,
        {"name": "", "type": 1},
    ),
    Resource(
        "call_history", "callID", "call_id", "GetCallHistory", "GetCallHistoryItemByID", 150818921852,
        _CALL | {"connectionTime": 0, "contactID": None, "recordingID": None}, _CALL_FILTERS, clocked=True,
    ),
    Resource(
        "call_records", "recordingID", "record_id", "GetCallRecordings", "GetCallRecordingByID", 161204400117,
        _CALL | {"contactID": None, "recordingURL": None}, _CALL_FILTERS,
    ),
    Resource(
        "contacts", "contactID", "contact_id", "GetContacts", "GetContactsByID", 966,
        {"current_callerid": "", "archived": 0, "firstname": "", "lastname": "", "created": None, "number": "",
         "group_membership": (), "avatar": ""},
    ),
    Resource(
        "groups", "groupID", "group_id", "GetGroups", "GetGroupByID", 77,
        {"created": None, "type": 1, "name": "", "members": ()}, (Filter("contact_id", "members", "member"),),
    ),
    Resource(
        "voicemail_boxes", "voicemailBoxID", "box_id", "GetVoicemailBoxes", "GetVoicemailBoxByID", 5120,
        {"clientID": 40017, "boxName": "", "created": None},
    ),
    Resource(
        "voicemails", "voicemailID", "voicemail_id", "GetVoicemails", "GetVoicemailByID", 171118926552,
        {"sender": "", "length": 0, "callStarted": None, "voicemailBoxID": None, "voicemailBoxName": "",
         "messageURL": None},
        (Filter("source", "sender", "number"), Filter("contact_id", "_contactID"), Filter("box_id", "voicemailBoxID"),
         *_date_range("callStarted")),
    ),
    Resource(
        "voip_endpoints", "id", "endpoint_id", "GetVoipEndpoints", "GetVoipEndpointByID", 2204,
        {"name": "", "employee_id": None},
    ),
)  # fmt: skip
RESOURCE = {row.path: row for row in RESOURCES}

LOST_CALL_FILTERS = (Filter("destination", "destination", "number"), *_date_range("last_contact"))

_CALL_EVENT = ("callID", "caller", "destination", "direction", "status", "callStarted")
_LOST_EVENT = ("contact_name", "destination", "attempts", "callerid", "last_contact")
_VOICEMAIL_EVENT = (
    "sender", "voicemailID", "length", "callStarted", "voicemailBoxID", "voicemailBoxName", "messageURL",
)  # fmt: skip


@dataclass(frozen=True)
class Event:
    """One webhook: the fields of its `data` and the reference page's other name for it."""

    name: str
    fields: tuple[str, ...]
    reference_name: str = ""
    optional: tuple[str, ...] = field(default=())


EVENTS = (
    Event("CallStarted", (*_CALL_EVENT, "contactID")),
    Event("CallConnected", (*_CALL_EVENT, "callConnected", "contactID"), "CallConnectedEvent"),
    Event(
        "CallCompleted",
        (*_CALL_EVENT, "callConnected", "connectionTime", "contactID"),
        "CallCompletedEvent",
        ("previous_contactID",),
    ),
    Event("CallRecorded", ("recordingID", "callID", "callStarted", "recordingURL", "direction", "connectionTime")),
    Event("CallTransfered", (*_CALL_EVENT, "callConnected", "connectionTime", "contactID", "previous_contactID")),
    Event("LostCallerAdded", _LOST_EVENT, "LostCallerCreated"),
    Event("LostCallerUpdated", _LOST_EVENT),
    Event("LostCallerRemoved", ("destination", "callerid"), "LostCallerDeleted"),
    Event("VoicemailCreated", _VOICEMAIL_EVENT),
    Event("VoicemailDeleted", ("sender", "voicemailID")),
)
EVENT = {row.name: row for row in EVENTS}


@dataclass(frozen=True)
class Operation:
    """One operation of the API by its operationId."""

    id: str
    method: str
    path: str  # below BASE_PATH; a `{name}` part takes any value
    parameters: tuple[str, ...] = ()


OPERATIONS = (
    *(Operation(row.list_operation, "GET", f"/trigger/{row.path}", row.parameters) for row in RESOURCES),
    *(Operation(row.item_operation, "GET", f"/{row.path}/{{{row.id_parameter}}}") for row in RESOURCES),
    Operation("GetLostCalls", "GET", "/lost_calls", ("limit", "offset", *(row.parameter for row in LOST_CALL_FILTERS))),
    Operation("Dial", "POST", "/dial"),
    *(Operation(row.name, "POST", f"/webhooks/{row.name}") for row in EVENTS),
    Operation("DeleteWebhookByID", "DELETE", "/webhooks/{webhook_id}"),
)
