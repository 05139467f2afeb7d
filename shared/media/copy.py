"""Copies recordings and voicemails from the PBX into Blob Storage, whole and once."""

from __future__ import annotations

import logging
import re
import time
from typing import TYPE_CHECKING, Any

from shared import forgotten, people
from shared.errors import (
    BudgetExhausted,
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
from shared.events import store as events
from shared.events.event import event_of_row, seconds, submit
from shared.events.table import STORED_AUDIO
from shared.identifiers import identifier
from shared.items import reader
from shared.json_bodies import encode
from shared.media import blobs, deletions
from shared.media.download import LONGEST_SECONDS, download
from shared.media.table import MEDIA
from shared.once import once
from shared.pbx.resources import resource
from shared.storage import dead_letters
from shared.storage.expiry import delete_versions
from shared.storage.messages import send
from shared.times import call_start, event_time, iso, now, parse_time

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shared.bridge import Bridge
    from shared.media.table import Media
    from shared.storage.account import Storage

    Record = dict[str, Any]

logger = logging.getLogger(__name__)

QUEUE = "media"
# Seconds until each next look at a file that is not ready, or that seems too short. After the last one the file is kept
# as it is, or becomes a dead letter where there is none.
DELAYS = (5, 30, 120, 600, 3600, 21600, 86400)
# So many tries use the address that came with the event; addresses expire, so later ones ask for the one of now.
_OWN_ADDRESS = 2
# Polls bring what the event lacks within some minutes; then it is announced without.
LOOK_SECONDS, LOOKS = 60, 8
_LATE_SECONDS = 3600
# Polls bring a thousand records with one call: one by its id is asked for rarely, where they leave room for it.
_LOOK_LANE, _LOOK_PAUSE = "backfill", 5.0
# A direction that fits into a blob's metadata and tags.
_WORD = re.compile(r"[A-Za-z0-9_.-]{1,64}")


class _Forgotten(Exception):
    """The file is of somebody who was erased since."""


class _Silent(MediaNotReady):
    """No file of a call without seconds: its caller hung up at the beep."""


def copy(bridge: Bridge, message: Mapping[str, Any]) -> None:
    """
    Do the work of a message of queue `media`: `action` copy copies a file, withdraw marks or deletes our copy.

    A file that is not all there is looked at again after each of DELAYS. Then as much as there is of it is kept and
    marked; without a file, or at once where it must not be fetched, the message becomes a dead letter. Twice is
    harmless. Raises Unprocessable for a message that asks for no media, and for what can be waited for
    StorageUnavailable, BudgetExhausted, PbxRetriable, PbxForbidden and MediaUnreachable.
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
        _dead_letter(bridge, message, str(error))
    except Invalid as error:
        # The file is kept, but the event that announces it would have fields that no reader expects.
        _dead_letter(bridge, message, f"does not fit: {', '.join(error.fields)}")
    except _Forgotten:
        logger.info("%s %d is of somebody who was erased since", media.name, id)
    except (PbxRetriable, PbxForbidden, MediaUnreachable):
        raise
    except (MediaError, PbxError) as error:
        reason = str(error) if isinstance(error, MediaError) else type(error).__name__
        logger.info("%s %d is not ready, try %d: %s", media.name, id, message["attempt"] + 1, reason)
        age = (now() - received).total_seconds()
        quiet = isinstance(error, _Silent) or bool(message.get("kept"))
        if age > _LATE_SECONDS and not quiet:
            logger.warning("signal media_waiting kind=%s id=%d seconds=%d", media.name, id, age)
        _look_again(bridge, media, id, message, reason, quiet=quiet)


def _copy(bridge: Bridge, media: Media, id: int, message: Mapping[str, Any]) -> None:
    record, stored, asked = _record(bridge, message), message.get("stored"), False
    mirrored = bridge.settings.mirror_voicemail_deletes
    if stored is None:
        if mirrored and deletions.may_delete(bridge.storage, media, id):
            return
        try:
            record, stored, asked = _stored(bridge, media, id, message, record)
        except (MediaNotReady, PbxError) as error:
            # A PBX out of reach proves nothing; any other answer without audio is the end of a deleted voicemail.
            if isinstance(error, PbxRetriable | PbxForbidden) or not deletions.is_deleted(bridge.storage, media, id):
                raise
            logger.info("%s %d was deleted before it was copied", media.name, id)
            return
        # A copy that is only marked is announced all the same.
        if deletions.withdraw_copy(bridge.storage, media, id, delete=mirrored):
            return
    # What the PBX was asked for is all that it knows.
    looks = LOOKS if asked else int(message.get("looks", 0))
    _announce(bridge, media, id, {**message, "record": record, "looks": looks}, stored)


def _record(bridge: Bridge, message: Mapping[str, Any]) -> Record:
    """Return what the event said: the first message has it, for those that wait it stands in the event's row."""
    record = message.get("record")
    if record is None and (row := events.get(bridge.storage, str(message.get("event")))) is not None:
        event = event_of_row(bridge.storage, row)
        record = event.envelope["data"] if event else None
    return _filled(record or {})


def _filled(record: Mapping[str, Any]) -> Record:
    return {name: value for name, value in record.items() if value not in (None, "")}


def _stored(
    bridge: Bridge, media: Media, id: int, message: Mapping[str, Any], record: Record
) -> tuple[Record, dict[str, Any], bool]:
    """Store the file by the event's address or the PBX's; return record, place, and True if the PBX was asked."""
    tries = message["attempt"] + sum((message.get("tries") or {}).values())
    if media.url in record and tries < _OWN_ADDRESS:
        try:
            return record, _fetch(bridge, media, id, message, record), False
        except MediaRefused as error:
            # Anybody can post an event; the PBX's own address decides.
            logger.warning("%s %d came with an address that is not used: %s", media.name, id, error)
    record = record | _asked(bridge, media, id)
    if media.url not in record:
        raise MediaNotReady("no address yet")
    return record, _fetch(bridge, media, id, message, record), True


def _asked(bridge: Bridge, media: Media, id: int, *, lane: str = "media") -> Record:
    """Return the PBX's record; raises MediaNotReady for another one's, and what the PBX's client raises."""
    source = resource(media.resource)
    record: Record = bridge.pbx.call(source.read_operation, lane=lane, **{source.id_parameter: id})
    # A field that spells no id counts as absent.
    if (identifier(record.get(media.id)) or id) != id:
        raise MediaNotReady("another record")
    return _filled(record)


def _completed(bridge: Bridge, media: Media, id: int, record: Record) -> tuple[Record, bool]:
    """Return the record with the fields that its event lacks, of the polled row or the PBX, and True if it has them."""
    if all(name in record for name in media.lacking):
        return record, True
    polled = reader.get(bridge.storage, media.resource, id)
    if polled is None and _may_look(bridge.storage):
        try:
            polled = _asked(bridge, media, id, lane=_LOOK_LANE)
        except (PbxError, BudgetExhausted, MediaNotReady):
            return record, False
    return _filled(polled or {}) | record, polled is not None


def _may_look(storage: Storage) -> bool:
    """Return True once in a while."""
    last, moment = _last_look(storage), time.monotonic()
    if due := moment >= last.get("at", -_LOOK_PAUSE) + _LOOK_PAUSE:
        last["at"] = moment
    return due


@once
def _last_look(storage: Storage) -> dict[str, float]:
    return {}


def _fetch(bridge: Bridge, media: Media, id: int, message: Mapping[str, Any], record: Record) -> dict[str, Any]:
    description = _describe(media, id, record, message)
    if _is_forgotten(bridge, description, record):
        raise _Forgotten
    url, key, until = str(record[media.url]), bridge.pbx.headers(), time.monotonic() + LONGEST_SECONDS
    try:
        with download(url, bridge.settings, key, until) as file:
            stored = blobs.store(bridge.storage, description, file, final=message["attempt"] >= len(DELAYS))
    except blobs.OtherBytes as other:
        logger.warning("signal media_conflict kind=%s id=%d: both are kept", media.name, id)
        with download(url, bridge.settings, key, until) as file:
            return blobs.store(bridge.storage, description, file, final=True, beside=other.sha256)
    except MediaNotReady as error:
        raise (_Silent(str(error)) if description.seconds == 0 else error) from None
    if _is_forgotten(bridge, description, record, fresh=True):
        # Erased while it was copied: whoever erases has looked before the file was there.
        _delete(bridge, description)
        raise _Forgotten
    if stored.get(blobs.INCOMPLETE):
        _look_again(bridge, media, id, {**message, "kept": True}, "incomplete", quiet=True)
    return stored


def _is_forgotten(bridge: Bridge, of: blobs.Description, record: Record, *, fresh: bool = False) -> bool:
    texts = {str(record[name]) for name in ("caller", "destination", "sender") if record.get(name)}
    subjects = [people.number(text, bridge.settings.default_region) for text in sorted(texts)]
    subjects += [f"{of.media.name} {of.id}"] + ([people.call(of.call_id)] if of.call_id else [])
    return forgotten.is_forgotten(bridge.storage, subjects, of.started, fresh=fresh)


def _delete(bridge: Bridge, of: blobs.Description) -> None:
    delete_versions(bridge.storage.container(of.media.container), f"{of.stem}.")


def _announce(bridge: Bridge, media: Media, id: int, message: Mapping[str, Any], stored: Mapping[str, Any]) -> None:
    record = message["record"]
    if message["looks"] < LOOKS:
        record, found = _completed(bridge, media, id, record)
        if not found:
            _send_again(bridge, {**message, "stored": stored, "looks": message["looks"] + 1}, LOOK_SECONDS)
            return
        description = _describe(media, id, record, message)
        if _is_forgotten(bridge, description, record):
            # Only now the record tells whose it is.
            _delete(bridge, description)
            raise _Forgotten
    # Only we fill these in: the PBX's field of the same name is another thing.
    own = {media.url, *STORED_AUDIO}
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
        seconds=seconds(record.get(media.seconds)),
    )


