"""The audio under `/files/`: in time, late, elsewhere or spoilt."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from dev.simulator.api import spoiled
from dev.simulator.http import Answer, Request
from dev.simulator.records import Seen
from dev.simulator.wire import encode, envelope

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from dev.simulator.audio import AudioFile
    from dev.simulator.pbx import Pbx

OPERATION = "File"  # the name that fault rules match
_DRIP_BLOCK = 16_384  # bytes
_DRIP_PAUSE = 0.05  # seconds
_SIGNED = "signed=1"  # the query of a link that redirects no further


def _html(_: AudioFile) -> Answer:
    return Answer(200, b"<!doctype html><html><body>Please sign in</body></html>", "text/html; charset=utf-8")


def _whole(audio: AudioFile) -> Answer:
    return Answer(200, audio.blocks(), audio.media_type, length=audio.length)


def _truncated(audio: AudioFile) -> Answer:
    return Answer(200, audio.blocks(), audio.media_type, length=audio.length, cut=audio.length // 2)


def _longer(audio: AudioFile) -> Answer:
    return Answer(200, audio.blocks(), audio.media_type, length=audio.length + 1000, cut=audio.length)


def _drip(audio: AudioFile) -> Answer:
    return Answer(200, _small(audio.blocks()), audio.media_type, length=audio.length, pause=_DRIP_PAUSE)


def _small(blocks: Iterator[memoryview]) -> Iterator[memoryview]:
    for block in blocks:
        for start in range(0, len(block), _DRIP_BLOCK):
            yield block[start : start + _DRIP_BLOCK]


FAULTS: Mapping[str, Callable[[AudioFile], Answer]] = {
    "": _whole,
    "html": _html,
    "empty": lambda audio: Answer(200, b"", audio.media_type),
    "truncated": _truncated,
    "longer": _longer,
    "no-length": lambda audio: Answer(200, audio.blocks(), audio.media_type),
    "drip": _drip,
    "reset": lambda _: Answer(reset=True),
    "redirect": lambda audio: Answer(302, headers={"Location": audio.location or f"/files/{audio.token}?{_SIGNED}"}),
}


def _refusal(status: int, message: str) -> Answer:
    return Answer(status, encode(envelope(status, message)))


class Files:
    """Answers requests below `/files/`."""

    def __init__(self, pbx: Pbx) -> None:
        self.pbx = pbx

    def respond(self, request: Request) -> Answer:
        """The audio, or why it cannot be had yet."""
        token = request.path.removeprefix("/files/")
        fault = self.pbx.faults.pick(OPERATION, request.path)
        answer = self._audio(request, token)
        if fault:
            answer = spoiled(fault, answer)
        self.pbx.requests.append(
            Seen(time.monotonic(), request.method, request.path, request.query, "", answer.status,
                 "authorization" in request.headers)
        )  # fmt: skip
        return answer

    def _audio(self, request: Request, token: str) -> Answer:
        audio = self.pbx.find_file(token)
        if audio is None or audio.gone:
            return _refusal(404, "Not found")
        if self.pbx.options.file_needs_key and request.headers.get("authorization") != f"Bearer {self.pbx.api_key}":
            return _refusal(403, "Forbidden")
        audio.asked += 1
        if audio.asked <= audio.ready_tries or self.pbx.clock.now().timestamp() < audio.ready_at:
            late = audio.late_status
            return Answer(200, b"", audio.media_type) if late == 200 else _refusal(late, "Not ready")
        if audio.fault == "redirect" and request.query == _SIGNED:
            return _whole(audio)
        return FAULTS[audio.fault](audio)
