"""The kinds of media: one table that the copier, deletions and the deployment read."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Media:
    """
    A row: a kind of media, where it is kept, how the PBX is asked for it, and the event that says it is stored.

    `lacking` is what the PBX's event lacks of it, and `resource` the polled list that has that. `seconds` is the
    field that says how long the audio should be. `deletable` is what the PBX sends an event about when a user deletes
    it there.
    """

    name: str
    container: str
    operation: str
    parameter: str
    resource: str
    url: str
    seconds: str
    stored: str
    lacking: tuple[str, ...] = ()
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
        resource="call_records",
        url="recordingURL",
        seconds="connectionTime",
        stored="RecordingStored",
        lacking=("caller", "destination", "contactID"),
    ),
    Media(
        name="voicemail",
        container="voicemails",
        operation="GetVoicemailByID",
        parameter="voicemail_id",
        resource="voicemails",
        url="messageURL",
        seconds="length",
        stored="VoicemailStored",
        deletable=True,
    ),
)
