"""Errors and results as HTTP answers: the only place that turns one into the other."""

from __future__ import annotations

import json
import logging
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import azure.functions as func

from shared.api.envelopes import refused
from shared.errors import (
    RETRY_AFTER_SECONDS,
    BridgeError,
    BudgetExhausted,
    ConfigError,
    Conflict,
    DialInProgress,
    DialUncertain,
    Invalid,
    KeyReused,
    NotFound,
    PbxForbidden,
    PbxNotFound,
    PbxNotUnderstood,
    PbxRefused,
    PbxRetriable,
    PbxThrottled,
    PbxUnavailable,
    Refused,
    StorageUnavailable,
    TooManySubscriptions,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

logger = logging.getLogger(__name__)

PROBLEM = "application/problem+json"
# The reference page's words for the PBX's own answers.
_NO_ITEMS = (
    "There are no items found based on the request. "
    "Please make sure that items exist and check the filter fields if they're filled correctly."
)
_UNKNOWN = HTTPStatus.INTERNAL_SERVER_ERROR, "Something went wrong here; the log has the details"
_ANSWERS: tuple[tuple[type[BridgeError], HTTPStatus, str], ...] = (
    (NotFound, HTTPStatus.NOT_FOUND, "There is no such thing here"),
    (DialUncertain, HTTPStatus.CONFLICT, "It is not known whether this call rang; it is not rung again"),
    (KeyReused, HTTPStatus.CONFLICT, "This Idempotency-Key was used for another call; take a new one"),
    (TooManySubscriptions, HTTPStatus.CONFLICT, "There are 200 subscriptions already; end one first"),
    (DialInProgress, HTTPStatus.SERVICE_UNAVAILABLE, "This call is being asked for already; send it again"),
    (StorageUnavailable, HTTPStatus.SERVICE_UNAVAILABLE, "Storage is out of reach; send it again"),
    (Conflict, HTTPStatus.SERVICE_UNAVAILABLE, "Too many changes at once; send it again"),
    (BudgetExhausted, HTTPStatus.TOO_MANY_REQUESTS, "The PBX's calls for this minute are used up"),
    (PbxNotFound, HTTPStatus.NOT_FOUND, _NO_ITEMS),
    (PbxForbidden, HTTPStatus.FORBIDDEN, "Forbidden"),
    (PbxRefused, HTTPStatus.UNPROCESSABLE_ENTITY, "Please check if the filter values are filled out correctly"),
    (PbxThrottled, HTTPStatus.TOO_MANY_REQUESTS, "The PBX has had too many calls; ask again later"),
    (PbxUnavailable, HTTPStatus.SERVICE_UNAVAILABLE, "The PBX is out of reach; ask again later"),
    (PbxNotUnderstood, HTTPStatus.BAD_GATEWAY, "The PBX's answer could not be understood"),
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
    return func.HttpResponse(json.dumps(body), status_code=status, headers=_later(retry_after), mimetype=PROBLEM)


def refusal(
    status: int, title: str, *, fields: Mapping[str, str] | None = None, retry_after: int | None = None
) -> func.HttpResponse:
    """The same in the PBX's envelope, with the reasons in `message` too: flows show that."""
    reasons = "; ".join(f"{path}: {reason}" for path, reason in (fields or {}).items())
    message = f"{title}: {reasons}" if reasons else title
    return as_json(refused(status, message, fields), status=status, headers=_later(retry_after))


def answer(
    work: Callable[[], func.HttpResponse], render: Callable[..., func.HttpResponse] = problem
) -> func.HttpResponse:
    """What `work` answers, or the answer that its error means; `render` is problem, or refusal under /api/v2."""
    try:
        return work()
    except BridgeError as error:
        return _of(error, render)


def _of(error: BridgeError, render: Callable[..., func.HttpResponse]) -> func.HttpResponse:
    fields = {field.path: field.reason for field in error.fields} if isinstance(error, Invalid) else None
    if isinstance(error, Refused):
        return render(error.status, error.title, fields=fields)
    status, title = next((row[1:] for row in _ANSWERS if isinstance(error, row[0])), _UNKNOWN)
    if isinstance(error, (PbxForbidden, PbxRefused)):
        title = f"{title}: {error.remedy}"
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        logger.error("%s", type(error).__name__, exc_info=error)
    return render(status, title, retry_after=_seconds(error))


def _seconds(error: BridgeError) -> int | None:
    asked = getattr(error, "retry_after", None)
    return RETRY_AFTER_SECONDS if asked is None and isinstance(error, PbxRetriable) else asked


def _later(seconds: int | None) -> dict[str, str]:
    return {} if seconds is None else {"Retry-After": str(seconds)}
