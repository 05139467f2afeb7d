"""HTTP triggers that export and erase the data of a phone number; they require the master key."""

from __future__ import annotations

from functools import partial
from http import HTTPStatus
from typing import Literal

import azure.functions as func

from functions.requests import address, body_of
from functions.responses import Work, as_json, register
from shared.bridge import bridge

blueprint = func.Blueprint()


def _ask(kind: Literal["export", "erase"], req: func.HttpRequest) -> func.HttpResponse:
    from shared.privacy.jobs import ask, state

    id = ask(bridge(), kind, body_of(req))
    headers = {"Location": f"{address(req)}/api/ops/people/{id}", "Retry-After": "5"}
    return as_json(state(bridge().storage, id), status=HTTPStatus.ACCEPTED, headers=headers)


def _state(req: func.HttpRequest) -> func.HttpResponse:
    from shared.privacy.jobs import state

    job = state(bridge().storage, req.route_params["job"])
    if "file" in job:
        job["file"] = f"{address(req)}/api/{job['file']}"
    return as_json(job)


def _file(req: func.HttpRequest) -> func.HttpResponse:
    from shared.privacy.jobs import read_file

    part = read_file(bridge().storage, req.route_params["job"], req.headers.get("Range"))
    return func.HttpResponse(part.content, status_code=part.status, mimetype=part.content_type, headers=part.headers)


ROUTES: tuple[tuple[str, str, str, Work], ...] = (
    ("ExportPerson", "POST", "ops/people/export", partial(_ask, "export")),
    ("ErasePerson", "POST", "ops/people/erase", partial(_ask, "erase")),
    ("GetPersonJob", "GET", "ops/people/{job}", _state),
    ("GetPersonFile", "GET", "ops/people/{job}/file", _file),
)
for _route in ROUTES:
    register(blueprint, func.AuthLevel.ADMIN, *_route)
