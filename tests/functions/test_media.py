"""Stored audio over HTTP: for who has the key, by the name in its event, and nothing else of the account."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from shared.media import serve
from shared.storage.account import CONTAINERS
from tests.face import Face, face

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


pytestmark = pytest.mark.xdist_group("stored_audio")

NAME = "2018/04/25/1711.mp3"
AUDIO = bytes(range(256)) * 20


@pytest.fixture(scope="module")
def running(new_account: Callable[[], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Face]:
    from azure.storage.blob import ContentSettings

    with face(new_account(), tmp_path_factory.mktemp("audio"), "GetStoredAudio") as running:
        running.storage.create_all()
        for container in CONTAINERS:
            blob = running.storage.container(container).get_blob_client(NAME)
            blob.upload_blob(AUDIO, content_settings=ContentSettings(content_type="audio/mpeg"))
        yield running


@pytest.mark.parametrize("container", ["recordings", "voicemails"])
def test_audio_comes_whole_under_the_name_of_its_event(running: Face, container: str) -> None:
    answer = running.ask("GET", f"/api/v2/media/{container}/{NAME}")
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
def test_nothing_else_is_handed_out(running: Face, path: str) -> None:
    assert running.ask("GET", f"/api/v2/media/{path}").status_code == 404


def test_audio_takes_a_key(running: Face) -> None:
    answer = running.ask("GET", f"/api/v2/media/recordings/{NAME}", headers={"x-functions-key": ""})
    assert (answer.status_code, answer.content) == (401, b"")


def test_audio_too_long_for_one_answer_is_refused(running: Face, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "LARGEST", len(AUDIO))
    assert serve.read(running.storage, "recordings", NAME).content == AUDIO
    monkeypatch.setattr(serve, "LARGEST", len(AUDIO) - 1)
    with pytest.raises(serve.AudioTooLarge):
        serve.read(running.storage, "recordings", NAME)
