"""The app's functions as the host reads them; an app lets itself be indexed once in a process."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import function_app
from dev.host.worker import Function, described


@dataclass(frozen=True, slots=True)
class Indexed:
    """A function: its name and, where HTTP triggers it, its methods and the route after `/api/`."""

    name: str
    methods: frozenset[str] = frozenset()
    route: str = ""


@cache
def hosted() -> tuple[Function, ...]:
    """Every function of the app with its bindings."""
    return tuple(map(described, function_app.app.get_functions()))


@cache
def functions() -> tuple[Indexed, ...]:
    """Every function of the app."""
    return tuple(
        Indexed(one.name, frozenset(one.trigger.get("methods", ())), one.trigger.get("route", "")) for one in hosted()
    )
