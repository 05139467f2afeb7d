"""The media copier: recordings and voicemails from the PBX into Blob Storage, whole and once."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shared.errors import (
    BudgetExhausted,
    Invalid,
    MediaError,
    MediaNotReady,
    MediaRefused,
    PbxError,
    PbxThrottled,
    Unprocessable,
)
from shared.events.receive import submit
from shared.json_bodies import encode
from shared.media import blobs, deletions
from shared.media.blobs import Description
from shared.media.download import Patience, download
from shared.storage import dead_letters
from shared.storage.messages import send
from shared.times import call_start, iso, now, parse_time

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shared.bridge import Bridge

logger = logging.getLogger(__name__)

QUEUE = "media"
# Seconds until each next try of a file that is not ready; after the last one it is a dead letter.
DELAYS = (5, 30, 120, 600, 3600, 21600, 86400)
# Waiting for the PBX's budget is no try of the file, but it ends too.
_LONGEST_WAIT = 300
_WAITS = 500
_LATE_SECONDS = 3600
# What may stand in a blob's metadata and tags, whatever the PBX says.
_WORD = re.compile(r"[A-Za-z0-9_.-]{1,64}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Media:
    """
    A row: a kind of media, where it is kept, how the PBX is asked for it, and the event that tells it is stored.

    `deletable` is what the PBX tells us of when a user deletes it there.
    """

    name: str
    container: str
    operation: str
    parameter: str
    url: str
    stored: str
    deletable: bool = False

    @property
    def id(self) -> str:
        """The PBX's name of its id."""
        return f"{self.name}ID"


MEDIA: tuple[Media, ...] = (
    Media(
        name="recording",
        container="recordings",
        operation="GetCallRecordingByID",
        parameter="record_id",
        url="recordingURL",
        stored="RecordingStored",
    ),
    Media(
        name="voicemail",
        container="voicemails",
        operation="GetVoicemailByID",
        parameter="voicemail_id",
        url="messageURL",
        stored="VoicemailStored",
        deletable=True,
    ),
)
_BY_NAME = {row.name: row for row in MEDIA}


def copy(bridge: Bridge, message: Mapping[str, Any]) -> None:
    """
    Do what a message of queue `media` asks: copy a file (`action` copy), or mark or delete our copy (withdraw).

    A file that is not ready is asked for again by a delayed message, seven times over a day and more; then, or at
    once where it must not be fetched, the message becomes a dead letter. Doing it twice changes nothing. Raises
    Unprocessable for a message that is none, and StorageUnavailable and the like for the queue to try again.
    """
    try:
        media, id, received = _BY_NAME[message["kind"]], int(message["id"]), parse_time(message["received"])
        action = {"copy": _copy, "withdraw": _withdraw}[message["action"]]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Unprocessable("the message asks for no media") from error
    age = (now() - received).total_seconds()
    try:
        action(bridge, media, id, message)
    except (MediaRefused, Unprocessable) as error:
        _dead_letter(bridge, message, str(error))
    except Invalid as error:
        # The file is kept, but the event that tells it would carry what no reader expects.
        _dead_letter(bridge, message, f"does not fit: {', '.join(field.path for field in error.fields)}")
    except (BudgetExhausted, PbxThrottled) as error:
        _wait(bridge, message, error.retry_after)
    except (MediaError, PbxError) as error:
        logger.info("%s %d is not ready, try %d", media.name, id, int(message.get("attempt", 0)) + 1)
        if age > _LATE_SECONDS:
            logger.warning("signal media_waiting kind=%s id=%d seconds=%d", media.name, id, age)
        _try_later(bridge, message, error)


