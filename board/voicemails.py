"""Voicemails: a list to search and to listen to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flask import Blueprint, Response, render_template, request

from board import search, show
from shared.api.lists import find_items
from shared.api.operations import LIST_ACTIONS
from shared.api.parameters import Request
from shared.errors import Invalid
from shared.media.deletions import copies
from shared.media.table import MEDIA

if TYPE_CHECKING:
    from collections.abc import Mapping

blueprint = Blueprint("voicemails", __name__)

_LIST = next(row for row in LIST_ACTIONS if row.path == "voicemails")
_MEDIA = next(row for row in MEDIA if row.resource == "voicemails")
_NAMES = ("contact_id", "date_from", "date_to")
_ON_A_PAGE = 24
# Those of a number lie years apart: each is a request.
_OF_A_NUMBER = 8


@blueprint.get("/voicemails")
def index() -> str:
    """Show the newest voicemails that are searched for."""
    asked, offset = search.asked(_NAMES, employee="contact_id"), max(0, request.args.get("offset", 0, int))
    most = _OF_A_NUMBER if "number" in asked.given else _ON_A_PAGE
    found = asked.checked(lambda given: _found(given, limit=most + 1, offset=offset)) or []
    stored = copies(show.here().storage, _MEDIA, [int(item["voicemailID"]) for item in found[:most]])
    return render_template(
        "voicemails.html",
        voicemails=[(item, _player(item, stored)) for item in found[:most]],
        search=asked,
        offset=offset,
        following=offset + most if len(found) > most else None,
        people=show.directory(),
    )


def _found(given: Mapping[str, str], **page: int) -> list[dict[str, Any]]:
    query = {**given, **{name: str(number) for name, number in page.items()}}
    found: Any = find_items(show.here(), _LIST, Request(query=query))
    return list(found["data"])


@blueprint.get("/voicemails.xlsx")
def workbook() -> Response:
    """Return all voicemails that are searched for as a workbook."""
    asked = search.asked(_NAMES, employee="contact_id")
    if asked.problem:
        raise Invalid({"q": asked.problem})
    return show.download(find_items(show.here(), _LIST, Request(query=asked.given | {"format": "xlsx"})))


def _player(item: Mapping[str, Any], stored: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
    row = stored.get(int(item["voicemailID"]), {})
    return {"container": _MEDIA.container, "blobName": row.get("blob"), "deleted": row.get("deletedAtPbx")}
