"""What the simulated PBX remembers of those who asked it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Seen:
    """One request that came in: monotonic seconds, what it asked, and the HTTP status answered (0: cut off)."""

    at: float
    method: str
    path: str
    query: str
    operation: str
    status: int
    authorized: bool  # whether it carried an Authorization header


@dataclass(frozen=True)
class Rang:
    """One dial that was accepted."""

    at: float
    destination: str
    contact_id: int
    call_id: int
