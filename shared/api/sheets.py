"""Lists as CSV and as a workbook, written row by row: ids as text, times in TIME_ZONE and in UTC, no formulas."""

from __future__ import annotations

import csv
import io
import re
import tempfile
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from shared.errors import Invalid
from shared.phones import e164
from shared.times import event_time, iso

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import datetime
    from zoneinfo import ZoneInfo

    from shared.bridge import Bridge
    from shared.pbx.fields import Field, Shape

CONTENT_TYPES = {
    "csv": "text/csv",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
}
MOST_ROWS = 100_000
_MANY = Invalid({"format": f"more than {MOST_ROWS:,} rows fit: ask for fewer by from and to, or by another filter"})
_LONGEST_CELL = 32_767
_CUT = " […]"
_NUMBERS = ("caller", "destination", "sender", "callerid", "number", "current_callerid")
_COUNTS = ("talkSeconds", "attempts", "length", "archived")
_PHONE = re.compile(r"\+[0-9]+")
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
# Not in XML, so not in a workbook.
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff\ud800-\udfff]")
_DATE_FORMAT = "yyyy-mm-dd hh:mm:ss"

Row = list[Any]


@dataclass(frozen=True, slots=True)
class File:
    """A list as a file: its bytes, their content type and a name to save it under."""

    content: bytes
    content_type: str
    name: str


def written(bridge: Bridge, items: Iterable[dict[str, Any]], shape: Shape, kind: str, name: str) -> File:
    """Return items as a file of a kind, csv or xlsx; raises Invalid where they are more than MOST_ROWS."""
    zone, region = bridge.settings.time_zone, bridge.settings.default_region
    # Addresses of audio are secrets, and a file goes from hand to hand.
    shape = tuple(field for field in shape if not field.name.endswith("URL"))
    columns = [column for field in shape for column in _names(field, shape)]
    rows = _at_most((_values(item, shape, zone, region) for item in items), MOST_ROWS)
    content = _csv(columns, rows) if kind == "csv" else _workbook(columns, rows)
    return File(content, CONTENT_TYPES[kind], f"{name}.{kind}")


def _at_most(rows: Iterator[Row], most: int) -> Iterator[Row]:
    yield from islice(rows, most)
    if next(rows, None) is not None:
        raise _MANY


def _names(field: Field, shape: Shape) -> list[str]:
    if field.type == "date-time":
        return [field.name, f"{field.name}Utc"]
    return [field.name, f"{field.name}E164"] if _wants_e164(field, shape) else [field.name]


def _wants_e164(field: Field, shape: Shape) -> bool:
    return field.name in _NUMBERS and f"{field.name}E164" not in {other.name for other in shape}


def _values(item: dict[str, Any], shape: Shape, zone: ZoneInfo, region: str) -> Row:
    found: Row = []
    for field in shape:
        value = item.get(field.name)
        if field.type == "date-time":
            moment = event_time(value)
            found += [moment.astimezone(zone) if moment else None, moment]
        elif field.name in _COUNTS or isinstance(value, bool):
            found.append(value)
        else:
            found.append(_text(value))
        if _wants_e164(field, shape):
            found.append(e164(value, region) or "")
    return found


def _text(value: Any) -> str:
    """Return a value as text; of a list of things what names each of them."""
    if isinstance(value, list):
        return ", ".join(
            _text(next(iter(part.values()), "")) if isinstance(part, dict) else str(part) for part in value
        )
    return "" if value is None else str(value)


def _csv(columns: Sequence[str], rows: Iterable[Row]) -> bytes:
    with tempfile.TemporaryFile() as file:
        # The mark tells Excel that it is UTF-8.
        text = io.TextIOWrapper(file, "utf-8-sig", newline="")
        writer = csv.writer(text, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\r\n")
        writer.writerow(columns)
        writer.writerows([_plain(value) for value in row] for row in rows)
        text.flush()
        file.seek(0)
        return file.read()


def _plain(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return value
    if isinstance(value, str):
        return defused(value)
    return "" if value is None else _spelled(value)


def _spelled(moment: datetime) -> str:
    return iso(moment) if moment.utcoffset() is None or str(moment.tzinfo) == "UTC" else moment.isoformat(sep=" ")


def defused(text: str) -> str:
    """Return a text that no spreadsheet takes for a formula; a plus and digits is a number, and stays."""
    return f"'{text}" if text.startswith(_FORMULA) and not _PHONE.fullmatch(text) else text


def _workbook(columns: Sequence[str], rows: Iterable[Row]) -> bytes:
    from xlsxwriter import Workbook

    with tempfile.TemporaryFile() as file:
        options = dict.fromkeys(("strings_to_formulas", "strings_to_urls", "strings_to_numbers"), False)
        # Rows go to disk as they come: a long list costs no memory.
        book = Workbook(file, {"constant_memory": True, "default_date_format": _DATE_FORMAT, **options})
        sheet = book.add_worksheet()
        sheet.freeze_panes(1, 0)
        sheet.set_column(0, len(columns) - 1, 20)
        sheet.write_row(0, 0, columns, book.add_format({"bold": True}))
        last = 0
        for last, row in enumerate(rows, 1):
            for column, value in enumerate(row):
                if isinstance(value, str) and value:
                    sheet.write_string(last, column, _cell(value))
                elif value not in (None, ""):
                    sheet.write(last, column, value.replace(tzinfo=None) if hasattr(value, "tzinfo") else value)
        sheet.autofilter(0, 0, last, len(columns) - 1)
        book.close()
        file.seek(0)
        return file.read()


def _cell(text: str) -> str:
    clean = text if text.isprintable() else _CONTROL.sub("", text)
    return clean if len(clean) <= _LONGEST_CELL else clean[: _LONGEST_CELL - len(_CUT)] + _CUT
