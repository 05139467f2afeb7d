"""The shapes of the PBX's items: their fields as rows, by the names on the wire."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Field:
    """A field of an item. Integers have 64 bits; a `date-time` is a text that parse_time reads."""

    name: str
    type: Literal["integer", "string", "boolean", "date-time", "array", "object"]
    description: str
    # The fields inside an array or object.
    fields: tuple[Field, ...] = ()


Shape = tuple[Field, ...]

_CALL: Shape = (
    Field("callID", "integer", "Unique ID of the call."),
    Field("caller", "string", "Number that called; empty or a word when withheld."),
    Field("destination", "string", "Number that was called."),
    Field("direction", "string", "in or out."),
    Field("status", "integer", "Result of the call as the PBX numbers it."),
    Field("callStarted", "date-time", "Time the call started to ring."),
    Field("callConnected", "date-time", "Time it was answered; absent when nobody did."),
    Field("callEnded", "date-time", "Time it ended."),
)
_EMPLOYEE = Field("contactID", "integer", "Unique ID of the employee.")

GROUP: Shape = (
    Field("groupID", "integer", "Unique ID of the group."),
    Field("name", "string", "Name of the group."),
    Field("type", "integer", "Kind of group as the PBX numbers it."),
    Field("created", "date-time", "Time the group was made."),
    Field("members", "array", "Employees in the group.", (_EMPLOYEE,)),
)
CONTACT: Shape = (
    _EMPLOYEE,
    Field("firstname", "string", "First name."),
    Field("lastname", "string", "Last name."),
    Field("number", "string", "Phone number of the employee."),
    Field("current_callerid", "string", "Number shown to those whom the employee calls."),
    Field("archived", "integer", "1 when the employee has left."),
    Field("created", "date-time", "Time the employee was added."),
    Field("avatar", "string", "Address of the employee's picture."),
    Field("group_membership", "array", "Groups that the employee is in.", GROUP),
)
CALL: Shape = (
    *_CALL,
    Field("connectionTime", "integer", "Length of the talk in seconds."),
    _EMPLOYEE,
    Field("recordingID", "integer", "Unique ID of the call's recording, where there is one."),
)
RECORDING: Shape = (
    Field("recordingID", "integer", "Unique ID of the recording."),
    *_CALL,
    _EMPLOYEE,
    Field("recordingURL", "string", "Address of the audio; a secret."),
)
VOICEMAIL_BOX: Shape = (
    Field("voicemailBoxID", "integer", "Unique ID of the voicemail box."),
    Field("boxName", "string", "Name of the box."),
    Field("clientID", "integer", "Unique ID of the client that owns the box."),
    Field("created", "date-time", "Time the box was made."),
)
VOICEMAIL: Shape = (
    Field("voicemailID", "integer", "Unique ID of the voicemail."),
    Field("sender", "string", "Number that left the message."),
    Field("length", "integer", "Length of the message in seconds."),
    Field("callStarted", "date-time", "Time the call started."),
    Field("voicemailBoxID", "integer", "Unique ID of the voicemail box."),
    Field("voicemailBoxName", "string", "Name of the voicemail box."),
    Field("messageURL", "string", "Address of the audio; a secret."),
)
AUDIO_PROMPT: Shape = (
    Field("id", "integer", "Unique ID of the audio prompt."),
    Field("name", "string", "Name of the prompt."),
    Field("type", "integer", "Kind of prompt as the PBX numbers it."),
)
VOIP_ENDPOINT: Shape = (
    Field("id", "integer", "Unique ID of the VoIP endpoint."),
    Field("name", "string", "Name of the endpoint."),
    Field("employee_id", "integer", "Unique ID of the employee who uses it."),
)
LOST_CALL: Shape = (
    Field("callerid", "string", "Number that called."),
    Field("destination", "string", "Number that was called."),
    Field("contact_name", "string", "Name of the caller where it is known."),
    Field("attempts", "integer", "Number of the caller's tries."),
    Field("last_contact", "date-time", "Time of the caller's last try."),
)

# The envelope of every answer; its `data` is an item, a list of items, or the operation's own value.
ENVELOPE: Shape = (
    Field("version", "string", "Version of the answer's form."),
    Field("status", "string", "Word of success or failure."),
    Field("statusCode", "integer", "Result; it can say more than the HTTP status."),
    Field("message", "string", "Result in words."),
)
