"""A kind of row of a storage table as it is described, and the columns that are not."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rows:
    """
    A kind of row: what one is, the filter that picks them, and their columns, one a line: name, type, what it says.

    Types are those of Azure Tables: String, Int32, Int64, Double, Boolean, DateTime (UTC), Binary.
    """

    what: str
    filter: str
    text: str

    @property
    def columns(self) -> dict[str, tuple[str, str]]:
        """Type and description of each column by name."""
        lines = (line.split(maxsplit=2) for line in self.text.splitlines() if line)
        return {name: (kind, description) for name, kind, description in lines}


# Azure's own, on every row, and the app's own, on many.
KEYS = ("PartitionKey", "RowKey")
OWN = ("writer",)
