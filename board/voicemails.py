"""Voicemails: a list to search and to listen to."""

from __future__ import annotations

from flask import Blueprint, render_template

blueprint = Blueprint("voicemails", __name__)


@blueprint.get("/voicemails")
def index() -> str:
    """Show the newest voicemails."""
    return render_template("voicemails.html")
