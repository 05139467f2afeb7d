"""The query of docs/excel.md: its address, parameters and header return a workbook."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

from shared.api.operations import CALL
from tests.apps import RunningApp, running_app

if TYPE_CHECKING:
    import pathlib

from tests.test_docs import ROOT

_M = re.search(r"```\n(let\n.*?)```", (ROOT / "docs" / "excel.md").read_text(), re.DOTALL)


@pytest.fixture(scope="module")
def running(new_account: Callable[[], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApp]:
    directory: pathlib.Path = tmp_path_factory.mktemp("excel")
    with running_app(new_account(), directory, "GetCalls", "GetLostCallers", "ListVoicemails", "ListContacts") as one:
        yield one


def test_the_query_brings_a_workbook(running: RunningApp) -> None:
    assert _M
    (path,) = re.findall(r'RelativePath = "([^"]+)"', _M[1])
    (fields,) = re.findall(r"Query = \[([^\]]+)\]", _M[1])
    query = dict(re.findall(r'(\w+) = "([^"]*)"', fields))
    assert re.findall(r'Headers = \[#"([^"]+)" = "YOUR-KEY"\]', _M[1]) == ["x-functions-key"]
    answer = running.ask("GET", f"/{path}", params=query)
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Disposition"] == 'attachment; filename="calls.xlsx"'
    with zipfile.ZipFile(io.BytesIO(answer.content)) as parts:
        sheet = parts.read("xl/worksheets/sheet1.xml").decode()
    assert CALL[0].name in sheet


@pytest.mark.parametrize("path", ["calls", "lost_callers", "voicemails", "contacts"])
@pytest.mark.parametrize("kind", ["csv", "xlsx"])
def test_every_list_of_the_page_is_a_file(running: RunningApp, path: str, kind: str) -> None:
    answer = running.ask("GET", f"/api/v2/{path}?format={kind}")
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Type"].startswith("text/csv" if kind == "csv" else "application/vnd.openxmlformats")
