"""The operations of the PBX's API: one table that the client and the Logic Apps face both read."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from shared.pbx import fields as shapes
from shared.pbx.operation import Operation, Parameter
from shared.pbx.webhooks import WEBHOOK_OPERATIONS

if TYPE_CHECKING:
    from shared.pbx.fields import Shape

_PLACEHOLDER = re.compile(r"{(\w+)}")


_LIMIT = Parameter(name="limit", title="Limit", description="How many items to bring at most.")
_OFFSET = Parameter(name="offset", title="Offset", description="How many items to skip.")
_PAGE = (_LIMIT, _OFFSET)
_DESTINATION = Parameter(
    name="destination", title="Destination Number", type="string", description="Number that was called."
)
_SOURCE = Parameter(name="source", title="Source Number", type="string", description="Number that called.")
_DIRECTION = Parameter(
    name="direction",
    title="Direction",
    type="string",
    choices=("in", "out"),
    description="in for incoming calls, out for outgoing ones.",
)
_DATES = (
    Parameter(name="date_from", title="Date From", type="date-time", description="Start of the range of dates."),
    Parameter(name="date_to", title="Date To", type="date-time", description="End of the range of dates."),
)
_CONTACT = Parameter(name="contact_id", title="Contact ID", description="Unique ID of the employee.")
_BOX = Parameter(name="box_id", title="Voicemail Box ID", description="Unique ID of the voicemail box.")
_VOICEMAIL_FILTERS = (_SOURCE, _CONTACT, _BOX, *_DATES)
_CALL_FILTERS = (_DESTINATION, _SOURCE, _DIRECTION, _CONTACT, *_DATES)


def _list(id: str, resource: str, parameter: str, noun: str, item: Shape, *filters: Parameter) -> Operation:
    own = Parameter(name=parameter, title=f"{_title(noun)} ID", description=f"Unique ID of the {noun}.")
    cursor = Parameter(
        name=f"initial_{parameter}",
        title=f"Initial {_title(noun)} ID",
        required=True,
        default=0,
        visibility="internal",
        description=f"Only a {noun} with a greater ID is wanted.",
    )
    return Operation(
        id=id,
        path=f"trigger/{resource}",
        parameters=(own, cursor, *_PAGE, *filters),
        summary=f"List {resource.replace('_', ' ').replace('voip', 'VoIP')}",
        description=f"Brings each new {noun}, newest first.",
        lists=True,
        item=item,
    )


def _read(id: str, resource: str, parameter: str, noun: str, item: Shape) -> Operation:
    own = Parameter(
        name=parameter,
        title=f"{_title(noun)} ID",
        where="path",
        required=True,
        visibility="",
        description=f"Unique ID of the {noun}.",
    )
    return Operation(
        id=id,
        path=f"{resource}/{{{parameter}}}",
        parameters=(own,),
        summary=f"Get {noun} by ID",
        description=f"Brings one {noun}.",
        item=item,
    )


def _title(noun: str) -> str:
    return " ".join(word if word[0].isupper() else word.capitalize() for word in noun.split())


OPERATIONS: tuple[Operation, ...] = (
    _list("GetAudioPrompts", "audio_prompts", "prompt_id", "audio prompt", shapes.AUDIO_PROMPT),
    _list("GetCallHistory", "call_history", "call_id", "call", shapes.CALL, *_CALL_FILTERS),
    _list("GetCallRecordings", "call_records", "record_id", "recording", shapes.RECORDING, *_CALL_FILTERS),
    _list("GetContacts", "contacts", "contact_id", "contact", shapes.CONTACT),
    _list("GetGroups", "groups", "group_id", "group", shapes.GROUP, _CONTACT),
    _list("GetVoicemailBoxes", "voicemail_boxes", "box_id", "voicemail box", shapes.VOICEMAIL_BOX),
    _list("GetVoicemails", "voicemails", "voicemail_id", "voicemail", shapes.VOICEMAIL, *_VOICEMAIL_FILTERS),
    _list("GetVoipEndpoints", "voip_endpoints", "endpoint_id", "VoIP endpoint", shapes.VOIP_ENDPOINT),
    _read("GetAudioPromptByID", "audio_prompts", "prompt_id", "audio prompt", shapes.AUDIO_PROMPT),
    _read("GetCallHistoryItemByID", "call_history", "call_id", "call", shapes.CALL),
    _read("GetCallRecordingByID", "call_records", "record_id", "recording", shapes.RECORDING),
    _read("GetContactsByID", "contacts", "contact_id", "contact", shapes.CONTACT),
    _read("GetGroupByID", "groups", "group_id", "group", shapes.GROUP),
    _read("GetVoicemailBoxByID", "voicemail_boxes", "box_id", "voicemail box", shapes.VOICEMAIL_BOX),
    _read("GetVoicemailByID", "voicemails", "voicemail_id", "voicemail", shapes.VOICEMAIL),
    _read("GetVoipEndpointByID", "voip_endpoints", "endpoint_id", "VoIP endpoint", shapes.VOIP_ENDPOINT),
    Operation(
        id="GetLostCalls",
        path="lost_calls",
        parameters=(*_PAGE, _DESTINATION, *_DATES),
        summary="Get lost calls",
        description="Brings the callers who reached nobody and were not called back on the same day.",
        lists=True,
        item=shapes.LOST_CALL,
    ),
    Operation(
        id="Dial",
        method="POST",
        path="dial",
        command=True,
        parameters=(
            Parameter(
                name="destination",
                title="Destination",
                where="body",
                type="string",
                required=True,
                description="Number to call.",
            ),
            Parameter(
                name="contactID",
                title="Contact ID",
                where="body",
                required=True,
                description="Unique ID of the employee whose phone rings first; its digits as text will do.",
            ),
        ),
        summary="Start a call",
        description="Rings the employee's phone and then calls the destination.",
    ),
    *WEBHOOK_OPERATIONS,
)


def _check(rows: tuple[Operation, ...]) -> dict[str, Operation]:
    known: dict[str, Operation] = {}
    for row in rows:
        if known.setdefault(row.id, row) is not row:
            raise ValueError(f"two operations are called {row.id}")
        names = [parameter.name for parameter in row.parameters]
        if len(set(names)) != len(names):
            raise ValueError(f"{row.id} takes a parameter twice")
        in_path = [parameter.name for parameter in row.parameters if parameter.where == "path"]
        if sorted(_PLACEHOLDER.findall(row.path)) != sorted(in_path):
            raise ValueError(f"{row.id}: path and parameters disagree")
        if row.lists and not row.item:
            raise ValueError(f"{row.id} lists items of no shape")
        if row.command and row.repeatable:
            raise ValueError(f"{row.id} is a command and may be repeated")
    return known


_BY_ID = _check(OPERATIONS)


def operation(id: str) -> Operation:
    """The operation with this operationId; raises KeyError with the known ids for any other."""
    try:
        return _BY_ID[id]
    except KeyError:
        raise KeyError(f"{id} is not one of {', '.join(_BY_ID)}") from None
