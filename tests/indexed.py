"""The app's functions as the host reads them; an app lets itself be indexed once in a process."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import function_app


@dataclass(frozen=True, slots=True)
class Indexed:
    """A function: its name and, where HTTP triggers it, its methods and the route after `/api/`."""

    name: str
    methods: frozenset[str] = frozenset()
    route: str = ""


@cache
def functions() -> tuple[Indexed, ...]:
    """Every function of the app."""
    found = []
    for function in function_app.app.get_functions():
        trigger = function.get_trigger().get_dict_repr()
        methods = frozenset(method.value for method in trigger.get("methods", ()))
        found.append(Indexed(function.get_function_name(), methods, trigger.get("route", "")))
    return tuple(found)
