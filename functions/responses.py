"""Registers HTTP triggers, and turns the errors of their work into answers."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from functools import partial
from http import HTTPStatus
from typing import Any

import azure.functions as func

from shared.api.envelopes import succeeded
from shared.errors import (
    NO_LENGTH,
    RETRY_AFTER_SECONDS,
    Answer,
    BridgeError,
    Invalid,
    PbxError,
    PbxRetriable,
    answer_to,
)

Work = Callable[[func.HttpRequest], func.HttpResponse]
Render = Callable[[Answer, Mapping[str, str], str], func.HttpResponse]

logger = logging.getLogger(__name__)

PROBLEM = "application/problem+json"


def as_json(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> func.HttpResponse:
    """Return a JSON answer."""
    text = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    return func.HttpResponse(text, status_code=status, headers=dict(headers or {}), mimetype="application/json")


def problem(row: Answer, fields: Mapping[str, str], remedy: str) -> func.HttpResponse:
    """Return an error as `application/problem+json`, with the reason for each invalid field."""
    body = {"type": "about:blank", "title": row.title, "status": row.status, "detail": remedy} | _errors(fields)
    return func.HttpResponse(json.dumps(body), status_code=row.status, mimetype=PROBLEM)


def refusal(row: Answer, fields: Mapping[str, str], remedy: str) -> func.HttpResponse:
    """Return an error in the PBX's envelope; `message` has all of it, as flows show nothing else."""
    reasons = "; ".join(f"{path}: {reason}" for path, reason in fields.items())
    message = f"{row.title}: {reasons}" if reasons else f"{row.title}. {remedy}."
    body = succeeded(None, row.status) | {"status": "error", "message": message} | _errors(fields)
    return as_json(body, status=row.status)


def _errors(fields: Mapping[str, str]) -> dict[str, Any]:
    errors = [{"path": path, "reason": reason} for path, reason in fields.items()]
    return {"errors": errors} if errors else {}


def register(  # noqa: PLR0917 - a row of a table of routes
    blueprint: func.Blueprint,
    level: func.AuthLevel,
    name: str,
    method: str,
    route: str,
    work: Work,
    *,
    render: Render = problem,
) -> None:
    """Register `work` for a method and route under /api; `render` writes its errors."""

    @blueprint.function_name(name)
    @blueprint.route(route, methods=[method], auth_level=level)
    def run(req: func.HttpRequest) -> func.HttpResponse:
        return answer(partial(work, req), render)


def answer(work: Callable[[], func.HttpResponse], render: Render = problem) -> func.HttpResponse:
    """Return the answer of `work`, or its error as `render` writes it: `problem`, or `refusal` under /api/v2."""
    try:
        return work()
    except BridgeError as raised:
        error = raised
    row = answer_to(error)
    if row is NO_LENGTH:
        # As plain text, like the front ends' own 411.
        return func.HttpResponse(f"{row.title}. {row.remedy}.", status_code=row.status, mimetype="text/plain")
    if row.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        logger.error("%s", type(error).__name__, exc_info=error)
    fields = error.fields if isinstance(error, Invalid) else {}
    remedy = row.remedy or (error.remedy if isinstance(error, PbxError) else "")
    response = render(row, fields, remedy)
    seconds = getattr(error, "retry_after", None)
    if seconds is None and isinstance(error, PbxRetriable):
        seconds = RETRY_AFTER_SECONDS
    if seconds is not None:
        response.headers["Retry-After"] = str(seconds)
    return response
