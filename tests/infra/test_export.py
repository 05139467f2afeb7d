"""exportMonth.sh against a stand-in for Azure and the app itself."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from shared.times import iso
from tests.apps import RunningApp, running_app
from tests.history import fill, month

if TYPE_CHECKING:
    from tests.infra.conftest import Azure

MONTHS = range(40, 43)
NAME = iso(month(41))[:7]


@pytest.fixture
def running(new_account: Callable[[], str], tmp_path: Path) -> Iterator[RunningApp]:
    with running_app(new_account(), tmp_path) as running:
        fill(running.storage, MONTHS)
        yield running


def test_a_month_is_written_into_a_folder_with_its_audio(bridge: Azure, running: RunningApp, tmp_path: Path) -> None:
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


@pytest.mark.parametrize("step", ["/api/ops/months", "--source recordings", "--source voicemails"])
def test_an_export_that_stopped_is_begun_again_in_its_folder(bridge: Azure, tmp_path: Path, step: str) -> None:
    folder = tmp_path / "export"
    blob = bridge.state / "blobs" / "recordings" / f"{NAME[:4]}/{NAME[5:]}/15/7.mp3"
    for file in (blob, bridge.state / "blobs" / "voicemails" / "x"):
        file.parent.mkdir(parents=True)
        file.write_bytes(b"audio")
    arguments = ("-g", "rg", "--month", NAME, "--folder", str(folder))
    failed = bridge.run("exportMonth.sh", *arguments, AZ_FAIL=step)
    assert "run this again to go on from here" in failed.stderr
    assert not (folder / "history.jsonl").exists()
    other = bridge.run("exportMonth.sh", *arguments[:3], "2016-01", *arguments[4:])
    assert "is not empty" in other.stderr
    # Audio that was deleted since is not exported.
    erased = folder / "recordings" / "erased.mp3"
    erased.parent.mkdir(exist_ok=True)
    erased.write_bytes(b"audio")
    done = bridge.run("exportMonth.sh", *arguments)
    assert done.returncode == 0, done.stderr
    found = {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}
    assert found == {"history.jsonl", f"recordings/{NAME[:4]}/{NAME[5:]}/15/7.mp3"}


def test_a_copy_that_fails_once_is_made_again(bridge: Azure, tmp_path: Path) -> None:
    for container in ("recordings", "voicemails"):
        (bridge.state / "blobs" / container).mkdir(parents=True)
    arguments = ("-g", "rg", "--month", NAME, "--folder", str(tmp_path / "export"))
    done = bridge.run("exportMonth.sh", *arguments, AZ_FAIL="download-batch", AZ_TIMES="1")
    assert done.returncode == 0, done.stderr


def test_a_failed_page_is_retried_and_then_an_error(bridge: Azure, tmp_path: Path) -> None:
    folder = tmp_path / "export"
    failed = bridge.run(
        "exportMonth.sh", "-g", "rg", "--month", NAME, "--folder", str(folder), AZ_FAIL="/api/ops/months"
    )
    assert failed.returncode != 0
    assert f"reading a part of {NAME} still fails after 5 attempts" in failed.stderr
