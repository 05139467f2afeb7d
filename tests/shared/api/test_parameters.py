"""Inputs are read exactly or refused with the field and the reason."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from shared.api.operations import SERVED
from shared.api.parameters import Request, check, limits
from shared.errors import BODY_TOO_LARGE, INVALID_FIELDS, INVALID_JSON, Answer, Invalid, Refused
from shared.pbx.operations import OPERATIONS, Operation, operation
from shared.values import LARGEST_ID

CALLS, DIAL = operation("GetCallHistory"), operation("Dial")


def dial(**body: Any) -> Request:
    return Request(body=json.dumps({"destination": "27771153", "contactID": 966} | body).encode())


def reasons(row: Operation, given: Request) -> dict[str, str]:
    with pytest.raises(Invalid) as refusal:
        check(row, given)
    return dict(refusal.value.fields)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("destination", "+371 27 77-11.53", "+37127771153"),
        ("destination", "\u202a+371\u00a027771153\u202c", "+37127771153"),
        ("destination", "tel:+371-2777-1153", "+37127771153"),
        ("destination", "٢٧٧٧١١٥٣", "27771153"),
        ("destination", "27771153\n", "27771153"),
        ("call_id", str(LARGEST_ID), LARGEST_ID),
        ("call_id", "1.0", 1),
        ("call_id", " 0012 ", 12),
        ("initial_call_id", "0", 0),
        ("limit", "1000", 1000),
        ("date_from", "2018-04-25T13:54:19+0000", datetime(2018, 4, 25, 13, 54, 19, tzinfo=UTC)),
        ("date_from", "2018-04-25T16:54:19 0300", datetime(2018, 4, 25, 13, 54, 19, tzinfo=UTC)),
        ("date_from", "2018-04-25 13:54:19", datetime(2018, 4, 25, 13, 54, 19, tzinfo=UTC)),
        # A bound of long ago, or far ahead, lets all through.
        ("date_from", "0424-06-19T06:37:15Z", datetime(1604, 6, 19, 6, 37, 15, tzinfo=UTC)),
        ("date_from", "1600-02-29", datetime(1604, 2, 29, tzinfo=UTC)),
        ("date_to", "9996-02-29T00:00:00Z", datetime(8996, 2, 29, tzinfo=UTC)),
    ],
)
def test_a_value_is_exact_however_it_is_spelled(name: str, text: str, value: Any) -> None:
    assert check(CALLS, Request(query={name: text})) == {name: value}


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        *(("destination", text, "phone number") for text in ("12", "1234567890123456", "anonymous", "2777\n1153")),
        *(("call_id", text, "expected") for text in ("0", str(LARGEST_ID + 1), "1.5", "abc", "١٢")),
        *(("limit", text, "1 to 1000") for text in ("0", "1001")),
        *(("offset", text, "expected") for text in ("1.0", "-1")),
        *(("date_to", text, "date") for text in ("yesterday", "2018-13-01T00:00:00Z", "25.04.2018", "1524664459")),
        ("direction", "up", "in, out"),
        *((one.name, "", "it is empty") for one in CALLS.parameters if one.default is None),
    ],
)
def test_invalid_values_are_refused_with_the_reason(name: str, text: str, reason: str) -> None:
    assert reason in reasons(CALLS, Request(query={name: text}))[name]


def test_a_bare_date_is_its_whole_day_in_the_time_zone() -> None:
    zone, query = ZoneInfo("Europe/Riga"), {"date_from": "2026-03-29", "date_to": "2026-03-29"}
    assert check(CALLS, Request(query=query), zone=zone) == {
        "date_from": datetime(2026, 3, 28, 22, tzinfo=UTC),
        "date_to": datetime(2026, 3, 29, 20, 59, 59, 999999, tzinfo=UTC),
    }


def test_every_wrong_field_is_named_at_once_and_no_value_is_repeated() -> None:
    wrong = reasons(CALLS, Request(query={"direction": "sideways", "limit": "many", "source": "secret", "offset": "1"}))
    assert wrong.keys() == {"direction", "limit", "source"}
    assert not any(value in reason for reason in wrong.values() for value in ("sideways", "many", "secret"))


@pytest.mark.parametrize("row", OPERATIONS, ids=lambda row: row.id)
def test_an_empty_state_is_none_and_an_id_in_a_path_is_checked(row: Operation) -> None:
    for one in row.parameters:
        if one.default is not None:
            assert check(row, Request(query={one.name: ""})) == {}
            assert one.name in reasons(row, Request(query={one.name: " "}))
        elif one.where == "path" and one.type == "integer":
            assert reasons(row, Request(path={one.name: "0"})) == {one.name: f"1 to {LARGEST_ID} is expected"}


@pytest.mark.parametrize("name", ["numbr", "status", "Limit", "from_date"])
def test_a_parameter_that_is_not_known_is_named_with_those_that_are(name: str) -> None:
    wrong = reasons(CALLS, Request(query={name: "1", "code": "key", "clientId": "flows", "limit": "5"}))
    assert wrong.keys() == {name}
    assert "destination" in wrong[name]


@pytest.mark.parametrize("written", [LARGEST_ID, 966, "966", " 966 ", 966.0, "00966"], ids=repr)
def test_an_id_in_a_body_is_exact_and_may_be_a_text(written: Any) -> None:
    assert check(DIAL, dial(contactID=written)) == {"destination": "27771153", "contactID": int(written)}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("contactID", value) for value in (None, "anna", "966,967", "", True, 1.5, {}, -1, LARGEST_ID + 1)),
        *(("destination", value) for value in (None, 27771153, ["27771153"])),
    ],
)
def test_an_id_in_a_body_is_a_whole_number_and_a_phone_number_is_a_text(name: str, value: Any) -> None:
    assert reasons(DIAL, dial(**{name: value})).keys() == {name}


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        (b"", INVALID_JSON),
        (b"\xff", INVALID_JSON),
        (b'{"contactID": NaN}', INVALID_JSON),
        (b"[" * 60_000, INVALID_JSON),
        (b"[" * 100_000, BODY_TOO_LARGE),
        (b"[]", INVALID_FIELDS),
        (b'"text"', INVALID_FIELDS),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_body_must_be_an_object(body: bytes, answer: Answer) -> None:
    with pytest.raises(Refused) as refused:
        check(DIAL, Request(body=body))
    assert refused.value.answer is answer


def test_every_parameter_follows_a_rule() -> None:
    for one in (one for row in SERVED for one in row.parameters):
        assert one.choices or one.type == "date-time" or limits(one)
