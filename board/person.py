"""A person's data: count, export and erase everything that is stored about a number."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING

from flask import Blueprint, Response, flash, g, redirect, render_template, request, url_for

from board import access, show
from shared import people
from shared.errors import BridgeError
from shared.privacy import jobs
from shared.privacy.holdings import Spellings

if TYPE_CHECKING:
    from werkzeug.wrappers import Response as AnyResponse

blueprint = Blueprint("person", __name__, url_prefix="/person")


@blueprint.route("/", methods=["GET", "POST"])
def index() -> str:
    """Ask for a number and show counts of its data. The number is in no URL, since URLs are logged."""
    number = (request.form.get("number") or "").strip()
    if not number:
        return render_template("person.html", number="", counts=None)
    bridge, region = show.here(), show.here().settings.default_region
    number = Spellings(number, region).number
    counts = Counter(pointer.kind for pointer in people.find(bridge.storage, people.number(number, region)))
    return render_template("person.html", number=number, counts=counts, kinds=people.KINDS)


@blueprint.post("/<any(export, erase):kind>")
def ask(kind: str) -> AnyResponse:
    """Check the admin key, and queue an export or an erasure."""
    bridge = show.here()
    try:
        access.check_admin(bridge, request.form.get("admin_key", ""))
        body = json.dumps({"number": request.form.get("number", "")}).encode()
        id = jobs.ask(bridge, "erase" if kind == "erase" else "export", body, who=g.who)
    except BridgeError as error:
        flash(show.reason(error), "bad")
        return redirect(url_for("person.index"), 303)
    return redirect(url_for("person.job", id=id), 303)


@blueprint.get("/jobs/<id>")
def job(id: str) -> str:
    """Show the state of a job, and its receipt at the end."""
    return render_template("job.html", job=jobs.state(show.here().storage, id))


@blueprint.get("/jobs/<id>/file")
def file(id: str) -> Response:
    """Return the file of an export, or the part in the Range header."""
    part = jobs.read_file(show.here().storage, id, request.headers.get("Range"))
    return Response(part.content, part.status, part.headers, content_type=part.content_type)
