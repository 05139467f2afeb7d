"""A person's data: what is held of a number, to hand it over or to erase it."""

from __future__ import annotations

from collections import Counter

from flask import Blueprint, render_template, request

from board import show
from shared import people
from shared.errors import Invalid
from shared.phones import dialled, e164

blueprint = Blueprint("person", __name__, url_prefix="/person")


@blueprint.route("/", methods=["GET", "POST"])
def index() -> str:
    """Ask for a number and count what is held of it; a number is in no address, where it would be kept."""
    number = (request.form.get("number") or "").strip()
    if not number:
        return render_template("person.html", number="", counts=None)
    bridge = show.here()
    try:
        dialled(number)
    except ValueError as error:
        raise Invalid({"number": str(error)}) from None
    subject = people.number(number, bridge.settings.default_region)
    counts = Counter(pointer.kind for pointer in people.find(bridge.storage, subject))
    full = e164(number, bridge.settings.default_region) or number
    return render_template("person.html", number=full, counts=counts, kinds=people.KINDS)
