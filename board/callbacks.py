"""Lost callers: list them, call back with an employee's phone, and close by hand."""

from __future__ import annotations

import json
import secrets
from typing import TYPE_CHECKING

from flask import Blueprint, flash, g, redirect, render_template, request, session, url_for
from flask_babel import gettext

from board import show
from shared import audit
from shared.api.actions import act
from shared.api.parameters import Request
from shared.bridge import Bridge
from shared.calls import lost_callers
from shared.calls.lost_callers import LostCaller
from shared.errors import BridgeError
from shared.pbx.operations import operation
from shared.times import now

if TYPE_CHECKING:
    from werkzeug.wrappers import Response

blueprint = Blueprint("callbacks", __name__, url_prefix="/callbacks")

_DIAL = operation("Dial")
_LONGEST_NOTE = 500


def waiting(bridge: Bridge) -> list[LostCaller]:
    """Return the open lost callers, the longest waiting first."""
    return sorted(lost_callers.listed(bridge.storage), key=lambda caller: (caller.since is None, caller.since))


@blueprint.get("/")
def index() -> str:
    """Show the open lost callers."""
    return render_template(
        "callbacks.html",
        waiting=waiting(show.here()),
        people=show.directory().present,
        chosen=session.get("employee"),
        new_key=lambda: secrets.token_hex(16),
    )


@blueprint.post("/dial")
def dial() -> Response:
    """Have the PBX ring an employee and then the caller. A form that is sent again does not ring again."""
    number, chosen, result = request.form.get("number", ""), request.form.get("employee", ""), "done"
    session["employee"] = chosen
    body = json.dumps({"destination": number, "contactID": chosen}).encode()
    try:
        act(show.here(), _DIAL, Request(body=body, headers={"Idempotency-Key": request.form.get("once", "")}))
    except BridgeError as error:
        result = type(error).__name__
        flash(gettext("The call was not placed: %(reason)s", reason=show.reason(error)), "bad")
    else:
        name = show.employee(int(chosen))
        flash(gettext("%(name)s’s phone rings now, and then %(who)s.", name=name, who=show.phone(number)), "good")
    return _done("call back", 1, result)


@blueprint.post("/close")
def close() -> Response:
    """Close a lost caller, with the person's name and note."""
    note = " ".join(request.form.get("note", "").split())[:_LONGEST_NOTE]
    closed = lost_callers.close(show.here().storage, request.form.get("id", ""), now(), f"{g.who}: {note}")
    if closed:
        flash(gettext("Closed."), "good")
    else:
        flash(gettext("Somebody closed it already, or called back."), "warn")
    return _done("close lost caller", int(closed), "done" if closed else "closed already")


def _done(what: str, count: int, result: str) -> Response:
    audit.record(show.here().storage, who=g.who, what=what, count=count, result=result)
    return redirect(url_for("callbacks.index"), 303)