def _copy(bridge: Bridge, media: Media, id: int, message: Mapping[str, Any]) -> None:
    storage, mirror = bridge.storage, bridge.settings.mirror_voicemail_deletes
    if media.deletable and mirror and deletions.deleted_at(storage, media.name, id):
        return
    record = bridge.pbx.call(media.operation, lane="media", **{media.parameter: id})
    url = record.get(media.url)
    if str(record.get(media.id) or id) != str(id):
        raise MediaNotReady("another record")
    if not url:
        raise MediaNotReady("no address yet")
    description = _describe(media, id, record, message)
    stored = _fetch(bridge, media, description, str(url).strip())
    if media.deletable and (when := deletions.deleted_at(storage, media.name, id)):
        deletions.withdraw(storage, media.name, media.container, id, when=when, delete=mirror)
        if mirror:
            return
    told = {name: value for name, value in record.items() if name != media.url}
    told |= {media.id: id, "callID": description.call_id, **stored}
    submit(storage, bridge.settings, media.stored, told, origin="bridge")


def _fetch(bridge: Bridge, media: Media, description: Description, url: str) -> dict[str, Any]:
    def note(blob: str) -> None:
        if media.deletable:
            deletions.note_copy(bridge.storage, media.name, description.id, blob)

    key, patience = bridge.pbx.headers(), Patience()
    try:
        with download(url, bridge.settings, key, patience) as file:
            return blobs.store(bridge.storage, description, file, before=note)
    except blobs.OtherBytes as other:
        logger.warning("signal media_conflict kind=%s id=%d: both are kept", description.kind, description.id)
        with download(url, bridge.settings, key, patience) as file:
            return blobs.store_beside(bridge.storage, description, file, other.sha256)


def _describe(media: Media, id: int, record: Mapping[str, Any], message: Mapping[str, Any]) -> Description:
    call_id = _number(record.get("callID")) or _number(message.get("callID"))
    try:
        started = parse_time(str(record.get("callStarted") or ""))
    except ValueError:
        started = (call_start(call_id) if call_id else None) or parse_time(message["received"])
    direction = str(record.get("direction") or "")
    return Description(
        kind=media.name,
        container=media.container,
        id=id,
        call_id=call_id,
        contact_id=_number(record.get("contactID")),
        direction=direction if _WORD.fullmatch(direction) else None,
        started=started,
        attempts=int(message.get("attempt", 0)) + 1,
        event=str(message.get("event", "")),
    )


def _number(value: Any) -> int | None:
    try:
        return int(value)
    except (TypeError, ValueError):
        return None


def _withdraw(bridge: Bridge, media: Media, id: int, message: Mapping[str, Any]) -> None:
    delete = bridge.settings.mirror_voicemail_deletes
    when = str(message["received"])
    deletions.withdraw(bridge.storage, media.name, media.container, id, when=when, delete=delete)


def _try_later(bridge: Bridge, message: Mapping[str, Any], error: MediaError | PbxError) -> None:
    attempt = int(message.get("attempt", 0))
    reason = error.reason if isinstance(error, MediaError) else type(error).__name__
    if attempt >= len(DELAYS):
        _dead_letter(bridge, message, reason)
        return
    # Put back before the host deletes this one: dying in between leaves two, never none.
    again = {**message, "attempt": attempt + 1, "reason": reason, "last": iso(now())}
    send(bridge.storage, QUEUE, again, name=_name(message), delay=DELAYS[attempt])


def _wait(bridge: Bridge, message: Mapping[str, Any], seconds: int | None) -> None:
    waits = int(message.get("waits", 0))
    if waits >= _WAITS:
        _dead_letter(bridge, message, "the PBX's budget of calls stays used up")
        return
    delay = min(max(seconds or DELAYS[0], 1), _LONGEST_WAIT)
    send(bridge.storage, QUEUE, {**message, "waits": waits + 1}, name=_name(message), delay=delay)


def _dead_letter(bridge: Bridge, message: Mapping[str, Any], reason: str) -> None:
    attempts = int(message.get("attempt", 0)) + 1
    name = _name(message)
    dead_letters.dead_letter(
        bridge.storage, kind="media", id=name, reason=reason, body=encode(message), attempts=attempts
    )


def _name(message: Mapping[str, Any]) -> str:
    return f"{message['kind']}-{message['id']}"
