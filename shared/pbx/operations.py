"""The operations of the PBX's API: the table that the client and the app's own API are built from."""

from __future__ import annotations

import re
from dataclasses import KW_ONLY, dataclass
from functools import partial
from typing import Literal

from shared.pbx import fields as shapes
from shared.pbx.fields import Shape

Visibility = Literal["", "important", "advanced", "internal"]


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of an operation; its `title` is in title case, and `choices`, if any, are its only values."""

    name: str
    title: str
    description: str
    _: KW_ONLY
    where: Literal["path", "query", "body"] = "query"
    type: Literal["integer", "string", "text", "date-time"] = "integer"
    required: bool = False
    default: int | None = None
    choices: tuple[str, ...] = ()
    visibility: Visibility = "important"


@dataclass(frozen=True, kw_only=True, slots=True)
class Operation:
    """
    A row of OPERATIONS: an operationId with its method, path below the base URL, parameters, and shape of `data`.

    `lists` means that `data` is an array of items. A `command` calls the numbers among its parameters, and the same
    request rings once.
    """

    id: str
    method: Literal["GET", "POST", "DELETE"] = "GET"
    path: str
    parameters: tuple[Parameter, ...]
    summary: str
    description: str
    lists: bool = False
    command: bool = False
    item: Shape = ()
    visibility: Visibility = "important"

    @property
    def repeatable(self) -> bool:
        """Return True if a request may be sent again: a second one has no effect of its own."""
        return self.method == "GET"


_PLACEHOLDER = re.compile(r"{(\w+)}")
_in_path = partial(Parameter, where="path", required=True)
_in_body = partial(Parameter, where="body", required=True)
_PAGE = (
    Parameter("limit", "Limit", "Maximum number of items."),
    Parameter("offset", "Offset", "Number of items to skip."),
)
_DESTINATION = Parameter("destination", "Destination Number", "Number that was called.", type="string")
_SOURCE = Parameter("source", "Source Number", "Number that called.", type="string")
_DIRECTION = Parameter(
    "direction", "Direction", "in for incoming calls, out for outgoing ones.", type="string", choices=("in", "out")
)
_DATES = (
    Parameter("date_from", "Date From", "Start of the range of dates.", type="date-time"),
    Parameter("date_to", "Date To", "End of the range of dates.", type="date-time"),
)
_CONTACT = Parameter("contact_id", "Contact ID", "Unique ID of the employee.")
_BOX = Parameter("box_id", "Voicemail Box ID", "Unique ID of the voicemail box.")
_CALL_FILTERS = (_DESTINATION, _SOURCE, _DIRECTION, _CONTACT, *_DATES)


def _list(id: str, resource: str, parameter: str, noun: str, item: Shape, *filters: Parameter) -> Operation:
    title, wanted = f"{_title(noun)} ID", f"Only a {noun} with a greater ID is wanted."
    own = Parameter(parameter, title, f"Unique ID of the {noun}.")
    cursor = Parameter(
        f"initial_{parameter}", f"Initial {title}", wanted, required=True, default=0, visibility="internal"
    )
    return Operation(
        id=id,
        path=f"trigger/{resource}",
        parameters=(own, cursor, *_PAGE, *filters),
        summary=f"List {resource.replace('_', ' ').replace('voip', 'VoIP')}",
        description=f"Lists each new {noun}, newest first, paged.",
        lists=True,
        item=item,
    )


def _read(id: str, resource: str, parameter: str, noun: str, item: Shape) -> Operation:
    own = _in_path(parameter, f"{_title(noun)} ID", f"Unique ID of the {noun}.", visibility="")
    return Operation(
        id=id,
        path=f"{resource}/{{{parameter}}}",
        parameters=(own,),
        summary=f"Get {noun} by ID",
        description=f"Returns one {noun} by its ID.",
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
    _list(
        "GetVoicemails", "voicemails", "voicemail_id", "voicemail", shapes.VOICEMAIL, _SOURCE, _CONTACT, _BOX, *_DATES
    ),
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
        description="Lists callers who reached nobody and were not called back on the same day.",
        lists=True,
        item=shapes.LOST_CALL,
    ),
    Operation(
        id="Dial",
        method="POST",
        path="dial",
        command=True,
        parameters=(
            _in_body("destination", "Destination", "Number to call.", type="string"),
            _in_body(
                "contactID",
                "Contact ID",
                "Unique ID of the employee whose phone rings first; its digits as text will do.",
            ),
        ),
        summary="Start a call",
        description="Rings the employee's phone and then calls the destination.",
    ),
    Operation(
        id="Subscribe",
        method="POST",
        path="webhooks/{event}",
        parameters=(
            _in_path("event", "Event", "Name of the event.", type="string"),
            _in_body(
                "endpoint",
                "Endpoint",
                "Address that the event is posted to; a secret.",
                type="string",
                visibility="internal",
            ),
        ),
        summary="Subscribe to an event",
        description="Posts the event to the endpoint whenever it happens.",
    ),
    Operation(
        id="DeleteWebhookByID",
        method="DELETE",
        path="webhooks/{webhook_id}",
        parameters=(_in_path("webhook_id", "Webhook ID", "Unique ID of the webhook.", visibility=""),),
        summary="Delete a webhook by ID",
        description="Ends a subscription.",
        visibility="internal",
    ),
)


def _check(rows: tuple[Operation, ...]) -> dict[str, Operation]:
    known = {row.id: row for row in rows}
    if len(known) != len(rows):
        raise ValueError("two operations have the same id")
    for row in rows:
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
    """Return the operation of an operationId; raises KeyError for any other."""
    return _BY_ID[id]
