"""The feed: what happened, newest first, for those who would rather read than be called."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from shared.api.envelopes import succeeded
from shared.api.parameters import Given, check
from shared.errors import Invalid, WrongContinuation
from shared.events.event import IDENTIFIERS, row_envelope
from shared.events.parties import number_party
from shared.events.store import STOPPED, call_party, copies_of, feed_bounds, feed_page
from shared.events.table import EVENTS
from shared.pbx.fields import Field, Shape
from shared.pbx.operations import Operation, Parameter
from shared.phones import e164
from shared.storage.account import reaching_storage
from shared.times import iso

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shared.bridge import Bridge
    from shared.storage.account import Storage

CONTINUATION = "continuation"
DEFAULT_LIMIT = 50
# Where a part begins when not where the table service stopped looking: at the key of its first row.
_KEY = re.compile(r"[0-9]{16}-[a-z2-7]{52}", re.ASCII)
_OTHER = Invalid({CONTINUATION: "what the last answer gave is expected, with the same filters"})

ITEM: Shape = (
    Field("id", "string", "ID of the event, the same as webhook-id in deliveries."),
    Field("type", "string", "Name of the event."),
    Field("version", "string", "Version of the event's form."),
    Field("origin", "string", "How the app learnt of it: webhook, poll, or the app itself."),
    Field("received", "date-time", "When the app learnt of it."),
    Field("happened", "date-time", "When it happened, as far as the event says."),
    Field("callID", "integer", "Unique ID of the call, where it concerns one."),
    Field("contactID", "integer", "Unique ID of the employee, where it concerns one."),
    Field("recordingID", "integer", "Unique ID of the recording, where it concerns one."),
    Field("voicemailID", "integer", "Unique ID of the voicemail, where it concerns one."),
    Field("data", "object", "What the event carries."),
)
OPERATION = Operation(
    id="GetEvents",
    path="events",
    parameters=(
        Parameter(
            "type", "Event Type", "Only events of this name.", type="string", choices=tuple(row.name for row in EVENTS)
        ),
        Parameter("call_id", "Call ID", "Only what concerns this call."),
        Parameter("number", "Number", "Only calls from or to this number.", type="string"),
        Parameter("date_from", "Date From", "Only what the app learnt of from this time on.", type="date-time"),
        Parameter("date_to", "Date To", "Only what the app learnt of up to this time.", type="date-time"),
        Parameter("limit", "Limit", "How many events to bring at most."),
    ),
    summary="List events",
    description="Brings what happened, newest first, a part at a time.",
    lists=True,
    item=ITEM,
)


def read(bridge: Bridge, given: Given) -> dict[str, Any]:
    """
    A part of the feed, newest first, as an envelope with `continuation` beside `data`: null at the end.

    A part may come short, or empty, with a continuation: then there is more to look at. The same filters have to
    come with it. Raises Invalid, or StorageUnavailable.
    """
    values = check(OPERATION, given)
    limit = values.pop("limit", DEFAULT_LIMIT)
    mark = _mark(values)
    start = _position(given.query.get(CONTINUATION), mark)
    with reaching_storage():
        rows, next_key = _scan(bridge, values, start, limit)
        items = [as_item(bridge.storage, row) for row in rows]
    continuation = base64.urlsafe_b64encode(f"{mark}{next_key}".encode()).decode().rstrip("=") if next_key else None
    return succeeded(items) | {CONTINUATION: continuation}


def _scan(
    bridge: Bridge, values: Mapping[str, Any], start: str | None, limit: int
) -> tuple[list[Mapping[str, Any]], str | None]:
    from azure.core.exceptions import HttpResponseError

    # Only what concerns a call or a number is looked at, as few or many as that are.
    conditions, party = [], ""
    if "type" in values:
        conditions.append(f"type eq '{values['type']}'")
    if "number" in values:
        number, region = values["number"], bridge.settings.default_region
        full, party = e164(number, region), number_party(number, region)
        columns = ("callerE164", "destinationE164") if full else ("caller", "destination")
        conditions.append("(" + " or ".join(f"{column} eq '{full or number}'" for column in columns) + ")")
    if "call_id" in values:
        # Fewer than of a number, where both are asked for.
        party = call_party(values["call_id"])
        conditions.append(f"callID eq {values['call_id']}L")
    begin = copies_of(bridge.storage, party) if party else ""
    conditions = feed_bounds(values.get("date_from"), values.get("date_to"), begin) + conditions
    try:
        return feed_page(bridge.storage, conditions, start, limit, begin)
    except HttpResponseError as error:
        if start and error.status_code == HTTPStatus.BAD_REQUEST:
            raise WrongContinuation("not one of ours") from None
        raise


def _mark(values: Mapping[str, Any]) -> str:
    """What the filters of a continuation have to be."""
    filters = json.dumps({name: str(value) for name, value in values.items()}, sort_keys=True)
    return hashlib.sha256(filters.encode()).hexdigest()[:16]


def _position(text: str | None, mark: str) -> str | None:
    if text is None:
        return None
    try:
        decoded = base64.urlsafe_b64decode(text.encode() + b"=" * (-len(text) % 4)).decode()
    except (binascii.Error, ValueError):
        raise _OTHER from None
    start = decoded.removeprefix(mark)
    if start == decoded:
        raise _OTHER
    if not (_KEY.fullmatch(start) or is_stop(start)):
        raise WrongContinuation("not one of ours")
    return start


def is_stop(text: str) -> bool:
    """Whether the table service may have said that it stopped there: anybody can write what only looks so."""
    if not STOPPED.fullmatch(text):
        return False
    try:
        stop = json.loads(text)
    except ValueError:
        return False
    return set(stop) == {"PartitionKey", "RowKey"} and all(
        isinstance(value, str) or value is None for value in stop.values()
    )


def as_item(storage: Storage, row: Mapping[str, Any]) -> dict[str, Any]:
    """An event of the feed as it is listed."""
    envelope = row_envelope(storage, row)
    version = envelope.get("version")
    item: dict[str, Any] = {"id": row["id"], "type": row["type"]}
    item["version"] = str(version) if isinstance(version, str | int | float) else None
    item |= {"origin": row["origin"], "received": iso(row["received"]), "happened": iso(row["happened"])}
    for name in IDENTIFIERS:
        if name in row:
            item[name] = getattr(row[name], "value", row[name])
    return item | {"data": envelope["data"]}
