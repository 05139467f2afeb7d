"""What a start or a deployment calls for: one sweep soon, so that the minutes without anybody are not lost."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from shared.errors import BridgeError
from shared.once import once
from shared.polling import checkpoints
from shared.polling.reconcile import reconcile
from shared.polling.sweep import sweep
from shared.times import now

if TYPE_CHECKING:
    from datetime import datetime

    from shared.bridge import Bridge
    from shared.storage.account import Storage

logger = logging.getLogger(__name__)

_CODE = Path(__file__).parents[2]


@once
def _looked(storage: Storage) -> set[str]:
    """The release whose start this process has looked at, once it has."""
    return set()


@once
def release() -> str:
    """What this release differs in from others: a hash of its code."""
    digest = hashlib.sha256()
    for room in ("shared", "functions"):
        for path in sorted((_CODE / room).rglob("*.py")):
            digest.update(path.relative_to(_CODE).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def after_start(bridge: Bridge, *, at: datetime | None = None) -> bool:
    """
    Sweep and reconcile if this process has just begun and nobody did so for it; whether it did.

    For whichever timer runs first: the row is claimed, so that of many instances one does it. What goes wrong is left
    to the hourly sweep. Raises StorageUnavailable.
    """
    if looked := _looked(bridge.storage):
        return False
    claimed = checkpoints.claim_start(bridge.storage, release(), at or now())
    looked.add(release())
    if not claimed:
        return False
    logger.info("release %s begins: what came meanwhile is looked for", release())
    for work in (sweep, reconcile):
        try:
            work(bridge, at=at)
        except BridgeError as error:
            logger.warning("the first %s after a start ended early: %s", work.__name__, error)
    return True
