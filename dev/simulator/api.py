"""The PBX over HTTP: the operations of its API, the audio below `/files/`, and faults in their answers."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from dev.server import Answer, Request
from dev.simulator.audio import AudioFile
from dev.simulator.calls import place_dial
from dev.simulator.faults import Fault
from dev.simulator.lists import RefusedError, matching, number_of, ordered, page, shuffled
from dev.simulator.pbx import Pbx
from dev.simulator.resources import BASE_PATH, FILTERS, LOST_CALL_FILTERS, OPERATIONS, RESOURCES, Operation
from dev.simulator.wire import Seen, encode, envelope
from shared.pbx.resources import Resource

Handler = Callable[[Request, str], Answer]

# Faults that replace the whole answer. Those `before` the operation prevent it.
_WHOLE = ("status", "html", "reset", "empty", "redirect", "wrapper")


def _answer(status: int, message: str, data: Any = None) -> Answer:
    return Answer(status, encode(envelope(status, message, data)))


def _route(operation: Operation) -> re.Pattern[str]:
    return re.compile(re.sub(r"\{\w+\}", "([^/]+)", BASE_PATH + operation.path))


class Api:
    """Answers requests below `/api/v2/` and `/files/`, and records them."""

    def __init__(self, pbx: Pbx) -> None:
        self.pbx = pbx
        self._handlers: dict[str, Handler] = {
            "GetLostCalls": self._lost_calls,
            "Dial": self._dial,
            "DeleteWebhookByID": self._unsubscribe,
        }
        for row in RESOURCES.values():
            self._handlers[row.list_operation] = self._lister(row)
            self._handlers[row.read_operation] = self._reader(row)
        self._routes = [(row.method, _route(row), row) for row in OPERATIONS]

    def respond(self, request: Request) -> Answer:
        """Return the answer of an operation or audio file."""
        if request.path.startswith("/files/"):
            operation, answer = "", self._audio(request, request.path.removeprefix("/files/"))
        else:
            operation, answer = self._operate(request)
        status, has_key = 0 if answer.reset else answer.status, "authorization" in request.headers
        self.pbx.requests.append(Seen(request.method, request.path, request.query, operation, status, has_key))
        return answer

    def _operate(self, request: Request) -> tuple[str, Answer]:
        for method, pattern, row in self._routes:
            if method == request.method and (match := pattern.fullmatch(request.path.rstrip("/"))):
                return row.id, self._faulty(request, row, match[1] if match.groups() else "")
        return "unknown", _answer(404, "Not found")

    def _audio(self, request: Request, token: str) -> Answer:
        audio = self.pbx.files.get(token)
        if audio is None or audio.gone:
            return _answer(404, "Not found")
        if self.pbx.options.file_needs_key and request.headers.get("authorization") != f"Bearer {self.pbx.api_key}":
            return _answer(403, "Forbidden")
        audio.asked += 1
        if audio.asked <= audio.ready_tries:
            late = audio.late_status
            return Answer(200, b"", audio.content_type) if late == 200 else _answer(late, "Not ready")
        return _SPOILT_AUDIO["" if audio.fault == "redirect" and request.query == _SIGNED else audio.fault](audio)

    def _faulty(self, request: Request, operation: Operation, part: str) -> Answer:
        fault = self.pbx.faults.pick(operation.id)
        if fault and fault.before and fault.kind in _WHOLE:
            return spoiled(fault, Answer())
        answer = self._checked(request, operation, part)
        return spoiled(fault, answer) if fault else answer

    def _checked(self, request: Request, operation: Operation, part: str) -> Answer:
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or key.strip() != self.pbx.api_key:
            return _answer(403, "Forbidden: wrong API key")
        if operation.id in self.pbx.options.refused:
            return _answer(403, "Forbidden: API method is not granted to this key")
        handler = self._handlers.get(operation.id, self._subscribe if operation.row is None else _accepted)
        try:
            return handler(request, part or operation.id)
        except RefusedError as error:
            return _answer(422, str(error))

    def _lister(self, row: Resource) -> Handler:
        def answer(request: Request, _: str) -> Answer:
            query, options, rows = request.arguments, self.pbx.options, self.pbx.rows[row.name].copy()
            above = number_of(query, f"initial_{row.id_parameter}", 0)
            only = number_of(query, row.id_parameter, 0) if query.get(row.id_parameter) else None
            ids = ordered((id for id in rows if id > above and only in (None, id)), options.order)
            items = page(matching((rows[id] for id in ids), FILTERS[row.name], query), query, options.page_cap)
            if options.order == "shuffled-page":
                items = shuffled(items, row.id_field)
            return self._items([self.pbx.view(row.name, item) for item in items])

        return answer

    def _items(self, shown: list[dict[str, Any]]) -> Answer:
        if not shown and self.pbx.options.empty == "404":
            return _answer(404, "No items found")
        return _answer(200, "OK", shown)

    def _reader(self, row: Resource) -> Handler:
        def answer(_: Request, part: str) -> Answer:
            item = self.pbx.rows[row.name].get(number_of({"id": part}, "id", 0))
            return _answer(404, "Not found") if item is None else _answer(200, "OK", self.pbx.view(row.name, item))

        return answer

    def _lost_calls(self, request: Request, _: str) -> Answer:
        query = request.arguments
        callers = sorted(self.pbx.lost.values(), key=lambda item: item["last_contact"], reverse=True)
        items = page(matching(callers, LOST_CALL_FILTERS, query), query, self.pbx.options.page_cap)
        return self._items([self.pbx.wire(item) for item in items])

    def _dial(self, request: Request, _: str) -> Answer:
        body = _object(request.body)
        destination, contact_id = body.get("destination"), body.get("contactID")
        if not isinstance(destination, str) or not re.fullmatch(r"\+?\d{3,15}", destination):
            raise RefusedError("destination must be a phone number")
        if not isinstance(contact_id, int) or isinstance(contact_id, bool):
            raise RefusedError("contactID must be an integer")
        if contact_id not in self.pbx.rows["contacts"]:
            return _answer(404, "No such contact")
        place_dial(self.pbx, destination, contact_id)
        return _answer(200, "OK", {})

    def _subscribe(self, request: Request, event: str) -> Answer:
        endpoint = _object(request.body).get("endpoint")
        address = urlsplit(endpoint) if isinstance(endpoint, str) else None
        if address is None or address.scheme not in ("http", "https") or not address.netloc:
            raise RefusedError("endpoint must be a URL")
        new = self.pbx.hooks.subscribe(event, str(endpoint))
        if new is None:
            raise RefusedError(f"There can be no more than {self.pbx.options.webhook_cap} webhooks")
        options = self.pbx.options
        data = {"number": new.id, "string": str(new.id), "object": {"webhook_id": new.id}}.get(options.webhook_data)
        answer = _answer(200, "OK", data)
        if options.webhook_location != "none":
            base = self.pbx.url if options.webhook_location == "absolute" else ""
            answer.headers["Location"] = f"{base}{BASE_PATH}/webhooks/{new.id}"
        return answer

    def _unsubscribe(self, _: Request, part: str) -> Answer:
        if self.pbx.hooks.unsubscribe(number_of({"webhook_id": part}, "webhook_id", 0)):
            return _answer(200, "OK", {})
        return _answer(404, "No such webhook")


def _accepted(_: Request, operation: str) -> Answer:
    """Accept an action that the simulator does not carry out."""
    return _answer(200, "OK", {})


def _object(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body or b"{}")
    except ValueError:
        raise RefusedError("body must be JSON") from None
    if not isinstance(value, dict):
        raise RefusedError("body must be an object")
    return value


_PAGE = b"<!doctype html><html><head><title>Service</title></head><body><h1>Please sign in</h1></body></html>"


def spoiled(fault: Fault, answer: Answer) -> Answer:
    """Return the answer with the fault applied."""
    body = answer.body if isinstance(answer.body, bytes) else b""
    headers = {"Retry-After": fault.retry_after} if fault.retry_after is not None else {}
    match fault.kind:
        case "status":
            spoilt = _answer(fault.status, "Fault")
        case "body-status":
            spoilt = Answer(200, encode(envelope(fault.status, "Fault", [])))
        case "wrapper":
            spoilt = Answer(200, encode({**json.loads(body or encode(envelope(200, "OK", []))), **fault.value}))
        case "html":
            spoilt = Answer(fault.status, _PAGE, "text/html; charset=utf-8")
        case "cut":
            spoilt = Answer(answer.status, body[: len(body) // 2])
        case "truncated":
            spoilt = Answer(answer.status, body, cut=len(body) // 2)
        case "empty":
            spoilt = Answer(200)
        case "redirect":
            spoilt, headers = Answer(302), {"Location": fault.location}
        case "reset":
            spoilt = Answer(reset=True)
        case _:
            answer.delay = fault.delay
            return answer
    spoilt.headers |= headers
    return spoilt


_SIGNED = "signed=1"  # the query of the redirected link


def _streamed(audio: AudioFile, more: int = 0, cut: int | None = None) -> Answer:
    return Answer(200, audio.blocks(), audio.content_type, length=audio.length + more, cut=cut)


_SPOILT_AUDIO: Mapping[str, Callable[[AudioFile], Answer]] = {
    "": _streamed,
    "html": lambda _: Answer(200, _PAGE, "text/html"),
    "empty": lambda audio: Answer(200, b"", audio.content_type),
    "truncated": lambda audio: _streamed(audio, cut=audio.length // 2),
    "longer": lambda audio: _streamed(audio, more=1000, cut=audio.length),
    "reset": lambda _: Answer(reset=True),
    "redirect": lambda audio: Answer(302, headers={"Location": audio.location or f"/files/{audio.token}?{_SIGNED}"}),
}
