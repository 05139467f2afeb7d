"""A person's data: what is held of a number, to hand it over or to erase it."""

from __future__ import annotations

from flask import Blueprint, render_template

blueprint = Blueprint("person", __name__, url_prefix="/person")


@blueprint.get("/")
def index() -> str:
    """Ask for a number."""
    return render_template("person.html")
