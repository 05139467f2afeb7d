"""An operation of the PBX's API, or of ours beside it: how it is asked for, what it takes, and what it answers."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from shared.pbx.fields import Shape

Where = Literal["path", "query", "body"]
Visibility = Literal["", "important", "advanced", "internal"]


@dataclass(frozen=True, slots=True)
class Parameter:
    """What an operation takes; `title` is short and in title case, `choices` are its only values if there are any."""

    name: str
    title: str
    description: str
    _: KW_ONLY
    where: Where = "query"
    type: Literal["integer", "string", "text", "date-time"] = "integer"
    required: bool = False
    default: int | None = None
    choices: tuple[str, ...] = ()
    visibility: Visibility = "important"


@dataclass(frozen=True, kw_only=True, slots=True)
class Operation:
    """
    A row: an operationId, its method, its path below the base URL, what it takes and what `data` holds.

    `lists` means that `data` is an array of items. Only what is `repeatable` is ever asked twice. A `command` makes
    calls to the numbers that it takes: the same request for it rings once.
    """

    id: str
    method: Literal["GET", "POST", "DELETE"] = "GET"
    path: str
    parameters: tuple[Parameter, ...]
    summary: str
    description: str
    lists: bool = False
    command: bool = False
    item: Shape = ()
    visibility: Visibility = "important"

    @property
    def repeatable(self) -> bool:
        """Whether asking twice does no more than asking once."""
        return self.method == "GET"
