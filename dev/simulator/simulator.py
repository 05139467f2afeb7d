"""The simulator in one piece: the account, its HTTP server, and the scenario calls that tests and the demo use."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Self

from dev.server import Answer, Request, Server
from dev.simulator.api import Api
from dev.simulator.calls import Call, delete_voicemail, place
from dev.simulator.control import Control
from dev.simulator.day import DAYS, play
from dev.simulator.files import Files
from dev.simulator.pbx import Pbx
from dev.simulator.wire import encode, envelope

if TYPE_CHECKING:
    from types import TracebackType


class Simulator(Pbx):
    """
    A PBX on `url`, from `start` to `close` or as a context manager.

    Port 0 takes a free one. `workers` 1 posts webhooks strictly one after the other.
    """

    def __init__(self, api_key: str = "demo-key", *, port: int = 0, host: str = "127.0.0.1", workers: int = 4) -> None:
        super().__init__(api_key, workers)
        self.day_done = threading.Event()
        self._api, self._files = Api(self), Files(self)
        self._control = Control(self, self.start_day, self.day_done)
        self._server = Server(self._respond, host, port)
        self.url = self._server.url
        self._stopping = threading.Event()
        self._day: threading.Thread | None = None

    @property
    def base_url(self) -> str:
        """The value of PBX_BASE_URL."""
        return f"{self.url}/api/v2/"

    def start(self) -> Self:
        """Begin to answer."""
        self._server.start()
        return self

    def start_day(self, name: str, pace: float = 0.0) -> None:
        """
        Begin a day of `dev.simulator.day` in the background; raise KeyError for an unknown one.

        With a pace, its steps come so many real seconds apart; without one, those of the past come at once and the
        rest in real time. `day_done` is set at its end.
        """
        if name not in DAYS:
            raise KeyError(name)
        self.day_done.clear()
        self._day = threading.Thread(target=self._play, args=(name, pace), name="simulator-day", daemon=True)
        self._day.start()

    def _play(self, name: str, pace: float) -> None:
        play(self, name, pace, self._stopping)
        self.day_done.set()

    def close(self) -> None:
        """Stop the server and every thread."""
        self._stopping.set()
        if self._day:
            self._day.join(timeout=5)
        self._server.close()
        super().close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def call(self, caller: str = "", destination: str = "67021234", **plan: Any) -> Call:
        """Plan a call; `plan` as in `dev.simulator.calls.place`."""
        return place(self, caller, destination, **plan)

    def delete_voicemail(self, voicemail_id: int, *, keep_file: bool = False) -> None:
        """Delete a message as a user does; VoicemailDeleted goes out."""
        delete_voicemail(self, voicemail_id, keep_file=keep_file)

    def emit(self, event: str, **data: Any) -> None:
        """Post one event with this data as it stands; the lists stay as they are."""
        self.hooks.emit(event, data)

    def _respond(self, request: Request) -> Answer:
        if request.path.startswith("/api/v2/"):
            return self._api.respond(request)
        if request.path.startswith("/files/"):
            return self._files.respond(request)
        if request.path.startswith("/sim/"):
            return self._control.respond(request)
        return Answer(404, encode(envelope(404, "Not found")))
