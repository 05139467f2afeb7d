"""Copies recordings and voicemails from the PBX into Blob Storage, whole and once."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from shared import errors, people
from shared.bridge import Bridge
from shared.errors import MediaNotReady
from shared.events import store as events
from shared.events.event import event_of_row, seconds, submit, talk_seconds
from shared.events.table import STORED_AUDIO
from shared.items import store
from shared.media import blobs
from shared.media.audio import download
from shared.pbx.resources import resource
from shared.storage.account import Storage, once
from shared.storage.messages import dead_letter, delete_versions, send
from shared.times import call_start, event_time, iso, now, parse_time
from shared.values import encode, identifier

Record = dict[str, Any]

logger = logging.getLogger(__name__)

QUEUE = "media"
# Seconds until each next look at a file that is not ready, or that seems too short. After the last one the file is kept
# as it is, or becomes a dead letter if there is none.
DELAYS = (5, 30, 120, 600, 3600, 21600, 86400)
# A copy takes no longer: below the host's functionTimeout.
_LONGEST_SECONDS = 25 * 60.0
# The number of tries with the event's address. Addresses expire, so later tries ask the PBX for the current one.
_OWN_ADDRESS = 2
# Polls store the fields that the event lacks within minutes. After so many looks the copy is announced without them.
LOOK_SECONDS, LOOKS = 60, 8
_LATE_SECONDS = 3600
# A poll reads a thousand records with one call: a single record is asked for rarely, where polls leave room.
_LOOK_LANE, _LOOK_PAUSE = "backfill", 5.0
# A direction that fits into a blob's metadata and tags.
_WORD = re.compile(r"[A-Za-z0-9_.-]{1,64}")


class _Forgotten(Exception):
    """The file is of somebody who was erased since."""


class _Silent(MediaNotReady):
    """No file, and none is expected: the caller hung up at the beep."""


def copy(bridge: Bridge, message: Mapping[str, Any]) -> None:
    """
    Do the work of a message of queue `media`: `action` copy copies a file, withdraw marks or deletes our copy.

    An incomplete file is tried again after each of DELAYS, then kept as it is and marked. If there is no file by then,
    or at once if it must not be fetched, the message becomes a dead letter. Twice is harmless.

    Raises Unprocessable for a message that asks for no media. StorageUnavailable, BudgetExhausted, PbxRetriable,
    PbxForbidden and MediaUnreachable pass with time.
    """
    try:
        media, id = {row.name: row for row in blobs.MEDIA}[message["kind"]], int(message["id"])
        name, attempt = f"{media.name}-{id}-{message['action']}", int(message.get("attempt", 0))
        rest = {field: value for field, value in message.items() if field != "record"}
        work = _Work(bridge, media, id, name, attempt, rest, message.get("record"))
        action = {"copy": work.copy, "withdraw": work.withdraw}[message["action"]]
        age = (now() - parse_time(message["received"])).total_seconds()
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise errors.Unprocessable("the message asks for no media") from error
    try:
        action()
    except (errors.MediaRefused, errors.Unprocessable) as error:
        work.dead_letter(str(error))
    except _Forgotten:
        logger.info("%s %d is of somebody who was erased since", media.name, id)
    except (errors.PbxRetriable, errors.PbxForbidden, errors.MediaUnreachable):
        raise
    except (MediaNotReady, errors.PbxError) as error:
        reason = str(error) if isinstance(error, MediaNotReady) else type(error).__name__
        logger.info("%s %d is not ready, try %d: %s", media.name, id, work.attempt + 1, reason)
        is_quiet = isinstance(error, _Silent) or bool(message.get("kept"))
        if age > _LATE_SECONDS and not is_quiet:
            logger.warning("signal media_waiting kind=%s id=%d seconds=%d", media.name, id, age)
        work.look_again(reason, is_quiet=is_quiet)


@dataclass(frozen=True, slots=True)
class _Work:
    """
    The work of a message, at its `attempt` counted from 0.

    `record` is the data of its event, in the first message only: its address is a secret, and an erasure cannot find
    the numbers in a message that waits.
    """

    bridge: Bridge
    media: blobs.Media
    id: int
    name: str
    attempt: int
    message: dict[str, Any]
    record: Mapping[str, Any] | None

    def withdraw(self) -> None:
        """Mark or delete our copies of what the PBX has deleted."""
        delete, inferred = self.bridge.settings.mirror_voicemail_deletes, bool(self.message.get("inferred"))
        when = str(self.message["received"])
        blobs.withdraw(self.bridge.storage, self.media, self.id, when=when, delete=delete, inferred=inferred)

    def copy(self) -> None:
        """Store the file, unless an earlier run of this message has, and announce it."""
        storage, mirrored = self.bridge.storage, self.bridge.settings.mirror_voicemail_deletes
        record, stored = self._record(), self.message.get("stored")
        if stored is None:
            if mirrored and (row := blobs.deletion(storage, self.media, self.id)) and not row["inferred"]:
                return
            try:
                record, stored = self._stored(record)
            except (MediaNotReady, errors.PbxError) as error:
                # A PBX out of reach proves nothing; any other failure means that a deleted voicemail is gone.
                is_over = not isinstance(error, errors.PbxRetriable | errors.PbxForbidden)
                if not is_over or blobs.deletion(storage, self.media, self.id) is None:
                    raise
                logger.info("%s %d was deleted before it was copied", self.media.name, self.id)
                return
            # A copy that is only marked is announced too.
            if blobs.withdraw_copies(storage, self.media, self.id, delete=mirrored):
                return
        self._announce(record, stored)

    def _record(self) -> Record:
        """Return the data of the event, from its row if the message has waited."""
        record = self.record
        if record is None and (row := events.get(self.bridge.storage, str(self.message.get("event")))) is not None:
            event = event_of_row(self.bridge.storage, row)
            record = event.envelope["data"] if event else None
        return _filled(record or {})

    def _stored(self, record: Record) -> tuple[Record, dict[str, Any]]:
        """Store the file from the event's address, else from the PBX's; return the completed record, and the place."""
        if self.media.url in record and self.attempt < _OWN_ADDRESS:
            try:
                return record, self._fetch(record)
            except errors.MediaRefused as error:
                # Anybody can post an event; the PBX's own address decides.
                logger.warning("%s %d came with an address that is not used: %s", self.media.name, self.id, error)
        # Fields that the PBX's own record lacks are known to be absent: no poll will have them.
        record = dict.fromkeys(self.media.lacking) | record | self._asked("media")
        if self.media.url not in record:
            raise MediaNotReady("no address yet")
        return record, self._fetch(record)

    def _asked(self, lane: str) -> Record:
        """Return the PBX's record; raises MediaNotReady if it has another id, and the errors of the PBX's client."""
        source = resource(self.media.resource)
        record: Record = self.bridge.pbx.call(source.read_operation, lane=lane, **{source.id_parameter: self.id})
        # A field that spells no id counts as absent.
        if (identifier(record.get(self.media.id)) or self.id) != self.id:
            raise MediaNotReady("another record")
        return _filled(record)

    def _fetch(self, record: Record) -> dict[str, Any]:
        bridge, description = self.bridge, self._describe(record)
        self._check_forgotten(description, record)
        url, key, until = str(record[self.media.url]), bridge.pbx.headers(), time.monotonic() + _LONGEST_SECONDS
        try:
            with download(url, bridge.settings, key, until) as file:
                stored = blobs.store(bridge.storage, description, file, final=self.attempt >= len(DELAYS))
        except blobs.OtherBytes as other:
            logger.warning("signal media_conflict kind=%s id=%d: both are kept", self.media.name, self.id)
            with download(url, bridge.settings, key, until) as file:
                stored = blobs.store(bridge.storage, description, file, final=True, beside=str(other))
        except MediaNotReady as error:
            raise (_Silent(str(error)) if description.seconds == 0 else error) from None
        # An erasure during the copy looked for the file too early, so its tombstone is looked up now.
        self._check_forgotten(description, record, is_stored=True, fresh=True)
        if stored.get(blobs.INCOMPLETE):
            self.look_again("incomplete", is_kept=True)
        return stored

    def _describe(self, record: Record) -> blobs.Description:
        call_id, contact_id = self._call_id(record), identifier(record.get("contactID"))
        started = event_time(record.get("callStarted")) or call_start(call_id or 0)
        started, length = started or parse_time(self.message["received"]), seconds(record.get(self.media.seconds))
        ids = {"sourceId": self.id, "callID": call_id, "contactID": contact_id}
        known = {name: str(value) for name, value in ids.items() if value is not None}
        if _WORD.fullmatch(direction := str(record.get("direction") or "")):
            known["direction"] = direction
        origin = {"callStarted": iso(started), "attempts": str(self.attempt + 1)}
        if event := self.message.get("event"):
            origin["event"] = str(event)
        return blobs.Description(
            media=self.media,
            id=self.id,
            started=started,
            seconds=talk_seconds(record) if length is None else length,
            stem=f"{started:%Y/%m/%d}/{self.id}",
            metadata=known | origin,
            tags=known | {"kind": self.media.name, "date": f"{started:%Y-%m-%d}"},
        )

    def _call_id(self, record: Record) -> int | None:
        return identifier(record.get("callID")) or identifier(self.message.get("callID"))

    def _check_forgotten(
        self, of: blobs.Description, record: Record, *, is_stored: bool = False, fresh: bool = False
    ) -> None:
        """Raise _Forgotten for a file of somebody who was erased, and delete it if it is stored already."""
        storage, region = self.bridge.storage, self.bridge.settings.default_region
        texts = {str(record[name]) for name in ("caller", "destination", "sender") if record.get(name)}
        subjects = [people.number(text, region) for text in sorted(texts)]
        subjects.append(f"{self.media.name} {self.id}")
        if call_id := self._call_id(record):
            subjects.append(people.call(call_id))
        if people.is_forgotten(storage, subjects, of.started, fresh=fresh):
            if is_stored:
                delete_versions(storage.container(self.media.container), f"{of.stem}.")
            raise _Forgotten

    def _announce(self, record: Record, stored: Mapping[str, Any]) -> None:
        bridge, media, looks = self.bridge, self.media, int(self.message.get("looks", 0))
        if looks < LOOKS and any(name not in record for name in media.lacking):
            if (more := self._polled()) is None:
                self._send_again({"stored": stored, "looks": looks + 1}, LOOK_SECONDS)
                return
            record = more | record
            # Only now does the record have the numbers.
            self._check_forgotten(self._describe(record), record, is_stored=True)
        # Filled in here only: a field of the PBX with the same name means something else.
        own = {media.url, *STORED_AUDIO}
        fields = {name: value for name, value in _filled(record).items() if name not in own}
        fields |= {media.id: self.id, "callID": self._call_id(record), **stored}
        submit(bridge, media.stored, fields, origin="bridge")

    def _polled(self) -> Record | None:
        """Return the whole record from the polled row, or once in a while from the PBX, or None."""
        polled, last = store.get(self.bridge.storage, self.media.resource, self.id), _last_look(self.bridge.storage)
        if polled is not None:
            return _filled(polled)
        if (moment := time.monotonic()) < last.get("at", -_LOOK_PAUSE) + _LOOK_PAUSE:
            return None
        last["at"] = moment
        try:
            return self._asked(_LOOK_LANE)
        except (errors.PbxError, errors.BudgetExhausted, MediaNotReady):
            return None

    def look_again(self, reason: str, *, is_quiet: bool = False, is_kept: bool = False) -> None:
        """Put the message back with the next delay, or end after the last one."""
        is_kept = is_kept or bool(self.message.get("kept"))
        if self.attempt < len(DELAYS):
            # Put back before the host deletes this one: dying in between leaves two, never none.
            self._send_again({"attempt": self.attempt + 1, "kept": is_kept}, DELAYS[self.attempt])
        elif is_kept:
            logger.warning("signal media_incomplete kind=%s id=%d: it is kept as it is", self.media.name, self.id)
        elif not is_quiet:
            self.dead_letter(reason)

    def _send_again(self, changes: dict[str, Any], delay: int) -> None:
        send(self.bridge.storage, QUEUE, self.message | changes, name=self.name, delay=delay)

    def dead_letter(self, reason: str) -> None:
        """Keep the message as a dead letter."""
        storage, body, tries = self.bridge.storage, encode(self.message), self.attempt + 1
        dead_letter(storage, kind=QUEUE, id=self.name, reason=reason, body=body, attempts=tries)


def _filled(record: Mapping[str, Any]) -> Record:
    return {name: value for name, value in record.items() if value not in (None, "")}


@once
def _last_look(storage: Storage) -> dict[str, float]:
    return {}
