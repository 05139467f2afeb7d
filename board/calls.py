"""Calls and voicemails: lists with a search, the timeline of a call, and stored audio."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from flask import Blueprint, Response, render_template, request
from flask_babel import gettext, lazy_gettext

from board import show
from shared.api import calls
from shared.api.lists import find_items
from shared.api.operations import GET_CALLS, LIST_ACTIONS
from shared.api.parameters import Request
from shared.bridge import Bridge
from shared.errors import Invalid
from shared.media.blobs import MEDIA, RANGE_BYTES, copies, read_range
from shared.pbx.operations import Operation
from shared.times import event_time, now

Item = dict[str, Any]
Read = Callable[[Bridge, Operation, Request], Any]

blueprint = Blueprint("calls", __name__)
voicemails = Blueprint("voicemails", __name__)

_VOICEMAILS = next(row for row in LIST_ACTIONS if row.path == "voicemails")
_MEDIA = next(row for row in MEDIA if row.resource == "voicemails")
# Items of one number are years apart in storage: each costs a request.
_CALLS_ON_A_PAGE, _CALLS_OF_A_NUMBER = 50, 10
_VOICEMAILS_ON_A_PAGE, _VOICEMAILS_OF_A_NUMBER = 24, 8
# Pages of the index that are read for one page of results.
_MOST_PARTS = 4
_NAME = re.compile(r"[^\d\s+()./-]")


@dataclass(slots=True)
class Search:
    """
    A list of the API and its parameters.

    `problem` is the reason for an empty list; `people` are the employees who share the name that was searched for.
    """

    source: Read
    row: Operation
    query: dict[str, str]
    problem: str = ""
    people: list[int] = field(default_factory=list)

    def read(self, **page: str | int | None) -> Any:
        """Return the API's answer; where it refuses the parameters, set `problem` and return an empty list."""
        if not self.problem:
            try:
                query = self.query | {name: str(value) for name, value in page.items() if value is not None}
                return self.source(show.here(), self.row, Request(query=query))
            except Invalid as error:
                self.problem = show.reason(error)
        return {"data": [], "continuation": None}

    def workbook(self) -> Response:
        """Return all results as a workbook to be saved; raises Invalid."""
        file = self.read(format="xlsx")
        if self.problem:
            raise Invalid({"q": self.problem})
        headers = {"Content-Disposition": f'attachment; filename="{file.name}"'}
        return Response(file.content, headers=headers, mimetype=file.content_type)


def _search(source: Read, row: Operation, employee: str, *names: str) -> Search:
    """
    Return the search of this request's query: the named parameters, and `q` as a number or as a contact's name.

    `employee` is the name of the parameter with an employee's id.
    """
    known = (employee, *names)
    search = Search(source, row, {name: text for name, text in request.args.items() if text and name in known})
    text = (request.args.get("q") or "").strip()
    if text and not _NAME.search(text):
        search.query["number"] = text
    elif text:
        search.people = show.directory().named(text)
        if len(search.people) == 1:
            search.query[employee] = str(search.people[0])
        elif search.people:
            search.problem = gettext("Several people have this name. Choose one of them.")
        else:
            search.problem = gettext("No contact has this name. Search for a caller by number.")
    return search


def _calls() -> Search:
    return _search(calls.read, GET_CALLS, "employee", "number", "direction", "outcome", "lost", "from", "to")


def _voicemails() -> Search:
    return _search(find_items, _VOICEMAILS, "contact_id", "date_from", "date_to")


@blueprint.get("/calls")
def index() -> str:
    """Show the newest calls that match the search."""
    search, rows, following = _calls(), list[Any](), request.args.get("after")
    most = _CALLS_OF_A_NUMBER if "number" in search.query else _CALLS_ON_A_PAGE
    for _ in range(_MOST_PARTS):
        part = search.read(limit=most - len(rows), continuation=following)
        rows, following = rows + part["data"], part["continuation"]
        if not following or len(rows) >= most:
            break
    return render_template("calls.html", calls=rows, search=search, following=following, people=show.directory())


@blueprint.get("/calls.xlsx")
def workbook() -> Response:
    """Return all calls that match the search as a workbook."""
    return _calls().workbook()


@voicemails.get("/voicemails", endpoint="index")
def index_voicemails() -> str:
    """Show the newest voicemails that match the search."""
    search, offset = _voicemails(), max(0, request.args.get("offset", 0, int))
    most = _VOICEMAILS_OF_A_NUMBER if "number" in search.query else _VOICEMAILS_ON_A_PAGE
    # One more than fits tells whether there is a next page.
    items = search.read(limit=most + 1, offset=offset)["data"]
    starts = {int(item["voicemailID"]): event_time(item.get("callStarted")) or now() for item in items[:most]}
    stored = copies(show.here().storage, _MEDIA, starts)
    players = []
    for item in items[:most]:
        row = stored.get(int(item["voicemailID"]), {})
        player = {"container": _MEDIA.container, "blobName": row.get("blob"), "deleted": row.get("deletedAtPbx")}
        players.append((item, player))
    return render_template(
        "voicemails.html",
        voicemails=players,
        search=search,
        offset=offset,
        following=offset + most if len(items) > most else None,
        people=show.directory(),
    )


@voicemails.get("/voicemails.xlsx", endpoint="workbook")
def workbook_of_voicemails() -> Response:
    """Return all voicemails that match the search as a workbook."""
    return _voicemails().workbook()


@blueprint.get("/calls/<int:call_id>")
def one(call_id: int) -> str:
    """Show one call with a timeline of its events."""
    call = calls.whole_call(show.here(), call_id)
    # Two events may be the same step.
    steps = {_step(event): None for event in call["events"] if event["type"] in _STEPS}
    timeline = sorted(steps, key=lambda step: (step[0] is None, step[0]))
    return render_template("call.html", call=call, timeline=timeline)


# By event: the field with its time, and its texts with and without an employee's name.
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


def _step(event: Mapping[str, Any]) -> tuple[datetime | None, str]:
    at, named, plain = _STEPS[event["type"]]
    data, name = event["data"], show.employee(event.get("contactID"))
    connected, seconds = event_time(data.get("callConnected")), data.get("connectionTime")
    ended = connected + timedelta(seconds=seconds) if connected and isinstance(seconds, int) else None
    moment = event_time(data.get(at)) or ended or event_time(event["received"])
    return moment, str(named) % {"name": name} if name and named else str(plain)


@blueprint.get("/audio/<container>/<path:name>")
def audio(container: str, name: str) -> Response:
    """Return stored audio in parts of a few MiB, also without a Range header; a download is whole."""
    download, range_header = "download" in request.args, request.headers.get("Range")
    part = read_range(show.here().storage, container, name, range_header or ("" if download else "bytes=0-"))
    whole = not range_header and len(part.content) < RANGE_BYTES
    answer = Response(part.content, 200 if whole else part.status, dict(part.headers), content_type=part.content_type)
    if download:
        answer.headers["Content-Disposition"] = f'attachment; filename="{name.rpartition("/")[2]}"'
    return answer
