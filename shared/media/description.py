"""What is known of a file besides its bytes, and how its blob is named, described and found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shared.times import iso

if TYPE_CHECKING:
    from datetime import datetime

    from shared.media.audio import Audio

# In a blob's metadata: what its file lacks.
INCOMPLETE = "incomplete"


@dataclass(frozen=True, kw_only=True, slots=True)
class Description:
    """What is known of a file besides its bytes: the call's start in UTC, and how many seconds it should play."""

    kind: str
    container: str
    id: int
    call_id: int | None
    contact_id: int | None
    direction: str | None
    started: datetime
    attempts: int
    event: str
    seconds: int | None = None

    @property
    def stem(self) -> str:
        """What the names of all its blobs begin with: the call's UTC date, then the PBX's id."""
        return f"{self.started:%Y/%m/%d}/{self.id}"

    def name(self, audio: Audio, mark: str = "") -> str:
        """The blob's name: its stem, and what kind of audio it is."""
        return f"{self.stem}{mark}.{audio.extension}"

    def metadata(self, sha256: str, size: int, incomplete: str = "") -> dict[str, str]:
        """What stands in the blob's metadata: never a phone number."""
        known: dict[str, Any] = {
            "sha256": sha256,
            "size": size,
            "sourceId": self.id,
            "callID": self.call_id,
            "contactID": self.contact_id,
            "direction": self.direction,
            "callStarted": iso(self.started),
            "attempts": self.attempts,
            "event": self.event,
            INCOMPLETE: incomplete,
        }
        return {name: str(value) for name, value in known.items() if value not in (None, "")}

    def tags(self) -> dict[str, str]:
        """What blobs can be searched by."""
        known: dict[str, Any] = {
            "kind": self.kind,
            "sourceId": self.id,
            "callID": self.call_id,
            "contactID": self.contact_id,
            "direction": self.direction,
            "date": f"{self.started:%Y-%m-%d}",
        }
        return {name: str(value) for name, value in known.items() if value not in (None, "")}
