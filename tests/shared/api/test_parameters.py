"""Inputs are read exactly or refused with the field and the reason."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from shared.api.operations import ACTIONS
from shared.api.parameters import Request, check, rule
from shared.errors import Invalid, Refused
from shared.identifiers import LARGEST_ID
from shared.pbx.operations import OPERATIONS, operation

if TYPE_CHECKING:
    from shared.pbx.operations import Operation

CALLS = operation("GetCallHistory")
DIAL = operation("Dial")
NOON = datetime(2018, 4, 25, 13, 54, 19, tzinfo=UTC)


def dial(**body: Any) -> Request:
    return Request(body=json.dumps({"destination": "27771153", "contactID": 966} | body).encode())


def reasons(row: Operation, given: Request) -> dict[str, str]:
    with pytest.raises(Invalid) as refusal:
        check(row, given)
    return dict(refusal.value.fields)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("+37127771153", "+37127771153"),
        ("+371 27 77-11.53", "+37127771153"),
        ("\u202a+371\u00a027771153\u202c", "+37127771153"),
        ("tel:+371-2777-1153", "+37127771153"),
        ("12", None),
        ("1234567890123456", None),
        ("anonymous", None),
        ("٢٧٧٧١١٥٣", "27771153"),
        ("27771153\n", "27771153"),
        ("2777\n1153", None),
    ],
    ids=lambda value: repr(value)[:24],
)
def test_a_number_is_three_to_fifteen_digits_however_it_is_spelled(text: str, value: str | None) -> None:
    given = Request(query={"destination": text})
    if value is None:
        assert "phone number" in reasons(CALLS, given)["destination"]
    else:
        assert check(CALLS, given) == {"destination": value}


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("call_id", str(LARGEST_ID), LARGEST_ID),
        ("call_id", "0", None),
        ("call_id", str(LARGEST_ID + 1), None),
        ("call_id", "1.0", 1),
        ("call_id", " 0012 ", 12),
        ("call_id", "1.5", None),
        ("offset", "1.0", None),
        ("call_id", "abc", None),
        ("call_id", "١٢", None),
        ("initial_call_id", "0", 0),
        ("limit", "1000", 1000),
        ("limit", "0", None),
        ("limit", "1001", None),
        ("offset", "-1", None),
    ],
)
def test_whole_numbers_are_exact_and_within_bounds(name: str, text: str, value: int | None) -> None:
    if value is None:
        assert "expected" in reasons(CALLS, Request(query={name: text}))[name]
    else:
        assert check(CALLS, Request(query={name: text})) == {name: value}


@pytest.mark.parametrize(
    "text",
    [
        "2018-04-25T13:54:19+0000",
        "2018-04-25T13:54:19Z",
        "2018-04-25T13:54:19.000000+0000",
        "2018-04-25T16:54:19+0300",
        "2018-04-25T16:54:19 0300",
        "2018-04-25 13:54:19",
        "2018-04-25T13:54:19",
    ],
)
def test_a_time_comes_in_every_format_of_the_wire(text: str) -> None:
    assert check(CALLS, Request(query={"date_from": text})) == {"date_from": NOON}


@pytest.mark.parametrize("text", ["0424-06-19T06:37:15Z", "0001-01-01T00:00:00Z", "1600-02-29", "1601-01-01"])
def test_a_bound_of_long_ago_lets_all_through(text: str) -> None:
    assert check(CALLS, Request(query={"date_from": text}))["date_from"].year in range(1601, 1605)


@pytest.mark.parametrize("text", ["yesterday", "2018-13-01T00:00:00Z", "25.04.2018", "1524664459"])
def test_what_is_no_time_is_refused(text: str) -> None:
    assert "date" in reasons(CALLS, Request(query={"date_to": text}))["date_to"]


def test_every_wrong_field_is_named_at_once_and_no_value_is_repeated() -> None:
    wrong = reasons(CALLS, Request(query={"direction": "sideways", "limit": "many", "source": "secret", "offset": "1"}))
    assert wrong.keys() == {"direction", "limit", "source"}
    assert not any(value in reason for reason in wrong.values() for value in ("sideways", "many", "secret"))


@pytest.mark.parametrize("name", [parameter.name for parameter in CALLS.parameters if parameter.default is None])
def test_an_empty_filter_is_not_no_filter(name: str) -> None:
    assert reasons(CALLS, Request(query={name: ""})) == {name: "it is empty"}


@pytest.mark.parametrize("row", [row for row in OPERATIONS if row.path.startswith("trigger/")], ids=lambda row: row.id)
def test_an_empty_state_is_none(row: Operation) -> None:
    (state,) = [parameter.name for parameter in row.parameters if parameter.default is not None]
    assert check(row, Request(query={state: ""})) == {}
    assert state in reasons(row, Request(query={state: " "}))


@pytest.mark.parametrize("row", [row for row in OPERATIONS if row.path.endswith("_id}")], ids=lambda row: row.id)
@pytest.mark.parametrize("text", ["abc", "0"])
def test_every_id_in_a_path_is_checked(row: Operation, text: str) -> None:
    (parameter,) = row.parameters
    assert parameter.name in reasons(row, Request(path={parameter.name: text}))


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"destination": None}, "destination"),
        ({"destination": 27771153}, "destination"),
        ({"destination": ["27771153"]}, "destination"),
        ({"contactID": None}, "contactID"),
        ({"contactID": "anna"}, "contactID"),
        ({"contactID": "966,967"}, "contactID"),
        ({"contactID": ""}, "contactID"),
        ({"contactID": True}, "contactID"),
        ({"contactID": 1.5}, "contactID"),
        ({"contactID": {}}, "contactID"),
        ({"contactID": LARGEST_ID + 1}, "contactID"),
    ],
    ids=str,
)
def test_a_body_is_checked_field_by_field(body: dict[str, Any], field: str) -> None:
    assert reasons(DIAL, dial(**body)).keys() == {field}


def test_a_body_keeps_large_ids_exact() -> None:
    assert check(DIAL, dial(contactID=LARGEST_ID)) == {"destination": "27771153", "contactID": LARGEST_ID}


@pytest.mark.parametrize("written", [966, "966", " 966 ", 966.0, "00966"], ids=repr)
def test_an_id_in_a_body_may_be_a_text(written: Any) -> None:
    assert check(DIAL, dial(contactID=written)) == {"destination": "27771153", "contactID": 966}


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"", Refused),
        (b"\xff", Refused),
        (b'{"contactID": NaN}', Refused),
        (b"[" * 100_000, Refused),
        (b"[" * 60_000, Refused),
        (b"[]", Invalid),
        (b'"text"', Invalid),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_body_that_is_no_object_is_refused(body: bytes, error: type[Exception]) -> None:
    with pytest.raises(error):
        check(DIAL, Request(body=body))


def test_every_parameter_of_an_action_follows_a_rule() -> None:
    for row in ACTIONS:
        for parameter in row.parameters:
            assert (
                parameter.choices or parameter.type == "date-time" or rule(parameter).pattern or rule(parameter).maximum
            )


@pytest.mark.parametrize("name", ["numbr", "status", "Limit", "from_date"])
def test_a_parameter_that_is_not_known_is_named_with_those_that_are(name: str) -> None:
    with pytest.raises(Invalid) as refused:
        check(operation("GetCallHistory"), Request(query={name: "1", "code": "key", "clientId": "flows", "limit": "5"}))
    assert refused.value.fields.keys() == {name}
    assert "destination" in refused.value.fields[name]
