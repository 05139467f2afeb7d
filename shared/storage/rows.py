"""Rows of tables: their keys, and every read and write that depends on what is there already."""

from __future__ import annotations

# Identifiers go far past 32 bits; a table's column and a row key hold as much.
LARGEST_ID = 2**63 - 1


def row_key(number: int) -> str:
    """An identifier as a row key that sorts as the number does, up to LARGEST_ID."""
    return f"{number:020d}"
