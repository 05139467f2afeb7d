"""The simulator's own routes below `/sim/`, for use from another process on the same machine."""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from datetime import datetime
from typing import TYPE_CHECKING, Any

from dev.simulator.calls import delete_voicemail, place
from dev.simulator.http import Answer, Request
from dev.simulator.wire import Options, read_time

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from dev.simulator.pbx import Pbx

Body = dict[str, Any]

_LOOPBACK = ("127.", "::1")


def _plain(value: object) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    return sorted(value) if isinstance(value, set) else str(value)


def _json(status: int, value: Any) -> Answer:
    return Answer(status, json.dumps(value, default=_plain, ensure_ascii=False).encode())


class Control:
    """Answers `METHOD /sim/{name}`: reads what happened, and changes what will."""

    def __init__(self, pbx: Pbx, start_day: Callable[[str, float, int], None], day_done: threading.Event) -> None:
        self.pbx = pbx
        self._routes: dict[tuple[str, str], Callable[[Body], Any]] = {
            ("GET", "health"): lambda _: {"url": pbx.url},
            ("GET", "requests"): lambda _: [asdict(row) for row in list(pbx.requests)],
            ("GET", "webhooks"): lambda _: [asdict(row) for row in pbx.webhooks],
            ("GET", "posted"): lambda _: [asdict(row) for row in pbx.posted],
            ("GET", "rang"): lambda _: [asdict(row) for row in list(pbx.rang)],
            ("GET", "window"): lambda query: {"calls": pbx.max_calls_in_window(float(query.get("seconds", 60)))},
            ("GET", "counts"): lambda _: {name: len(rows) for name, rows in pbx.rows.items()},
            ("GET", "clock"): lambda _: {"now": pbx.clock.now(), "next": pbx.clock.next_due()},
            ("GET", "faults"): lambda _: [asdict(row) for row in (*pbx.faults.rules, *pbx.hooks.faults.rules)],
            ("POST", "faults"): lambda body: asdict(pbx.faults.add(**body)),
            ("POST", "webhook-faults"): lambda body: asdict(pbx.hooks.faults.add(**body)),
            ("DELETE", "faults"): self._clear_faults,
            ("POST", "calls"): lambda body: asdict(
                place(pbx, body.pop("caller", ""), body.pop("destination", ""), **body)
            ),
            ("POST", "events"): lambda body: pbx.hooks.emit(body["event"], body["data"]),
            ("POST", "items"): lambda body: {"id": pbx.add(body.pop("resource"), body.pop("id", None), **body)},
            ("PATCH", "items"): lambda body: pbx.edit(body.pop("resource"), body.pop("id"), **body),
            ("DELETE", "items"): lambda body: pbx.remove(body["resource"], body["id"]),
            ("DELETE", "voicemails"): lambda body: delete_voicemail(pbx, body["id"]),
            ("POST", "bulk"): self._bulk,
            ("POST", "files"): self._change_file,
            ("POST", "clock"): self._move_clock,
            ("POST", "options"): self._change_options,
            ("POST", "day"): lambda body: start_day(
                body["name"], float(body.get("pace", 0)), int(body.get("webhooks", 0))
            ),
            ("GET", "day"): lambda _: {"done": day_done.is_set()},
            ("POST", "settle"): lambda body: {"settled": pbx.settle(float(body.get("timeout", 10)))},
            ("DELETE", "requests"): lambda _: pbx.requests.clear(),
            ("POST", "reset"): lambda _: pbx.reset(),
        }  # fmt: skip

    def respond(self, request: Request) -> Answer:
        """The answer to a control request; 400 with the reason where it does not fit."""
        if not request.peer.startswith(_LOOPBACK):
            return _json(403, {"error": "loopback only"})
        route = self._routes.get((request.method, request.path.removeprefix("/sim/")))
        if route is None:
            return _json(404, {"error": "no such control", "known": sorted(" ".join(key) for key in self._routes)})
        try:
            body = request.arguments | (json.loads(request.body) if request.body else {})
            return _json(200, route(body))
        except (KeyError, TypeError, ValueError) as error:
            return _json(400, {"error": f"{type(error).__name__}: {error}"})

    def _clear_faults(self, _: Body) -> None:
        self.pbx.faults.clear()
        self.pbx.hooks.faults.clear()

    def _bulk(self, body: Body) -> Any:
        ids = self.pbx.bulk(body["resource"], int(body["count"]))
        return {"first": ids[0], "last": ids[-1], "count": len(ids)}

    def _change_file(self, body: Body) -> Any:
        """`ready_in` seconds is counted from the clock's present; every other name is a field of AudioFile."""
        audio = self.pbx.file(body.pop("resource"), int(body.pop("id")))
        if "ready_in" in body:
            body["ready_at"] = self.pbx.clock.now().timestamp() + float(body.pop("ready_in"))
        for name, value in body.items():
            if not hasattr(audio, name):
                raise KeyError(name)
            setattr(audio, name, value)
        return {"length": audio.length, "sha256": audio.sha256(), "asked": audio.asked}

    def _move_clock(self, body: Body) -> Any:
        """`set` freezes at a time, `advance` moves on by seconds, `real` goes back to real time."""
        if "set" in body:
            self.pbx.clock.set(read_time(body["set"]))
        if body.get("real"):
            self.pbx.clock.release()
        if "advance" in body:
            self.pbx.clock.advance(float(body["advance"]))
        return {"now": self.pbx.clock.now(), "next": self.pbx.clock.next_due()}

    def _change_options(self, body: Body) -> Any:
        known = {row.name for row in fields(Options)}
        for name, value in body.items():
            if name not in known:
                raise KeyError(name)
            setattr(self.pbx.options, name, set(value) if name == "refused" else value)
        return asdict(self.pbx.options)
