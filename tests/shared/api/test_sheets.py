"""Lists as files for Excel and a CRM: their contents and their limit of rows."""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Iterable
from typing import Any
from xml.etree import ElementTree

import pytest

from shared.api import sheets
from shared.bridge import Bridge
from shared.errors import Invalid
from shared.pbx.fields import Field, Shape
from shared.pbx.operations import Operation

SHAPE: Shape = (
    Field("callID", "integer", ""),
    Field("caller", "string", ""),
    Field("started", "date-time", ""),
    Field("talkSeconds", "integer", ""),
    Field("lost", "boolean", ""),
    Field("contacts", "array", "", (Field("contactID", "integer", ""),)),
)
NAMES = ["callID", "caller", "callerE164", "started", "startedUtc", "talkSeconds", "lost", "contacts"]
ITEM: dict[str, Any] = {
    "callID": 1795422863271390,
    "caller": "29411870",
    "started": "2026-10-25T00:30:00Z",
    "talkSeconds": 95,
    "lost": False,
    "contacts": [{"contactID": 7}, {"contactID": 8}],
}


def file(bridge: Bridge, items: Iterable[dict[str, Any]], kind: str) -> bytes:
    row = Operation(id="List", path="calls", parameters=(), summary="", description="", lists=True, item=SHAPE)
    found = sheets.listed(bridge, row, {"format": kind}, items)
    assert isinstance(found, sheets.File)
    return found.content


def cells(workbook: bytes) -> dict[str, tuple[str, str]]:
    """Return the cells of a workbook by their place: their type and their value."""
    with zipfile.ZipFile(io.BytesIO(workbook)) as parts:
        root = ElementTree.fromstring(parts.read("xl/worksheets/sheet1.xml"))
    space = {"s": "http://schemas.openxmlformats.org/spreadsheetml/2006/main"}
    assert not root.findall(".//s:f", space)
    return {
        cell.attrib["r"]: (cell.attrib.get("t", "n"), "".join(cell.itertext()))
        for cell in root.iterfind(".//s:c", space)
    }


def test_csv_is_what_programs_read(bridge: Bridge) -> None:
    content = file(bridge, [ITEM], "csv")
    assert content.startswith(b"\xef\xbb\xbf")
    names, row = csv.reader(io.StringIO(content.decode("utf-8-sig")))
    assert names == NAMES
    assert row == [
        "1795422863271390",
        "29411870",
        "+37129411870",
        "2026-10-25 03:30:00+03:00",
        "2026-10-25T00:30:00Z",
        "95",
        "false",
        "7, 8",
    ]


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("+37129411870", "+37129411870"),
        ("=1+1", "'=1+1"),
        ("+371 29 411 870", "'+371 29 411 870"),
        ("+1+cmd|' /C calc'!A0", "'+1+cmd|' /C calc'!A0"),
        ("-2", "'-2"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "'\t=1"),
        ("\r=1", "'\r=1"),
        ('Ņikita; "Co"', 'Ņikita; "Co"'),
    ],
)
def test_csv_has_no_formulas(bridge: Bridge, text: str, written: str) -> None:
    content = file(bridge, [ITEM | {"caller": text}], "csv").decode("utf-8-sig")
    assert list(csv.reader(io.StringIO(content, newline="")))[1][1] == written


def test_a_workbook_opens_by_itself(bridge: Bridge) -> None:
    workbook = file(bridge, [ITEM, ITEM | {"caller": "=1+1"}, ITEM | {"caller": "x" * 40_000 + "\x01"}], "xlsx")
    found = cells(workbook)
    assert [found[f"{column}1"][1] for column in "ABCDEFGH"] == NAMES
    assert found["A2"] == ("inlineStr", "1795422863271390")
    assert found["C2"] == ("inlineStr", "+37129411870")
    # Days since 1899-12-30, by the clock of TIME_ZONE and by that of UTC.
    assert float(found["D2"][1]) - float(found["E2"][1]) == pytest.approx(3 / 24)
    assert found["F2"] == ("n", "95")
    assert found["B3"] == ("inlineStr", "=1+1")
    assert len(found["B4"][1]) == 32_767
    assert found["B4"][1].endswith("[…]")
    with zipfile.ZipFile(io.BytesIO(workbook)) as parts:
        sheet = parts.read("xl/worksheets/sheet1.xml").decode()
    assert 'state="frozen"' in sheet
    assert '<autoFilter ref="A1:H4"/>' in sheet


def test_an_empty_list_is_a_file_too(bridge: Bridge) -> None:
    assert cells(file(bridge, [], "xlsx")).keys() == {f"{column}1" for column in "ABCDEFGH"}
    assert file(bridge, [], "csv").count(b"\n") == 1


@pytest.mark.parametrize("kind", ["csv", "xlsx"])
def test_more_rows_than_there_may_be_are_refused(bridge: Bridge, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sheets, "MOST_ROWS", 3)
    assert file(bridge, [ITEM] * 3, kind)
    with pytest.raises(Invalid, match="from and to"):
        file(bridge, [ITEM] * 4, kind)
