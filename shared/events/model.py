"""What each event carries, field by field, as the PBX's reference names it; unknown fields are kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.events.data import Data, known
from shared.events.data import known_fields as known_fields  # noqa: PLC0414 - they are all known from here on
from shared.events.field_types import (
    AnyIdentifier,
    AnyInteger,
    AnyMoment,
    AnyPhone,
    AnySeconds,
    AnyString,
    AnyText,
    Identifier,
    Moment,
    Phone,
)
from shared.times import after

if TYPE_CHECKING:
    from datetime import datetime


class Call(Data):
    """A call as CallStarted describes it."""

    callID: Identifier
    caller: AnyPhone = None
    destination: AnyPhone = None
    direction: AnyText = None
    status: AnyInteger = None
    callStarted: AnyMoment = None
    contactID: AnyIdentifier = None

    @property
    def moment(self) -> datetime | None:
        return self.callStarted


class ConnectedCall(Call):
    """A call that somebody answered."""

    callConnected: AnyMoment = None

    @property
    def moment(self) -> datetime | None:
        return self.callConnected


@known
class CompletedCall(ConnectedCall):
    """A call that has ended; `connectionTime` is in seconds, `previous_contactID` stands only on transferred calls."""

    connectionTime: AnySeconds = None
    previous_contactID: AnyIdentifier = None
    # Only the history has the end; a reconciled event carries it.
    callEnded: AnyMoment = None

    @property
    def moment(self) -> datetime | None:
        if self.callEnded or self.callConnected is None or self.connectionTime is None:
            return self.callEnded
        return after(self.callConnected, self.connectionTime)


class Recording(Data):
    """A recording that has been made; its file may come later."""

    recordingID: Identifier
    callID: AnyIdentifier = None
    callStarted: AnyMoment = None
    recordingURL: AnyString = None
    direction: AnyText = None
    connectionTime: AnySeconds = None


class LostCaller(Data):
    """Who could not be reached by whom; both are on every such event, though a withheld number is empty."""

    destination: Phone
    callerid: Phone


@known
class LostCall(LostCaller):
    """A caller waiting to be called back, after so many attempts."""

    contact_name: AnyString = None
    attempts: AnyInteger = None
    last_contact: AnyMoment = None

    @property
    def moment(self) -> datetime | None:
        return self.last_contact


class DeletedVoicemail(Data):
    """A voicemail that was deleted at the PBX."""

    voicemailID: Identifier
    sender: AnyPhone = None


class Voicemail(DeletedVoicemail):
    """A voicemail that was left; `length` is in seconds."""

    length: AnySeconds = None
    callStarted: AnyMoment = None
    voicemailBoxID: AnyIdentifier = None
    voicemailBoxName: AnyString = None
    messageURL: AnyString = None

    @property
    def moment(self) -> datetime | None:
        return self.callStarted


class StoredAudio(Data):
    """Audio that is in Blob Storage: where, how many bytes, since when; `sha256` in hexadecimal digits."""

    blobUrl: str
    container: str
    blobName: str
    sha256: str
    size: Identifier
    contentType: str
    storedAt: Moment
    incomplete: bool | None = None

    @property
    def moment(self) -> datetime | None:
        return self.storedAt


@known
class StoredRecording(StoredAudio, Recording):
    """A recording whose audio is in Blob Storage."""

    caller: AnyPhone = None
    destination: AnyPhone = None
    contactID: AnyIdentifier = None


@known
class StoredVoicemail(StoredAudio, Voicemail):
    """A voicemail whose audio is in Blob Storage."""

    callID: AnyIdentifier = None
    contactID: AnyIdentifier = None


class SubscriptionState(Data):
    """What became of a subscription; `event` is what it is for, `host` where it is posted, `since` when it changed."""

    subscriptionID: str
    event: str
    host: str | None = None
    since: Moment

    @property
    def moment(self) -> datetime | None:
        return self.since
