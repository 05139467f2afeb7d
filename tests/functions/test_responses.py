"""Each error has one row with its status, title and remedy over HTTP."""

from __future__ import annotations

import json
from typing import Any

import azure.functions as func
import pytest

from functions.responses import PROBLEM, answer, problem, refusal
from shared import errors
from shared.errors import NO_LENGTH, Answer, BridgeError, Invalid, PbxError, Refused, answer_to

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, BridgeError)]
ROWS = [row for row in vars(errors).values() if isinstance(row, Answer)]


def made(kind: type[BridgeError]) -> BridgeError:
    if issubclass(kind, PbxError):
        return kind("Dial", "the PBX's words")
    return kind(7) if kind is errors.BudgetExhausted else kind("inside")


RAISED = [
    *(made(kind) for kind in KINDS if not issubclass(kind, Refused)),
    *(Refused(row, "inside", retry_after=7 if row.status in (429, 503) else None) for row in ROWS),
    Invalid({"limit": "1 to 1000 is expected"}),
]
every_error = pytest.mark.parametrize(
    "error", RAISED, ids=lambda error: f"{type(error).__name__} {answer_to(error).title}"
)


def raising(error: BridgeError) -> Any:
    def work() -> func.HttpResponse:
        raise error

    return work


@every_error
def test_every_error_has_an_answer_in_both_forms(error: BridgeError) -> None:
    row = answer_to(error)
    assert 400 <= row.status <= 599
    plain, wrapped = answer(raising(error), problem), answer(raising(error), refusal)
    assert plain.status_code == wrapped.status_code == row.status
    later = plain.headers.get("Retry-After")
    assert later == wrapped.headers.get("Retry-After")
    assert row.status not in (429, 503) if later is None else row.status >= 429
    if row is NO_LENGTH:
        assert plain.mimetype == wrapped.mimetype == "text/plain"
        assert row.remedy in plain.get_body().decode()
        return
    plainly, envelope = json.loads(plain.get_body()), json.loads(wrapped.get_body())
    assert (plain.mimetype, plainly["title"], plainly["status"]) == (PROBLEM, row.title, row.status)
    assert (envelope["status"], envelope["statusCode"], envelope["data"]) == ("error", row.status, None)
    assert envelope["message"].startswith(row.title)
    assert plainly["detail"]
    assert plainly["detail"] in envelope["message"] or "errors" in plainly
    assert "inside" not in plain.get_body().decode() + wrapped.get_body().decode()
    # The text has the problem, and then the remedy.
    assert row.remedy or isinstance(error, PbxError)
    assert all(text[0].isupper() and not text.endswith(".") for text in (row.title, row.remedy) if text)