def _call_id(record: Record, message: Mapping[str, Any]) -> int | None:
    return identifier(record.get("callID")) or identifier(message.get("callID"))


def _withdraw(bridge: Bridge, media: Media, id: int, message: Mapping[str, Any]) -> None:
    how = {"delete": bridge.settings.mirror_voicemail_deletes, "inferred": bool(message.get("inferred"))}
    deletions.withdraw(bridge.storage, media, id, when=str(message["received"]), **how)


def _look_again(bridge: Bridge, media: Media, id: int, message: Mapping[str, Any], reason: str, *, quiet: bool) -> None:
    """Put the message back with the next delay, or end after the last one."""
    if message["attempt"] < len(DELAYS):
        # Put back before the host deletes this one: dying in between leaves two, never none.
        again = {**message, "attempt": message["attempt"] + 1, "reason": reason, "last": iso(now())}
        _send_again(bridge, again, DELAYS[message["attempt"]])
    elif message.get("kept"):
        logger.warning("signal media_incomplete kind=%s id=%d: as much as there is of it is kept", media.name, id)
    elif not quiet:
        _dead_letter(bridge, message, reason)


def _send_again(bridge: Bridge, message: Mapping[str, Any], delay: int) -> None:
    # Without the record: no queue shows what waits in it, so an erasure could not find the numbers.
    send(bridge.storage, QUEUE, _without_record(message), name=name_of(message), delay=delay)


def _dead_letter(bridge: Bridge, message: Mapping[str, Any], reason: str) -> None:
    # Without the record, whose address is a secret.
    id, body, attempts = name_of(message), encode(_without_record(message)), message["attempt"] + 1
    dead_letters.dead_letter(bridge.storage, kind="media", id=id, reason=reason, body=body, attempts=attempts)


def _without_record(message: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in message.items() if name != "record"}


def name_of(message: Mapping[str, Any]) -> str:
    """Return the name of a message's work, which its dead letter and payload have too."""
    return f"{message['kind']}-{message['id']}-{message['action']}"
