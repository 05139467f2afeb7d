"""Voicemails: a list to search and to listen to."""

from __future__ import annotations

from flask import Blueprint, Response, render_template, request

from board import search, show
from shared.api.lists import find_items
from shared.api.operations import LIST_ACTIONS
from shared.media.blobs import MEDIA
from shared.media.deletions import copies

blueprint = Blueprint("voicemails", __name__)

_LIST = next(row for row in LIST_ACTIONS if row.path == "voicemails")
_MEDIA = next(row for row in MEDIA if row.resource == "voicemails")
_ON_A_PAGE = 24
# Those of a number lie years apart: each is a request.
_OF_A_NUMBER = 8


def _asked() -> search.Search:
    return search.asked(("contact_id", "date_from", "date_to"), employee="contact_id")


@blueprint.get("/voicemails")
def index() -> str:
    """Show the newest voicemails that are searched for."""
    asked, offset = _asked(), max(0, request.args.get("offset", 0, int))
    most = _OF_A_NUMBER if "number" in asked.given else _ON_A_PAGE
    found = (asked.read(find_items, _LIST, limit=most + 1, offset=offset) or {"data": []})["data"]
    stored = copies(show.here().storage, _MEDIA, [int(item["voicemailID"]) for item in found[:most]])
    players = []
    for item in found[:most]:
        row = stored.get(int(item["voicemailID"]), {})
        player = {"container": _MEDIA.container, "blobName": row.get("blob"), "deleted": row.get("deletedAtPbx")}
        players.append((item, player))
    return render_template(
        "voicemails.html",
        voicemails=players,
        search=asked,
        offset=offset,
        following=offset + most if len(found) > most else None,
        people=show.directory(),
    )


@blueprint.get("/voicemails.xlsx")
def workbook() -> Response:
    """Return all voicemails that are searched for as a workbook."""
    return _asked().workbook(find_items, _LIST)
