"""What is posted to subscribers as OpenAPI 2.0 schemas: each event's wrapping and data, as its deliveries carry it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shared.api.openapi.schemas import object_schema, title
from shared.media.table import MEDIA
from shared.once import once
from shared.pbx.fields import LOST_CALL, Field, Shape
from shared.pbx.operations import OPERATIONS, operation
from shared.pbx.resources import RESOURCES, resource

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shared.api.openapi.names import Schema
    from shared.events.table import Event

_WRAPPING: Shape = (
    Field("type", "string", "Always Event."),
    Field("eventType", "string", "Name of the event."),
    Field("version", "string", "Version of the event's form."),
)
# What events carry beyond the items' fields.
_EVENT_FIELDS: Mapping[str, str] = {
    "previous_contactID": "Unique ID of the employee who handed the call over.",
    "blobUrl": "Address of the audio in Blob Storage.",
    "container": "Container that the audio is in.",
    "blobName": "Name of the audio's blob in its container.",
    "storedAt": "When the audio was stored.",
    "sha256": "SHA-256 of the audio in hexadecimal digits.",
    "size": "Size of the audio in bytes.",
    "contentType": "Kind of audio, such as audio/mpeg.",
    "incomplete": "True where less audio came than there should be; more may come later.",
    "callID": "Unique ID of the call.",
}


@once
def _descriptions() -> Mapping[str, str]:
    fields = (*(field for row in OPERATIONS for field in row.item), *LOST_CALL)
    return {field.name: field.description for field in fields} | dict(_EVENT_FIELDS)


def event_shape(event: Event) -> Shape:
    """
    The fields of an event's `data`: an item's for what the pollers notice, else its model's.

    The event of stored audio carries all that is known of its recording or voicemail, but not the PBX's address of it.
    """
    if event.source == "poll":
        nouns = {row.noun: row for row in RESOURCES if event.name.startswith(row.noun)}
        return operation(nouns[max(nouns, key=len)].read_operation).item
    known = _descriptions()
    properties: Mapping[str, Any] = event.model.model_json_schema().get("properties", {})
    fields = {
        name: Field(name, _type_of(schema), known.get(name, f"{title(name)} of the event."))
        for name, schema in properties.items()
    }
    for media in MEDIA:
        if media.stored == event.name:
            item = operation(resource(media.resource).read_operation).item
            fields = {field.name: field for field in item} | fields
            del fields[media.url]
    return tuple(fields.values())


def _type_of(schema: Mapping[str, Any]) -> Any:
    kinds = schema.get("anyOf", [schema])
    first = next(kind for kind in kinds if kind.get("type") != "null")
    return first["format"] if first.get("format") == "date-time" else first.get("type", "string")


def notification(event: Event) -> Schema:
    """What is posted to a subscriber: the PBX's own wrapping around the event's data."""
    required = () if event.source == "poll" else event.model.model_json_schema().get("required", ())
    data = object_schema(f"{event.carries}Data", event_shape(event), required=required)
    return object_schema(
        f"{event.name}Event", _WRAPPING, required=("eventType", "data"), nullable=False, more={"data": data}
    )
