"""Writes lists as CSV and workbooks, row by row: IDs as text, times in TIME_ZONE and in UTC, no formulas."""

from __future__ import annotations

import csv
import io
import re
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC
from itertools import islice
from typing import TYPE_CHECKING, Any

from shared.api.envelopes import DEFAULT_LIMIT, succeeded
from shared.bridge import Bridge
from shared.errors import Invalid
from shared.pbx.fields import Field, Shape
from shared.pbx.operations import Operation
from shared.times import event_time, iso
from shared.values import e164

if TYPE_CHECKING:
    from xlsxwriter import Workbook
    from xlsxwriter.worksheet import Worksheet

    Item = dict[str, Any]

CONTENT_TYPES = {"csv": "text/csv", "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"}
MOST_ROWS = 100_000
_MANY = f"more than {MOST_ROWS:,} rows match: narrow the request by from and to, or by another filter"
# Rows go to disk one by one, so that long lists need no memory. Texts stay texts.
WORKBOOK: Mapping[str, Any] = {
    "constant_memory": True,
    "remove_timezone": True,
    "default_date_format": "yyyy-mm-dd hh:mm:ss",
    **dict.fromkeys(("strings_to_formulas", "strings_to_urls", "strings_to_numbers"), False),
}
_LONGEST_CELL = 32_767
_CUT = " […]"
_NUMBERS = ("caller", "destination", "sender", "callerid", "number", "current_callerid")
_COUNTS = ("talkSeconds", "attempts", "length", "archived")
_PHONE = re.compile(r"\+[0-9]+")
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
# Characters that XML, and so a workbook, may not contain.
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class File:
    """A list as a file: its bytes, content type and name."""

    content: bytes
    content_type: str
    name: str


def limit_of(values: Mapping[str, Any]) -> int:
    """Return the number of items to read: `limit`, or else 50, or for a file one more than it may have."""
    return int(values.get("limit", DEFAULT_LIMIT if values.get("format", "json") == "json" else MOST_ROWS + 1))


def listed(
    bridge: Bridge, operation: Operation, values: Mapping[str, Any], items: Iterable[Item]
) -> dict[str, Any] | File:
    """Return items as an envelope, or as the file that `format` asks for; raises Invalid for over MOST_ROWS."""
    kind = values.get("format", "json")
    if kind == "json":
        return succeeded(list(items))
    left, columns = iter(items), list(_row(bridge, operation.item, {}))
    rows = (list(_row(bridge, operation.item, item).values()) for item in islice(left, MOST_ROWS))
    content = _csv(columns, rows) if kind == "csv" else _workbook(columns, rows)
    if next(left, None) is not None:
        raise Invalid({"format": _MANY})
    return File(content, CONTENT_TYPES[kind], f"{operation.path}.{kind}")


def _row(bridge: Bridge, shape: Shape, item: Item) -> Item:
    """Return the cells of an item by column."""
    row: Item = {}
    for field in shape:
        name, full, value = field.name, f"{field.name}E164", item.get(field.name)
        if field.type == "date-time":
            at = event_time(value)
            row |= {name: at and at.astimezone(bridge.settings.time_zone), f"{name}Utc": at}
        # Addresses of audio are secrets, and people share files.
        elif not name.endswith("URL"):
            row[name] = _value(field, value)
        if name in _NUMBERS and not any(other.name == full for other in shape):
            row[full] = e164(value, bridge.settings.default_region)
    return row


def _value(field: Field, value: Any) -> Any:
    """Return counts and booleans unchanged, and all else as text; an object in a list is its first value."""
    if isinstance(value, bool) or (field.name in _COUNTS and isinstance(value, int | float)):
        return value
    if isinstance(value, list):
        named = (next(iter(part.values()), "") if isinstance(part, dict) else part for part in value)
        return ", ".join("" if part is None else str(part) for part in named)
    return "" if value is None else str(value)


def _csv(columns: Sequence[str], rows: Iterable[list[Any]]) -> bytes:
    with tempfile.TemporaryFile() as file:
        # Excel recognizes UTF-8 by the byte order mark.
        text = io.TextIOWrapper(file, "utf-8-sig", newline="")
        writer = csv.writer(text, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\r\n")
        writer.writerow(columns)
        writer.writerows([_plain(value) for value in row] for row in rows)
        text.flush()
        file.seek(0)
        return file.read()


def _plain(value: Any) -> Any:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        # A plus with digits is a phone number, not a formula.
        return f"'{value}" if value.startswith(_FORMULA) and not _PHONE.fullmatch(value) else value
    if isinstance(value, int | float):
        return value
    return iso(value) if value.tzinfo is UTC else value.isoformat(sep=" ")


def _workbook(columns: Sequence[str], rows: Iterable[list[Any]]) -> bytes:
    from xlsxwriter import Workbook

    last = 0
    with tempfile.TemporaryFile() as file:
        with Workbook(file, WORKBOOK) as book:
            sheet = add_sheet(book, columns)
            for last, row in enumerate(rows, 1):
                for column, value in enumerate(row):
                    if isinstance(value, str) and value:
                        sheet.write_string(last, column, cell(value))
                    elif value not in (None, ""):
                        sheet.write(last, column, value)
            sheet.autofilter(0, 0, last, len(columns) - 1)
        file.seek(0)
        return file.read()


def add_sheet(book: Workbook, columns: Sequence[str], title: str | None = None) -> Worksheet:
    """Return a new sheet with a frozen row of column names."""
    sheet = book.add_worksheet(title)
    sheet.freeze_panes(1, 0)
    sheet.set_column(0, len(columns) - 1, 20)
    sheet.write_row(0, 0, columns, book.add_format({"bold": True}))
    return sheet


def cell(text: str) -> str:
    """Return a text that a workbook may contain; a longer text is cut and marked."""
    clean = text if text.isprintable() else _CONTROL.sub("", text)
    return clean if len(clean) <= _LONGEST_CELL else clean[: _LONGEST_CELL - len(_CUT)] + _CUT
