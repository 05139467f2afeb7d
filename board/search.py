"""Read the search of a list from its page's query: a number or a name, an employee and dates."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from flask import request
from flask_babel import gettext

from board import show
from shared.errors import Invalid

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from typing import TypeVar

    Found = TypeVar("Found")

_NAME = re.compile(r"[^\d\s+()./-]")


@dataclass(slots=True)
class Search:
    """Parameters for the API, and words about what cannot be searched for; `people` may be meant by a name."""

    given: dict[str, str] = field(default_factory=dict)
    problem: str = ""
    people: list[int] = field(default_factory=list)

    def checked(self, check: Callable[[Mapping[str, str]], Found]) -> Found | None:
        """Return what the API makes of the parameters; None, with the reason, where it refuses them."""
        if self.problem:
            return None
        try:
            return check(self.given)
        except Invalid as error:
            self.problem = show.reason(error)
            return None


def asked(names: Collection[str], *, employee: str) -> Search:
    """
    Return what this request's query asks for: the named parameters, and `q` as a number or as a contact's name.

    `employee` is the parameter that an employee's id goes into.
    """
    found = Search({name: text for name, text in request.args.items() if text and name in names})
    text = (request.args.get("q") or "").strip()
    if text and not _NAME.search(text):
        found.given["number"] = text
    elif text:
        found.people = show.directory().named(text)
        if len(found.people) == 1:
            found.given[employee] = str(found.people[0])
        elif found.people:
            found.problem = gettext("Several people are called so: choose one of them.")
        else:
            found.problem = gettext("Nobody among the contacts is called so. A caller’s number finds more.")
    return found
