"""The operations under /api/v2: those of the PBX, and the app's own, which are answered from storage."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from shared.events.table import EVENTS
from shared.pbx.fields import CONTACT, LOST_CALL, Field, Shape
from shared.pbx.operations import OPERATIONS, Operation, Parameter, operation
from shared.pbx.resources import RESOURCES, Resource

# The fields with a phone number.
NUMBERS = ("number", "caller", "destination", "sender")
# Outcomes of calls.
OUTCOMES: Mapping[str, str] = {
    "answered": "somebody answered, and the call is over",
    "missed": "an incoming call that nobody answered",
    "voicemail": "nobody answered, and the caller left a voicemail",
    "declined": "nobody answered, and the call was declined",
    "busy": "nobody answered, as the line was busy",
    "failed": "the call could not be put through",
    "unanswered": "an outgoing call that was not answered",
    "ringing": "it rings, as far as is known",
    "talking": "it was answered and has no known end",
    "unknown": "its end never became known",
}


def _choice(name: str, title: str, description: str, *choices: str, **more: Any) -> Parameter:
    return Parameter(name, title, description, type="string", choices=choices, **more)


_list = partial(Operation, lists=True)
_LIMIT, _OFFSET, _DIRECTION = (
    next(parameter for parameter in operation("GetCallHistory").parameters if parameter.name == name)
    for name in ("limit", "offset", "direction")
)
_FORMAT_WORDS = "json; or csv or xlsx for a file with all matches, up to 100,000 rows."
FORMAT = _choice("format", "Format", _FORMAT_WORDS, "json", "csv", "xlsx", visibility="advanced")

EVENT: Shape = (
    Field("id", "string", "ID of the event, the same as webhook-id in deliveries."),
    Field("type", "string", "Name of the event."),
    Field("version", "string", "Version of the event's form."),
    Field("origin", "string", "Source of the event: webhook, poll, or the app itself."),
    Field("received", "date-time", "Time the app received it."),
    Field("happened", "date-time", "Time it happened, as far as the event says."),
    Field("callID", "integer", "Unique ID of the call, where it concerns one."),
    Field("contactID", "integer", "Unique ID of the employee, where it concerns one."),
    Field("recordingID", "integer", "Unique ID of the recording, where it concerns one."),
    Field("voicemailID", "integer", "Unique ID of the voicemail, where it concerns one."),
    Field("data", "object", "Data of the event."),
    Field("bodyMissing", "boolean", "True where the stored body is gone, and data is empty."),
)
GET_EVENTS = _list(
    id="GetEvents",
    path="events",
    parameters=(
        _choice("type", "Event Type", "Only events of this name.", *(row.name for row in EVENTS)),
        Parameter("call_id", "Call ID", "Only events of this call."),
        Parameter("number", "Number", "Only events of calls from or to this number.", type="string"),
        Parameter("date_from", "Date From", "Only events received at or after this time.", type="date-time"),
        Parameter("date_to", "Date To", "Only events received up to this time.", type="date-time"),
        _LIMIT,
    ),
    summary="List events",
    description="Lists events, newest first, paged.",
    item=EVENT,
)

_EMPLOYEE = CONTACT[0]
_STORED: Shape = (
    Field("id", "integer", "Unique ID of the recording or voicemail."),
    Field("container", "string", "Container of the audio, for Get stored audio; absent until it is stored."),
    Field("blobName", "string", "Name of the audio in its container."),
)
_OUTCOME_WORDS = "; ".join(f"{name}, {text}" for name, text in OUTCOMES.items())
CALL: Shape = (
    Field("callID", "integer", "Unique ID of the call."),
    Field("started", "date-time", "Time it started to ring."),
    Field("connected", "date-time", "Time somebody answered; absent when nobody did."),
    Field("ended", "date-time", "Time it ended."),
    Field("talkSeconds", "integer", "Length of the talk in seconds."),
    Field("outcome", "string", f"Outcome of the call: {_OUTCOME_WORDS}."),
    Field("lost", "boolean", "True for an incoming call that nobody of the company answered."),
    Field("direction", "string", "in or out."),
    Field("caller", "string", "Number that called, as the PBX sent it; absent when withheld."),
    Field("callerE164", "string", "The same in E.164, where it is a number."),
    Field("destination", "string", "Number that was called, as the PBX sent it."),
    Field("destinationE164", "string", "The same in E.164, where it is a number."),
    Field("answeredBy", "integer", "Unique ID of the employee who answered."),
    Field("contacts", "array", "Employees whom the call rang or reached.", (_EMPLOYEE,)),
    Field("recordings", "array", "The call's recordings.", _STORED),
    Field("voicemails", "array", "The call's voicemails.", _STORED),
)
_DELIVERY: Shape = (
    Field("event", "string", "ID of the event that was delivered."),
    Field("type", "string", "Name of the event."),
    Field("subscription", "string", "Public ID of the subscription."),
    Field("name", "string", "Its name, or the host of its callback address."),
    Field("result", "string", "Last answer, or reason of the failure; absent while it waits."),
    Field("attempts", "integer", "Number of posts; absent while it waits."),
    Field("time", "date-time", "Time it ended, or began to wait."),
)
_CALL_FILTERS = (
    Parameter("number", "Number", "Only calls from or to this number, in any spelling.", type="string"),
    Parameter("employee", "Employee", "Only calls that rang or reached this employee."),
    _DIRECTION,
    _choice("outcome", "Outcome", "Only calls with this outcome.", *OUTCOMES),
    _choice("lost", "Lost", "true for incoming calls that nobody answered, false for all others.", "true", "false"),
    _LIMIT,
)
_FROM = "Only calls that began on or after this date, or at or after this time."
_TO = "Only calls that began up to the end of this date, or before this time."
GET_CALLS = _list(
    id="GetCalls",
    path="calls",
    parameters=(
        Parameter("from", "From", _FROM, type="date-time"),
        Parameter("to", "To", _TO, type="date-time"),
        *_CALL_FILTERS,
        FORMAT,
    ),
    summary="List calls",
    description="Lists calls with their outcome, newest first, paged.",
    item=CALL,
)
GET_CALL = Operation(
    id="GetCall",
    path="calls/{call_id}",
    parameters=operation("GetCallHistoryItemByID").parameters,
    summary="Get call",
    description="Returns one call with its events in order, its audio, and its deliveries to subscribers.",
    item=(
        *CALL,
        Field("events", "array", "Events of the call, oldest first.", EVENT),
        Field("deliveries", "array", "Deliveries of its events to subscribers, oldest first.", _DELIVERY),
    ),
)
GET_ENDED_CALLS = _list(
    id="GetEndedCalls",
    path="trigger/calls",
    parameters=_CALL_FILTERS,
    summary="When a call is over",
    description="Lists each call once, a minute after it is over.",
    item=CALL,
)
LOST_CALLER: Shape = (
    Field("id", "string", "ID of the caller at this number."),
    Field("open", "boolean", "True while the caller waits to be called back."),
    *LOST_CALL[:4],
    Field("since", "date-time", "Time since which the caller waits, or waited."),
    *LOST_CALL[4:],
    Field("closed", "date-time", "Time the caller was called back, got through, or was closed by hand."),
    Field("note", "string", "Person who closed it by hand, and the reason."),
    Field("contacts", "array", "Employees who were rung.", (_EMPLOYEE,)),
)
GET_LOST_CALLERS = _list(
    id="GetLostCallers",
    path="lost_callers",
    parameters=(
        Parameter("number", "Number", "Only this caller, in any spelling.", type="string"),
        _choice("open", "Open", "true for callers who wait, false for all others.", "true", "false"),
        _LIMIT,
        _OFFSET,
        FORMAT,
    ),
    summary="List lost callers",
    description="Lists callers whom nobody answered: those who still wait first, then those who were called back.",
    item=LOST_CALLER,
)

# The name of an item where makers pick from a list.
TITLE = Field("title", "string", "Name to show.")
_NAME = Parameter("name", "Name", "Part of the name, in any letter case, with or without accents.", type="text")
_NUMBER = Parameter("number", "Number", "The item's number, or one that called or was called.", type="string")


def _action(row: Resource) -> Operation:
    listing = operation(row.list_operation)
    filters = [_NAME] if row.title else []
    filters += [_NUMBER] if {field.name for field in listing.item} & set(NUMBERS) else []
    own = (row.id_parameter, row.cursor_parameter)
    kept = [parameter for parameter in listing.parameters if parameter.name not in own]
    what = listing.summary.partition(" ")[2]
    return _list(
        id=row.list_action,
        path=row.name,
        parameters=(*filters, *kept, FORMAT),
        summary=f"Find {what}",
        description=f"Finds {what} in the app's own storage by filters, newest first, paged.",
        item=listing.item,
    )


LISTS: tuple[Operation, ...] = tuple(operation(row.list_operation) for row in RESOURCES)
LIST_ACTIONS: tuple[Operation, ...] = tuple(map(_action, RESOURCES))
# Without the PBX's webhooks: the app has subscriptions of its own.
ACTIONS: tuple[Operation, ...] = tuple(
    row for row in OPERATIONS if row not in LISTS and not row.path.startswith("webhooks/")
)
SERVED = (*ACTIONS, *LISTS, *LIST_ACTIONS, GET_EVENTS, GET_CALLS, GET_CALL, GET_ENDED_CALLS, GET_LOST_CALLERS)
