"""The simulator's own routes below `/sim/`, for use from another process on the same machine."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Any

from dev.server import Answer, Request
from dev.simulator.calls import place

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from dev.simulator.pbx import Pbx

Body = dict[str, Any]


def _plain(value: object) -> Any:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _json(status: int, value: Any) -> Answer:
    return Answer(status, json.dumps(value, default=_plain, ensure_ascii=False).encode())


class Control:
    """Answers `METHOD /sim/{name}`."""

    def __init__(self, pbx: Pbx, start_day: Callable[[str, float], None], day_done: threading.Event) -> None:
        self.pbx = pbx
        self._routes: dict[tuple[str, str], Callable[[Body], Any]] = {
            ("GET", "counts"): lambda _: {name: len(rows) for name, rows in pbx.rows.items()},
            ("GET", "day"): lambda _: {"done": day_done.is_set()},
            ("POST", "day"): lambda body: start_day(body["name"], float(body.get("pace", 0))),
            ("POST", "calls"): lambda body: asdict(place(pbx, body.pop("caller"), body.pop("destination"), **body)),
            ("POST", "items"): lambda body: {"id": pbx.add(body.pop("resource"), body.pop("id", None), **body)},
            ("POST", "bulk"): lambda body: {"count": len(pbx.bulk(body["resource"], int(body["count"])))},
            ("POST", "files"): self._change_file,
        }

    def respond(self, request: Request) -> Answer:
        """Answer a control request; 400 with the reason where it does not fit."""
        route = self._routes.get((request.method, request.path.removeprefix("/sim/")))
        if route is None:
            return _json(404, {"error": "no such control", "known": sorted(" ".join(key) for key in self._routes)})
        try:
            return _json(200, route(json.loads(request.body or b"{}")))
        except (KeyError, TypeError, ValueError) as error:
            return _json(400, {"error": f"{type(error).__name__}: {error}"})

    def _change_file(self, body: Body) -> Any:
        """Set fields of an AudioFile."""
        audio = self.pbx.file(body.pop("resource"), int(body.pop("id")))
        for name, value in body.items():
            setattr(audio, name, value)
        return {"length": audio.length}
