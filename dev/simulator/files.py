"""The audio under `/files/`: in time, late, elsewhere or spoilt."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dev.server import Answer, Request
from dev.simulator.wire import encode, envelope

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from dev.simulator.audio import AudioFile
    from dev.simulator.pbx import Pbx

_SIGNED = "signed=1"  # the query of a link that redirects no further


def _streamed(audio: AudioFile, more: int = 0, cut: int | None = None) -> Answer:
    return Answer(200, audio.blocks(), audio.content_type, length=audio.length + more, cut=cut)


_FAULTS: Mapping[str, Callable[[AudioFile], Answer]] = {
    "": _streamed,
    "html": lambda _: Answer(200, b"<!doctype html><html><body>Please sign in</body></html>", "text/html"),
    "empty": lambda audio: Answer(200, b"", audio.content_type),
    "truncated": lambda audio: _streamed(audio, cut=audio.length // 2),
    "longer": lambda audio: _streamed(audio, more=1000, cut=audio.length),
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
        """Answer with the audio, or with the reason why it cannot be had yet."""
        answer = self._audio(request, request.path.removeprefix("/files/"))
        self.pbx.record(request, answer, "")
        return answer

    def _audio(self, request: Request, token: str) -> Answer:
        audio = self.pbx.find_file(token)
        if audio is None or audio.gone:
            return _refusal(404, "Not found")
        if self.pbx.options.file_needs_key and request.headers.get("authorization") != f"Bearer {self.pbx.api_key}":
            return _refusal(403, "Forbidden")
        audio.asked += 1
        if audio.asked <= audio.ready_tries:
            late = audio.late_status
            return Answer(200, b"", audio.content_type) if late == 200 else _refusal(late, "Not ready")
        return _FAULTS["" if audio.fault == "redirect" and request.query == _SIGNED else audio.fault](audio)
