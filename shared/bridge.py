"""The parts that every function needs, put together once a process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared import settings as configuration
from shared.once import once
from shared.storage import Storage

if TYPE_CHECKING:
    from shared.calls import Calls
    from shared.pbx import Pbx
    from shared.settings import Settings


@dataclass(frozen=True)
class Bridge:
    """Settings, storage, the calls' stories and the PBX's client; all of it safe to use from many threads."""

    settings: Settings
    storage: Storage
    calls: Calls
    pbx: Pbx


def assemble(settings: Settings) -> Bridge:
    """A bridge for these settings."""
    from shared.budget import Budget
    from shared.calls import Calls
    from shared.pbx import Pbx

    storage = Storage(settings.storage)
    budget = Budget(storage, account=settings.pbx_host)
    calls = Calls(storage, settings.default_region)
    return Bridge(settings=settings, storage=storage, calls=calls, pbx=Pbx(settings, budget))


@once
def bridge() -> Bridge:
    """This process's bridge, made on first use; raises ConfigError while settings are wrong."""
    return assemble(configuration.settings())
