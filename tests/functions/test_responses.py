"""Each error over HTTP: one row says its status, what happened and what to do."""

from __future__ import annotations

import json
from typing import Any

import azure.functions as func
import pytest

from functions.responses import PROBLEM, answer, problem, refusal
from shared import errors
from shared.errors import ANSWERS, BridgeError, Invalid, LengthRequired, PbxError, answer_to

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, BridgeError)]
IDS = [kind.__name__ for kind in KINDS]


def made(kind: type[BridgeError]) -> BridgeError:
    if issubclass(kind, PbxError):
        return kind("Dial", "the PBX's words")
    if kind is Invalid:
        return Invalid({"limit": "1 to 1000 is expected"})
    arguments: dict[type[BridgeError], Any] = {errors.DialLimit: 7, errors.BudgetExhausted: 7}
    return kind(arguments.get(kind, "inside"))


def raising(error: BridgeError) -> Any:
    def work() -> func.HttpResponse:
        raise error

    return work


@pytest.mark.parametrize("kind", KINDS, ids=IDS)
def test_every_error_has_an_answer_in_both_forms(kind: type[BridgeError]) -> None:
    row, error = answer_to(kind), made(kind)
    plain, wrapped = answer(raising(error), problem), answer(raising(error), refusal)
    assert plain.status_code == wrapped.status_code == row.status
    assert plain.headers.get("Retry-After") == wrapped.headers.get("Retry-After")
    if kind is LengthRequired:
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


@pytest.mark.parametrize("kind", ANSWERS, ids=lambda kind: kind.__name__)
def test_words_say_what_happened_and_then_what_to_do(kind: type[BridgeError]) -> None:
    row = ANSWERS[kind]
    assert 400 <= row.status <= 599
    for text in filter(None, (row.title, row.remedy)):
        assert text[0].isupper()
        assert not text.endswith(".")
    assert row.remedy or issubclass(kind, PbxError)


@pytest.mark.parametrize("kind", KINDS, ids=IDS)
def test_who_should_come_again_hears_when(kind: type[BridgeError]) -> None:
    later = answer(raising(made(kind))).headers.get("Retry-After")
    assert later is not None or answer_to(kind).status not in (429, 503)
    assert later is None or answer_to(kind).status >= 429
