"""The page docs/tables.md: what stands in each storage table, from the rows of dev/columns.py."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from dev.columns import TABLES

if TYPE_CHECKING:
    from dev.described import Rows

PAGE = Path(__file__).resolve().parents[1] / "docs" / "tables.md"
_INTRODUCTION = """# Tables

What stands in the storage account's tables, for reports and queries of one's own. Read them; only the app writes them.
In Power BI choose **Get data**, **Azure Table Storage**, enter the account, and filter the rows of a table by the
condition given for each kind of row. A column that a row has nothing to say in is absent. Times are DateTime in UTC;
every row has `Timestamp`, when it was written last. Column `writer`, where it stands, is for the app alone.
IDs are Int64: as text they keep all their digits in Excel.

`make generated` writes this page.
"""

# Nothing in these is for others: secrets, claims and places in line.
PRIVATE = {
    "numbers": "Calls, events and all else that a number, an employee or a call can be read in, under hashes.",
    "retention": "How far the deletion of old history is.",
    "forgotten": "Which numbers and calls were erased, under hashes, so that nothing from before comes back.",
    "privacy": "Exports and erasures of numbers that were asked for, and what came of them.",
    "subscriptions": "Who is posted which event; addresses and secrets are encrypted. Ask `GET /api/v2/subscriptions`.",
    "deliveries": "What is still to be posted to whom.",
    "budget": "Calls of the PBX's API in the last minute.",
    "dials": "Calls that were asked for, so that none rings twice.",
}


def page() -> str:
    """The page."""
    parts = [_INTRODUCTION]
    for name, kinds in TABLES.items():
        parts.append(f"## {name}\n")
        parts += [_section(rows) for rows in kinds]
    parts.append("## For the app alone\n")
    parts.append("| Table | What it keeps |\n|---|---|")
    parts += [f"| `{name}` | {what} |" for name, what in PRIVATE.items()]
    return "\n".join(parts) + "\n"


def _section(rows: Rows) -> str:
    lines = [f"| `{name}` | {kind} | {what} |" for name, (kind, what) in rows.columns.items()]
    table = "\n".join(("| Column | Type | What it says |", "|---|---|---|", *lines))
    return f"{rows.what} Filter: `{rows.filter}`\n\n{table}\n"
