"""Calls: a list to search, one call as a timeline, and its audio."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from flask import Blueprint, Response, render_template, request
from flask_babel import lazy_gettext

from board import search, show
from shared.api import calls
from shared.api.operations import GET_CALLS
from shared.media.blobs import RANGE_BYTES, read_range
from shared.times import event_time

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    Item = dict[str, Any]

blueprint = Blueprint("calls", __name__)

_NAMES = tuple(parameter.name for parameter in GET_CALLS.parameters)
_ON_A_PAGE = 50
# The calls of a number lie years apart: each is a request.
_OF_A_NUMBER = 10
# Parts of an index in which nothing fits, before the reader is asked to go on.
_MOST_PARTS = 4


def _asked() -> search.Search:
    return search.asked(_NAMES, employee="employee")


@blueprint.get("/calls")
def index() -> str:
    """Show the newest calls that are searched for."""
    asked, found, following = _asked(), list[Any](), request.args.get("after")
    most = _OF_A_NUMBER if "number" in asked.given else _ON_A_PAGE
    for _ in range(_MOST_PARTS):
        start = {"continuation": following} if following else {}
        part: Any = asked.read(calls.read, GET_CALLS, limit=most - len(found), **start) or {
            "data": [],
            "continuation": None,
        }
        found, following = found + part["data"], part["continuation"]
        if not following or len(found) >= most:
            break
    return render_template("calls.html", calls=found, search=asked, following=following, people=show.directory())


@blueprint.get("/calls.xlsx")
def workbook() -> Response:
    """Return all calls that are searched for as a workbook."""
    return _asked().workbook(calls.read, GET_CALLS)


@blueprint.get("/calls/<int:call_id>")
def one(call_id: int) -> str:
    """Show one call and all that happened in it."""
    call = calls.one(show.here(), call_id)
    return render_template("call.html", call=call, timeline=timeline(call))


# When an event happened in its call, and what it is called with and without an employee's name.
_STEPS: Mapping[str, tuple[str, Any, Any]] = {
    "CallStarted": ("callStarted", lazy_gettext("Rings %(name)s"), lazy_gettext("Rings")),
    "CallConnected": ("callConnected", lazy_gettext("%(name)s answers"), lazy_gettext("Answered")),
    "CallTransfered": ("", lazy_gettext("Handed over to %(name)s"), lazy_gettext("Handed over")),
    "CallCompleted": ("callEnded", lazy_gettext("Ends for %(name)s"), lazy_gettext("Ends")),
    "CallRecorded": ("", None, lazy_gettext("A recording was made")),
    "VoicemailCreated": ("", None, lazy_gettext("A voicemail was left")),
    "RecordingStored": ("storedAt", None, lazy_gettext("The audio was stored")),
    "VoicemailStored": ("storedAt", None, lazy_gettext("The audio was stored")),
}


def timeline(call: Item) -> list[tuple[datetime | None, str]]:
    """Return what happened in a call in the order of its times, in words."""
    steps = {_step(event): None for event in call["events"] if event["type"] in _STEPS}
    return sorted(steps, key=lambda step: (step[0] is None, step[0]))


def _step(event: Mapping[str, Any]) -> tuple[datetime | None, str]:
    at, named, plain = _STEPS[event["type"]]
    data, name = event["data"], show.employee(event.get("contactID"))
    connected, seconds = event_time(data.get("callConnected")), data.get("connectionTime")
    ended = connected + timedelta(seconds=seconds) if connected and isinstance(seconds, int) else None
    moment = event_time(data.get(at)) or ended or event_time(event["received"])
    return moment, str(named) % {"name": name} if name and named else str(plain)


@blueprint.get("/audio/<container>/<path:name>")
def audio(container: str, name: str) -> Response:
    """Return stored audio in parts of a few MiB, also to who asks for no range; a file to save is whole."""
    download, asked = "download" in request.args, request.headers.get("Range")
    part = read_range(show.here().storage, container, name, asked or ("" if download else "bytes=0-"))
    whole = not asked and len(part.content) < RANGE_BYTES
    answer = Response(part.content, 200 if whole else part.status, dict(part.headers), content_type=part.content_type)
    if download:
        answer.headers["Content-Disposition"] = f'attachment; filename="{name.rpartition("/")[2]}"'
    return answer
