"""Stored audio over HTTP: with a key, by the fields of its event, and no other blobs of the account."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from shared.media import blobs
from shared.storage.account import CONTAINERS

if TYPE_CHECKING:
    from tests.apps import RunningApp

pytestmark = pytest.mark.xdist_group("shared_face")

NAME = "2018/04/25/1711.mp3"
AUDIO = bytes(range(256)) * 20


@pytest.fixture(scope="module")
def running(shared_face: RunningApp) -> RunningApp:
    from azure.storage.blob import ContentSettings

    for container in CONTAINERS:
        blob = shared_face.storage.container(container).get_blob_client(NAME)
        blob.upload_blob(AUDIO, content_settings=ContentSettings(content_type="audio/mpeg"))
    return shared_face


@pytest.mark.parametrize("container", ["recordings", "voicemails"])
def test_audio_comes_whole_by_the_fields_of_its_event(running: RunningApp, container: str) -> None:
    for path, query in ((f"{container}/{NAME}", {}), (container, {"blobName": NAME})):
        answer = running.ask("GET", f"/api/v2/media/{path}", params=query)
        assert (answer.status_code, answer.content) == (200, AUDIO)
        assert answer.headers["Content-Type"] == "audio/mpeg"
        assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    "path",
    [
        f"payloads/{NAME}",
        "recordings/2018/04/25/1712.mp3",
        "recordings/2018/04/25/1711",
        "recordings/2018/04/25/%2e%2e",
        "recordings/2018/04/../1711.mp3",
        "azure-webjobs-secrets/2018/04/25/1711.mp3",
    ],
)
def test_other_blobs_are_not_served(running: RunningApp, path: str) -> None:
    assert running.ask("GET", f"/api/v2/media/{path}").status_code == 404


@pytest.mark.parametrize(
    ("container", "name"),
    [
        ("payloads", NAME),
        ("recordings", ""),
        ("recordings", f"../payloads/{NAME}"),
        ("recordings", f"/{NAME}"),
        ("recordings", f"{NAME}\n"),
        ("recordings", f"{NAME}?snapshot=1"),
        ("$logs", NAME),
    ],
)
def test_fields_cannot_address_other_blobs(running: RunningApp, container: str, name: str) -> None:
    assert running.ask("GET", f"/api/v2/media/{container}", params={"blobName": name}).status_code == 404
    assert running.ask("GET", f"/api/v2/media/{container}").status_code == 404


def test_audio_needs_a_key(running: RunningApp) -> None:
    answer = running.ask("GET", f"/api/v2/media/recordings/{NAME}", headers={"x-functions-key": ""})
    assert (answer.status_code, answer.content) == (401, b"")


def test_audio_too_long_for_one_answer_is_refused(running: RunningApp) -> None:
    name = "2018/04/25/1799.mp3"
    blob = running.storage.container("recordings").get_blob_client(name)
    blob.upload_blob(bytes(blobs.LARGEST))
    assert running.ask("GET", f"/api/v2/media/recordings/{name}").status_code == 200
    blob.upload_blob(bytes(blobs.LARGEST + 1), overwrite=True)
    answer = running.ask("GET", f"/api/v2/media/recordings/{name}")
    assert answer.status_code == 413
    assert answer.json()["message"] == "Audio over 32 MiB. Read it in ranges, or from Blob Storage."


RANGES = {
    "bytes=0-1": (206, AUDIO[:2], "bytes 0-1/5120"),
    "bytes=5000-": (206, AUDIO[5000:], "bytes 5000-5119/5120"),
    "bytes=100-9999": (206, AUDIO[100:], "bytes 100-5119/5120"),
    "bytes=-20": (206, AUDIO[-20:], "bytes 5100-5119/5120"),
    "bytes=-9999": (206, AUDIO, "bytes 0-5119/5120"),
    "bytes=5120-": (416, b"", "bytes */5120"),
    "bytes=-0": (200, AUDIO, None),
    "bytes=7-3": (200, AUDIO, None),
    "bytes=0-1,4-5": (200, AUDIO, None),
    "lines=0-1": (200, AUDIO, None),
}


@pytest.mark.parametrize("wanted", RANGES)
def test_audio_can_be_played_and_sought_by_ranges(running: RunningApp, wanted: str) -> None:
    answer = running.ask("GET", f"/api/v2/media/recordings/{NAME}", headers={"Range": wanted})
    assert (answer.status_code, answer.content, answer.headers.get("Content-Range")) == RANGES[wanted]
    assert answer.headers["Content-Length"] == str(len(answer.content))
    assert answer.headers["Accept-Ranges"] == "bytes"


def test_an_answer_to_a_range_has_four_mebibytes_of_any_file(running: RunningApp) -> None:
    name = "2018/04/25/1800.0123456789ab.mp3"
    size = blobs.LARGEST + 1
    running.storage.container("recordings").get_blob_client(name).upload_blob(bytes(size))
    answer = running.ask("GET", f"/api/v2/media/recordings/{name}", headers={"Range": "bytes=10-"})
    assert (answer.status_code, len(answer.content)) == (206, blobs.RANGE_BYTES)
    assert answer.headers["Content-Range"] == f"bytes 10-{blobs.RANGE_BYTES + 9}/{size}"
