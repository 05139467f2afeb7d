"""The kinds of media: a table for the copier, deletions and the deployment."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Media:
    """
    A row: a kind of media, its container, its resource at the PBX, and the event that announces a stored copy.

    `lacking` are the fields that the PBX's event lacks and the polled list has, `seconds` is the field with the length
    of the audio. Of a `deletable` kind the PBX sends an event when a user deletes one there.
    """

    name: str
    container: str
    resource: str
    url: str
    seconds: str
    stored: str
    lacking: tuple[str, ...] = ()
    deletable: bool = False

    @property
    def id(self) -> str:
        """Return the PBX's name of its id."""
        return f"{self.name}ID"


MEDIA: tuple[Media, ...] = (
    Media(
        name="recording",
        container="recordings",
        resource="call_records",
        url="recordingURL",
        seconds="connectionTime",
        stored="RecordingStored",
        lacking=("caller", "destination", "contactID"),
    ),
    Media(
        name="voicemail",
        container="voicemails",
        resource="voicemails",
        url="messageURL",
        seconds="length",
        stored="VoicemailStored",
        deletable=True,
    ),
)
