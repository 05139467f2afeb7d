"""The kinds of media: one table that the copier, deletions and the deployment read."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Media:
    """
    A row: a kind of media, where it is kept, the resource that it is at the PBX, and the event that says it is stored.

    `lacking` is what the PBX's event lacks of it, and the polled list has. `seconds` is the field that says how long
    the audio should be. `deletable` is what the PBX sends an event about when a user deletes it there.
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
        """The PBX's name of its id."""
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
