"""Errors and results as HTTP answers: the only place that turns one into the other."""

from __future__ import annotations

import json
import logging
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import azure.functions as func

from shared.errors import (
    BridgeError,
    BudgetExhausted,
    ConfigError,
    Conflict,
    Invalid,
    NotFound,
    Refused,
    StorageUnavailable,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

logger = logging.getLogger(__name__)

PROBLEM = "application/problem+json"


_UNKNOWN = "Something went wrong here; the log has the details"
_ANSWERS: tuple[tuple[type[BridgeError], HTTPStatus, str], ...] = (
    (NotFound, HTTPStatus.NOT_FOUND, "There is no such thing here"),
    (StorageUnavailable, HTTPStatus.SERVICE_UNAVAILABLE, "Storage is out of reach; send it again"),
    (Conflict, HTTPStatus.SERVICE_UNAVAILABLE, "Too many changes at once; send it again"),
    (BudgetExhausted, HTTPStatus.TOO_MANY_REQUESTS, "The PBX's calls for this minute are used up"),
    (ConfigError, HTTPStatus.INTERNAL_SERVER_ERROR, "The app's settings are not complete; its log says which"),
)


def as_json(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> func.HttpResponse:
    """A JSON answer."""
    text = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    return func.HttpResponse(text, status_code=status, headers=dict(headers or {}), mimetype="application/json")


def problem(
    status: int, title: str, *, fields: Mapping[str, str] | None = None, retry_after: int | None = None
) -> func.HttpResponse:
    """An `application/problem+json` answer with a fixed text, and the reason for each field that does not fit."""
    body: dict[str, Any] = {"type": "about:blank", "title": title, "status": status}
    if fields:
        body["errors"] = [{"path": path, "reason": reason} for path, reason in fields.items()]
    headers = {"Retry-After": str(retry_after)} if retry_after is not None else {}
    return func.HttpResponse(json.dumps(body), status_code=status, headers=headers, mimetype=PROBLEM)


def answer(work: Callable[[], func.HttpResponse]) -> func.HttpResponse:
    """What `work` answers, or the answer that its error means."""
    try:
        return work()
    except BridgeError as error:
        return _of(error)


def _of(error: BridgeError) -> func.HttpResponse:
    fields = {field.path: field.reason for field in error.fields} if isinstance(error, Invalid) else None
    if isinstance(error, Refused):
        return problem(error.status, error.title, fields=fields)
    status, title = next(
        (row[1:] for row in _ANSWERS if isinstance(error, row[0])), (HTTPStatus.INTERNAL_SERVER_ERROR, _UNKNOWN)
    )
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        logger.error("%s", type(error).__name__, exc_info=error)
    return problem(status, title, retry_after=getattr(error, "retry_after", None))
