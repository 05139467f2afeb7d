"""Our webhooks at the PBX: registered, replaced when they change or fall silent, deleted only when they are ours."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from shared.errors import Conflict, PbxRefused
from shared.events.table import wanted_events
from shared.storage.account import reaching_storage
from shared.storage.leases import leased
from shared.times import iso, now
from shared.webhooks.sync import Registrar
from shared.webhooks.table import TABLE, end, ended_since, endpoint, resume

if TYPE_CHECKING:
    from datetime import datetime

    from shared.bridge import Bridge
    from shared.webhooks.sync import Report

logger = logging.getLogger(__name__)


def keep(bridge: Bridge) -> None:
    """
    Sync as a timer does: another sync that runs already is enough, and a problem is raised as PbxRefused.

    Once all webhooks were deleted for good it makes no new ones, and deletes what the PBX would not delete then.
    """
    try:
        with reaching_storage(), leased(bridge.storage, TABLE, "sync") as lease:
            ended = ended_since(bridge.storage)
            report = Registrar(bridge, lease, now(), ended).run({} if ended else _targets(bridge))
    except Conflict:
        logger.info("webhooks are being synced elsewhere")
        return
    if report.problem:
        raise PbxRefused("SyncWebhooks", report.problem)


def sync(bridge: Bridge, *, at: datetime | None = None, patience: float = 0, forget_orphans: bool = False) -> Report:
    """
    Make the PBX post every wanted event to us, at the address and with the key of today's settings.

    A replacement is made before the old one is deleted, and an event type that has gone silent is replaced once.
    Ends what `delete_all` began. `forget_orphans` drops what was maybe orphaned, once the panel is clean. Raises
    ConfigError, StorageUnavailable, or Conflict when another sync still runs after `patience` seconds; what the PBX
    refuses stands in the report's `problem`.
    """
    targets = _targets(bridge)
    with reaching_storage(), leased(bridge.storage, TABLE, "sync", patience=patience) as lease:
        resume(bridge.storage)
        return Registrar(bridge, lease, at or now()).run(targets, forget_orphans=forget_orphans)


def delete_all(bridge: Bridge, *, patience: float = 0) -> Report:
    """
    Delete every webhook that we made and know the id of, and keep none registered until the next `sync`.

    Raises as sync does.
    """
    with reaching_storage(), leased(bridge.storage, TABLE, "sync", patience=patience) as lease:
        moment = now()
        ended = ended_since(bridge.storage) or iso(moment)
        end(bridge.storage, ended)
        return Registrar(bridge, lease, moment, ended).run({})


def _targets(bridge: Bridge) -> dict[str, str]:
    return {event.name: endpoint(bridge.settings, event) for event in wanted_events(bridge.settings.pbx_events)}
