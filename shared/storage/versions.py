"""The version of what this release writes to queues and tables, and what it does with a newer release's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shared.errors import NewerRelease

if TYPE_CHECKING:
    from collections.abc import Mapping

# Raised with the first change that older code would misread: instances of both releases run during a deployment.
VERSION = 1
FIELD = "v"


def check(what: Mapping[str, Any]) -> None:
    """Raise NewerRelease for a message or row of a version above ours; one without a version is of the first."""
    version = what.get(FIELD, 1)
    if isinstance(version, int) and version > VERSION:
        raise NewerRelease(f"version {version} is of a newer release than this one, which knows {VERSION}")
