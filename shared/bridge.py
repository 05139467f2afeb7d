"""The parts that every function needs, put together once a process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared import settings as configuration
from shared.once import once
from shared.storage.account import Storage

if TYPE_CHECKING:
    from shared.pbx.client import Pbx
    from shared.settings import Settings


@dataclass(frozen=True)
class Bridge:
    """Settings, storage and the PBX's client; all of it safe to use from many threads."""

    settings: Settings
    storage: Storage
    pbx: Pbx


def assemble(settings: Settings) -> Bridge:
    """A bridge for these settings."""
    from shared.pbx.budget import Budget
    from shared.pbx.client import Pbx

    storage = Storage(settings.storage)
    budget = Budget(storage, account=settings.pbx_host)
    return Bridge(settings=settings, storage=storage, pbx=Pbx(settings, budget))


@once
def bridge() -> Bridge:
    """This process's bridge, made on first use; raises ConfigError while settings are wrong."""
    return assemble(configuration.settings())
