"""exportMonth.sh against a stand-in for Azure and the app itself."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from shared.times import iso
from tests.bridges import RunningBridge, running_bridge
from tests.history import fill, month

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.infra.conftest import Azure

MONTHS = range(40, 43)
NAME = iso(month(41))[:7]


@pytest.fixture
def running(new_account: Callable[[], str], tmp_path: Path) -> Iterator[RunningBridge]:
    with running_bridge(new_account(), tmp_path) as running:
        fill(running.storage, MONTHS)
        yield running


def test_a_month_is_written_into_a_folder_with_its_audio(bridge: Azure, running: RunningBridge, tmp_path: Path) -> None:
    ours, others = f"{NAME[:4]}/{NAME[5:]}/15/7.mp3", "2016/01/01/8.mp3"
    for name in (ours, others):
        running.storage.container("recordings").upload_blob(name, b"audio")
        blob = bridge.state / "blobs" / "recordings" / name
        blob.parent.mkdir(parents=True)
        blob.write_bytes(b"audio")
    (bridge.state / "blobs" / "voicemails").mkdir()
    folder = tmp_path / "export"
    arguments = ("-g", "rg", "--month", NAME, "--folder", str(folder))
    done = bridge.run("exportMonth.sh", *arguments, APP_URL=running.url)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    assert [line["kind"] for line in lines] == ["event", "call", "audio"]
    assert {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()} == {
        "history.jsonl",
        f"recordings/{ours}",
    }
    assert str(folder) in done.stderr + done.stdout
    again = bridge.run("exportMonth.sh", *arguments, APP_URL=running.url)
    assert again.returncode != 0
    assert "is not empty" in again.stderr


def test_a_part_that_fails_is_asked_for_again_and_then_said(bridge: Azure, tmp_path: Path) -> None:
    folder = tmp_path / "export"
    failed = bridge.run(
        "exportMonth.sh", "-g", "rg", "--month", NAME, "--folder", str(folder), AZ_FAIL="/api/ops/months"
    )
    assert failed.returncode != 0
    assert f"reading a part of {NAME} still fails after 5 attempts" in failed.stderr
