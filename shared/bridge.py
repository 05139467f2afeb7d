"""The parts that every function needs, put together once a process."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass

from shared import settings as configuration
from shared.errors import ConfigError, StorageUnavailable
from shared.events.table import wanted_events
from shared.pbx.budget import Budget
from shared.pbx.client import Pbx
from shared.settings import Settings
from shared.storage.account import Storage, once

logger = logging.getLogger(__name__)

_LONGEST_PAUSE_SECONDS = 30


@dataclass(frozen=True)
class Bridge:
    """Settings, storage and the PBX's client; all of it safe to use from many threads."""

    settings: Settings
    storage: Storage
    pbx: Pbx


def assemble(settings: Settings) -> Bridge:
    """Return a bridge for these settings; raise ConfigError if PBX_EVENTS names an unknown event."""
    wanted_events(settings.pbx_events)
    storage = Storage(settings.storage, prepared=settings.in_azure)
    budget = Budget(storage, account=settings.pbx_host)
    return Bridge(settings=settings, storage=storage, pbx=Pbx(settings, budget))


@once
def bridge() -> Bridge:
    """Return this process's bridge, made on first use; raise ConfigError while settings are wrong."""
    return assemble(configuration.settings())


def prepare() -> None:
    """Begin to make the storage account ready, on a thread of its own; in Azure the templates have done it."""
    threading.Thread(target=_prepare, name="prepare", daemon=True).start()


def _prepare() -> None:
    try:
        app = bridge()
    except ConfigError as error:
        logger.error("%s", error)
        return
    pause = 1
    while not app.settings.in_azure:
        try:
            app.storage.ready()
            return
        except StorageUnavailable as error:
            logger.warning("the storage account is not ready: %s", error)
        pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
        threading.Event().wait(pause)
