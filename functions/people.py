"""HTTP triggers that export and erase all that is stored of a phone number; the master key alone opens them."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

import azure.functions as func

from functions.requests import address, body_of
from functions.responses import as_json, register
from shared.bridge import bridge

if TYPE_CHECKING:
    from functions.responses import Work

blueprint = func.Blueprint()


def _ask(kind: str) -> Work:
    def work(req: func.HttpRequest) -> func.HttpResponse:
        from shared.privacy.jobs import ask, state

        id = ask(bridge(), "erase" if kind == "erase" else "export", body_of(req))
        headers = {"Location": f"{address(req)}/api/ops/people/{id}", "Retry-After": "5"}
        return as_json(state(bridge().storage, id), status=HTTPStatus.ACCEPTED, headers=headers)

    return work


def _state(req: func.HttpRequest) -> func.HttpResponse:
    from shared.privacy.jobs import state

    found = state(bridge().storage, req.route_params["job"])
    if "file" in found:
        found["file"] = f"{address(req)}/api/{found['file']}"
    return as_json(found)


def _file(req: func.HttpRequest) -> func.HttpResponse:
    from shared.media.blobs import part_of
    from shared.privacy.holdings import EXPORTS
    from shared.privacy.jobs import state

    job = state(bridge().storage, req.route_params["job"])["id"]
    part = part_of(bridge().storage, EXPORTS, f"{job}.zip", req.headers.get("Range"))
    headers = {**part.headers, "Cache-Control": "no-store", "Content-Disposition": f'attachment; filename="{job}.zip"'}
    return func.HttpResponse(part.content, status_code=part.status, mimetype="application/zip", headers=headers)


ROUTES: tuple[tuple[str, str, str, Work], ...] = (
    ("ExportPerson", "POST", "ops/people/export", _ask("export")),
    ("ErasePerson", "POST", "ops/people/erase", _ask("erase")),
    ("GetPersonJob", "GET", "ops/people/{job}", _state),
    ("GetPersonFile", "GET", "ops/people/{job}/file", _file),
)
for _route in ROUTES:
    register(blueprint, func.AuthLevel.ADMIN, *_route)
