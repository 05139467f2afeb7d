"""The definition has the audio that the events of stored audio name, under their own two fields."""

from __future__ import annotations

import re

from shared.api.openapi.definition import definition
from shared.media.table import MEDIA
from tests.definitions import whole

PATHS = whole(definition("https", "func-pbx.azurewebsites.net"))["paths"]


def test_audio_is_asked_for_by_the_fields_of_its_event_and_comes_as_a_file() -> None:
    operation = PATHS["/media/{container}"]["get"]
    container, name = operation["parameters"]
    for media in MEDIA:
        data = PATHS[f"/webhooks/{media.stored}"]["x-ms-notification-content"]["schema"]["properties"]["data"]
        assert {container["name"], name["name"]} <= data["properties"].keys()
        assert media.container in container["enum"]
    assert re.search(name["pattern"], "2018/04/25/161204400117.mp3")
    assert not re.search(name["pattern"], "../payloads/2018/04/25/161204400117.mp3")
    assert operation["responses"]["200"]["schema"]["format"] == "binary"
    assert {"401", "404", "413", "503"} <= operation["responses"].keys()
