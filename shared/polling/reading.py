"""One reading of a resource: what it works with, and what of its items is handed on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from shared.polling import checkpoints
from shared.times import parse_time

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shared.bridge import Bridge
    from shared.pbx.resources import Resource
    from shared.polling.checkpoints import Checkpoint

_TIMES = ("callEnded", "callStarted", "created")


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """What one poll works with."""

    bridge: Bridge
    resource: Resource
    checkpoint: Checkpoint
    moment: datetime

    @property
    def lane(self) -> str:
        """The first reading of a whole list leaves more of the budget to others."""
        return "poll" if self.checkpoint.started else "backfill"

    def wanted(self, item: Mapping[str, Any]) -> bool:
        """Whether an item is handed on: after the first reading each one, during it those from `begin` on."""
        if self.checkpoint.started or self.checkpoint.begin is None:
            return True
        told = moment_of(item)
        return told is not None and told >= self.checkpoint.begin

    def caught_up(self) -> Reading:
        """With the checkpoint of now: what somebody else's first reading, complete meanwhile, did not list is new."""
        stored = checkpoints.read(self.bridge.storage, self.resource.name)
        return replace(self, checkpoint=stored or self.checkpoint)


def grace(bridge: Bridge) -> timedelta:
    """How late a webhook may be: only after this time is one that did not come taken for lost."""
    return timedelta(seconds=bridge.settings.reconcile_grace_seconds)


def moment_of(item: Mapping[str, Any]) -> datetime | None:
    """When the item came to be, as far as it tells."""
    for name in _TIMES:
        try:
            if item.get(name):
                return parse_time(str(item[name]))
        except ValueError:
            continue
    return None
