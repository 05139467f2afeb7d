"""Read the search of a list from its page's query: a number or a name, an employee and dates."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from flask import Response, request
from flask_babel import gettext

from board import show
from shared.api.parameters import Request
from shared.errors import Invalid

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from shared.bridge import Bridge
    from shared.pbx.operations import Operation

    Read = Callable[[Bridge, Operation, Request], Any]

_NAME = re.compile(r"[^\d\s+()./-]")


@dataclass(slots=True)
class Search:
    """Parameters for the API, and words about what cannot be searched for; `people` may be meant by a name."""

    given: dict[str, str] = field(default_factory=dict)
    problem: str = ""
    people: list[int] = field(default_factory=list)

    def read(self, read: Read, row: Operation, **page: str | int) -> Any:
        """Return what the API reads with the parameters; None, with the reason, where it refuses them."""
        if self.problem:
            return None
        try:
            query = self.given | {name: str(value) for name, value in page.items()}
            return read(show.here(), row, Request(query=query))
        except Invalid as error:
            self.problem = show.reason(error)
            return None

    def workbook(self, read: Read, row: Operation) -> Response:
        """Return all that is searched for as a workbook to be saved; raises Invalid."""
        file = self.read(read, row, format="xlsx")
        if file is None:
            raise Invalid({"q": self.problem})
        headers = {"Content-Disposition": f'attachment; filename="{file.name}"'}
        return Response(file.content, headers=headers, mimetype=file.content_type)


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
