"""The media copier: recordings and voicemails from the PBX into Blob Storage, whole and once."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, Any

from shared.errors import (
    Invalid,
    MediaError,
    MediaNotReady,
    MediaRefused,
    MediaUnreachable,
    PbxError,
    PbxForbidden,
    PbxRetriable,
    Unprocessable,
)
from shared.events.receive import submit
from shared.identifiers import identifier
from shared.json_bodies import encode
from shared.media import blobs, deletions, records
from shared.media.download import Patience, download
from shared.media.table import MEDIA
from shared.storage import dead_letters
from shared.storage.messages import send
from shared.times import call_start, event_time, iso, now, parse_time

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shared.bridge import Bridge
    from shared.media.records import Record
    from shared.media.table import Media

logger = logging.getLogger(__name__)

QUEUE = "media"
# Seconds until each next look at a file that is not ready, or that seems too short; after the last one it is kept as it
# is, or becomes a dead letter where there is no audio to keep.
DELAYS = (5, 30, 120, 600, 3600, 21600, 86400)
# So many tries use the address that came with the event; addresses expire, so later ones ask for the one of now.
_OWN_ADDRESS = 2
# What the event lacks is polled within a minute or two; then it is said without.
LOOK_SECONDS, LOOKS = 20, 8
_LATE_SECONDS = 3600
# What may stand in a blob's metadata and tags; the PBX may send more.
_WORD = re.compile(r"[A-Za-z0-9_.-]{1,64}")


def copy(bridge: Bridge, message: Mapping[str, Any]) -> None:
    """
    Do what a message of queue `media` asks: copy a file (`action` copy), or mark or delete our copy (withdraw).

    A file that is not all there is looked at again after each of DELAYS. Then what there is of it is kept and marked;
    without any audio, or at once where it must not be fetched, the message becomes a dead letter. Doing it twice
    changes nothing. Raises Unprocessable for a message that is none, and what can be waited for: StorageUnavailable,
    BudgetExhausted, PbxRetriable, PbxForbidden, MediaUnreachable.
    """
    try:
        media, id = {row.name: row for row in MEDIA}[message["kind"]], int(message["id"])
        received, message = parse_time(message["received"]), {**message, "attempt": int(message.get("attempt", 0))}
        action = {"copy": _copy, "withdraw": _withdraw}[message["action"]]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Unprocessable("the message asks for no media") from error
    try:
        action(bridge, media, id, message)
    except (MediaRefused, Unprocessable) as error:
        _dead_letter(bridge, media, message, str(error))
    except Invalid as error:
        # The file is kept, but the event that announces it would carry what no reader expects.
        _dead_letter(bridge, media, message, f"does not fit: {', '.join(error.fields)}")
    except (PbxRetriable, PbxForbidden, MediaUnreachable):
        raise
    except (MediaError, PbxError) as error:
        reason = str(error) if isinstance(error, MediaError) else type(error).__name__
        logger.info("%s %d is not ready, try %d: %s", media.name, id, message["attempt"] + 1, reason)
        age = (now() - received).total_seconds()
        if age > _LATE_SECONDS and not message.get("kept"):
            logger.warning("signal media_waiting kind=%s id=%d seconds=%d", media.name, id, age)
        _look_again(bridge, media, id, message, reason)


def _copy(bridge: Bridge, media: Media, id: int, message: Mapping[str, Any]) -> None:
    record, stored = records.known(message.get("record") or {}), message.get("stored")
    mirrored = bridge.settings.mirror_voicemail_deletes
    if stored is None:
        if mirrored and deletions.may_delete(bridge.storage, media, id):
            return
        try:
            record, stored = _stored(bridge, media, id, message, record)
        except (MediaNotReady, PbxError) as error:
            # What is out of reach says nothing, any other answer without audio is the end of what was deleted.
            if isinstance(error, PbxRetriable | PbxForbidden) or not deletions.is_deleted(bridge.storage, media, id):
                raise
            logger.info("%s %d was deleted before it was copied", media.name, id)
            return
        # A copy that is only marked is announced all the same.
        if deletions.withdraw_copy(bridge.storage, media, id, delete=mirrored):
            return
    _announce(bridge, media, id, {**message, "record": record}, stored)


def _stored(
    bridge: Bridge, media: Media, id: int, message: Mapping[str, Any], record: Record
) -> tuple[Record, dict[str, Any]]:
    """The record that the file came by, and where it is now; a file that seems too short is looked at again."""
    tries = message["attempt"] + sum((message.get("tries") or {}).values())
    if media.url in record and tries < _OWN_ADDRESS:
        try:
            return record, _fetch(bridge, media, id, message, record)
        except MediaRefused as error:
            # Anybody can post an event; the PBX's own word is the last one.
            logger.warning("%s %d came with an address that is not used: %s", media.name, id, error)
    record = record | records.asked(bridge, media, id)
    if media.url not in record:
        raise MediaNotReady("no address yet")
    return record, _fetch(bridge, media, id, message, record)


def _fetch(bridge: Bridge, media: Media, id: int, message: Mapping[str, Any], record: Record) -> dict[str, Any]:
    description = _describe(media, id, record, message)
    url, key, patience = str(record[media.url]).strip(), bridge.pbx.headers(), Patience()
    try:
        with download(url, bridge.settings, key, patience) as file:
            stored = blobs.store(bridge.storage, description, file, final=message["attempt"] >= len(DELAYS))
    except blobs.OtherBytes as other:
        logger.warning("signal media_conflict kind=%s id=%d: both are kept", media.name, id)
        with download(url, bridge.settings, key, patience) as file:
            return blobs.store(bridge.storage, description, file, final=True, beside=other.sha256)
    if stored.get(blobs.INCOMPLETE):
        _look_again(bridge, media, id, {**message, "kept": True}, "incomplete")
    return stored


def _announce(bridge: Bridge, media: Media, id: int, message: Mapping[str, Any], stored: Mapping[str, Any]) -> None:
    from shared.events.model import StoredAudio

    looks = int(message.get("looks", 0))
    record, found = records.completed(bridge, media, id, message["record"])
    if not found and looks < LOOKS:
        again = {**message, "stored": stored, "looks": looks + 1}
        send(bridge.storage, QUEUE, again, name=name_of(message), delay=LOOK_SECONDS)
        return
    # What only we fill in: the PBX's field of the same name is another thing.
    own = {media.url, *StoredAudio.model_fields}
    fields = {name: value for name, value in record.items() if name not in own}
    fields |= {media.id: id, "callID": _call_id(record, message), **stored}
    submit(bridge.storage, bridge.settings, media.stored, fields, origin="bridge")


def _describe(media: Media, id: int, record: Record, message: Mapping[str, Any]) -> blobs.Description:
    call_id = _call_id(record, message)
    said = event_time(record.get("callStarted")) or (call_start(call_id) if call_id else None)
    started = said or parse_time(message["received"])
    direction = str(record.get("direction") or "")
    return blobs.Description(
        media=media,
        id=id,
        call_id=call_id,
        contact_id=identifier(record.get("contactID")),
        direction=direction if _WORD.fullmatch(direction) else None,
        started=started,
        attempts=message["attempt"] + 1,
        event=str(message.get("event", "")),
        seconds=records.seconds(media, record),
    )


def _call_id(record: Mapping[str, Any], message: Mapping[str, Any]) -> int | None:
    return identifier(record.get("callID")) or identifier(message.get("callID"))


def _withdraw(bridge: Bridge, media: Media, id: int, message: Mapping[str, Any]) -> None:
    how = {"delete": bridge.settings.mirror_voicemail_deletes, "inferred": bool(message.get("inferred"))}
    deletions.withdraw(bridge.storage, media, id, when=str(message["received"]), **how)


def _look_again(bridge: Bridge, media: Media, id: int, message: Mapping[str, Any], reason: str) -> None:
    """Have the file looked at again later, or say that this was the last time."""
    if message["attempt"] < len(DELAYS):
        # Put back before the host deletes this one: dying in between leaves two, never none.
        again = {**message, "attempt": message["attempt"] + 1, "reason": reason, "last": iso(now())}
        send(bridge.storage, QUEUE, again, name=name_of(message), delay=DELAYS[message["attempt"]])
    elif message.get("kept"):
        logger.warning("signal media_incomplete kind=%s id=%d: what there is of it is kept", media.name, id)
    else:
        _dead_letter(bridge, media, message, reason)


def _dead_letter(bridge: Bridge, media: Media, message: Mapping[str, Any], reason: str) -> None:
    # Without the address, which is a secret and will have expired: a replay asks for the one of then.
    record = {name: value for name, value in (message.get("record") or {}).items() if name != media.url}
    body = encode({**message, **({"record": record} if "record" in message else {})})
    attempts = message["attempt"] + 1
    dead_letters.dead_letter(
        bridge.storage, kind="media", id=name_of(message), reason=reason, body=body, attempts=attempts
    )


def name_of(message: Mapping[str, Any]) -> str:
    """The work that a message asks for, as the name of its dead letter and payload."""
    return f"{message['kind']}-{message['id']}-{message['action']}"
