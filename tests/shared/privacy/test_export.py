"""An export is a zip with everything that storage holds of a number, as JSON, as a workbook, and the audio itself."""

from __future__ import annotations

import io
import json
import zipfile
from datetime import timedelta
from typing import TYPE_CHECKING

from functions.background import ALL_CONSUMERS
from shared.privacy import jobs
from shared.privacy.holdings import EXPORTS
from tests.shared.privacy.conftest import CALL, DAY, NUMBER, OTHER, OTHER_CALL, RECORDING, VOICEMAIL, Busy

if TYPE_CHECKING:
    import pytest

NAMES = {f"{name}.json" for name in ("calls", "events", "lost_callers", "contacts", "items", "others")}


def exported(busy: Busy, number: str = NUMBER) -> tuple[zipfile.ZipFile, dict[str, int]]:
    id = jobs.ask(busy.bridge, "export", json.dumps({"number": number}).encode())
    busy.work(ALL_CONSUMERS[-1])
    state = jobs.state(busy.bridge.storage, id)
    assert (state["state"], state["file"]) == ("done", f"ops/people/{id}/file")
    content = busy.bridge.storage.container(EXPORTS).download_blob(f"{id}.zip").readall()
    return zipfile.ZipFile(io.BytesIO(content)), state["counts"]


def test_an_export_has_everything_of_a_number_and_nothing_of_others(busy: Busy) -> None:
    busy.leave(OTHER, RECORDING + 1, VOICEMAIL + 1, OTHER_CALL)
    busy.leave(NUMBER, RECORDING, VOICEMAIL, CALL)
    archive, counts = exported(busy, f"00371 {NUMBER}")
    names = set(archive.namelist())
    audio = {f"audio/recordings/{DAY}/{RECORDING}.mp3", f"audio/voicemails/{DAY}/{VOICEMAIL}.mp3"}
    assert names == {"index.html", "export.xlsx", *NAMES, *audio}
    assert CALL in [call["callID"] for call in json.loads(archive.read("calls.json"))]
    assert len(json.loads(archive.read("events.json"))) == counts["events"] >= 5
    lost = {row["callerid"] for row in json.loads(archive.read("lost_callers.json"))}
    assert lost == {f"+371{NUMBER}", f"{NUMBER} or 112"}
    # The body of a dead letter that is too long for its row.
    assert f"{NUMBER};{NUMBER};".encode() in archive.read("others.json")
    assert not [name for name in names - audio if OTHER.encode() in archive.read(name)]
    assert len(archive.read(f"audio/recordings/{DAY}/{RECORDING}.mp3")) > 1000


def test_a_workbook_has_texts_as_they_are_and_no_formulas(busy: Busy) -> None:
    busy.hear("CallCompleted", callID=CALL, caller=NUMBER, destination='=HYPERLINK("x")')
    busy.work()
    archive, _ = exported(busy)
    with zipfile.ZipFile(io.BytesIO(archive.read("export.xlsx"))) as book:
        sheets = b"".join(book.read(name) for name in book.namelist() if "sheet" in name)
    assert b"<f>" not in sheets
    assert str(CALL).encode() in sheets


def test_an_export_is_gone_after_a_week(busy: Busy, monkeypatch: pytest.MonkeyPatch) -> None:
    exported(busy)
    jobs.delete_old_exports(busy.bridge.storage)
    (blob,) = busy.bridge.storage.container(EXPORTS).list_blobs()
    monkeypatch.setattr(jobs, "KEEP_EXPORTS", timedelta(0) - timedelta(minutes=1))
    assert jobs.delete_old_exports(busy.bridge.storage) == 1
    state = jobs.state(busy.bridge.storage, blob.name.removesuffix(".zip"))
    assert (state["state"], state.keys() & {"file", "until"}) == ("done", set())
