"""The two forms in which an event is posted: the PBX's own, and CloudEvents 1.0 in structured mode."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shared.json_bodies import encode
from shared.storage import rows
from shared.times import iso

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shared.settings import Settings

# A subject is written to logs on the way: ids only, never a number.
_SUBJECTS = ("callID", "recordingID", "voicemailID", "contactID")
# Types under a domain turned round, as CloudEvents advises: the service whose events these are.
_TYPE = "lv.zvanuparvaldnieks"


def shaped(settings: Settings, shape: str, row: Mapping[str, Any], envelope: Mapping[str, Any]) -> tuple[str, bytes]:
    """The content type and body of an event in table `events`, as a subscription of this shape gets it."""
    if shape == "cloudevents":
        return "application/cloudevents+json", encode(_cloud_event(settings, row, envelope))
    return "application/json", encode(envelope)


def _cloud_event(settings: Settings, row: Mapping[str, Any], envelope: Mapping[str, Any]) -> dict[str, Any]:
    event = {
        "specversion": "1.0",
        "id": row["id"],
        "source": settings.public_base_url or "/api/v2",
        "type": f"{_TYPE}.{row['type']}",
        "time": iso(row["happened"]),
        "datacontenttype": "application/json",
        "data": envelope["data"],
    }
    ids = ((name, rows.value_of(row[name])) for name in _SUBJECTS if name in row)
    return event | next(({"subject": f"{name}/{id}"} for name, id in ids), {})
