"""Answers of the PBX: success, failure, no data, and answers that are not the PBX's."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import (
    PbxError,
    PbxForbidden,
    PbxNotFound,
    PbxNotUnderstood,
    PbxRefused,
    PbxThrottled,
    PbxUnavailable,
)
from shared.pbx.client import content, parse, webhook_id
from shared.pbx.operations import operation

LARGEST_ID = 2**63 - 1
KEY, NUMBER = "OnYSrLTH3i2qiyb873au2LNdAajXjf5I", "+37127771153"
LIST, ITEM, DIAL, SUBSCRIBE = map(operation, ("GetContacts", "GetContactsByID", "Dial", "Subscribe"))
ANNA = {"contactID": 1}


def wrapped(data: Any = None, **changes: Any) -> bytes:
    wrapper = {"version": "v2", "status": "success", "statusCode": 200, "message": "OK", "data": data} | changes
    return json.dumps(wrapper).encode()


FAILURES = [
    (403, PbxForbidden),
    (404, PbxNotFound),
    (422, PbxRefused),
    (429, PbxThrottled),
    (500, PbxUnavailable),
    (302, PbxNotUnderstood),
    (1017, PbxRefused),
]


@pytest.mark.parametrize("row", [LIST, DIAL], ids=lambda row: row.id)
@pytest.mark.parametrize(("status", "error"), FAILURES)
def test_a_status_means_the_same_on_http_and_in_the_body(status: int, error: type[PbxError], row: Any) -> None:
    body = wrapped(status="error", statusCode=status)
    for http in (200, status) if status < 600 else (200,):
        with pytest.raises(error) as caught:
            parse(row, http, {}, body)
        assert caught.value.operation == row.id


def test_the_worse_of_two_statuses_counts() -> None:
    for http, inside, error in ((404, 200, PbxNotFound), (200, "403", PbxForbidden), (404, 500, PbxUnavailable)):
        with pytest.raises(error):
            parse(ITEM, http, {}, wrapped(ANNA, statusCode=inside))


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"status": "error"}, PbxRefused),
        ({"status": "Employee is busy"}, PbxRefused),
        ({"success": False}, PbxRefused),
        ({"error": "Employee is busy"}, PbxRefused),
        ({"error": {"code": 503, "message": "later"}}, PbxUnavailable),
        ({"data": {"success": False}}, PbxRefused),
        ({"data": {"error": "Employee is busy"}}, PbxRefused),
        (dict.fromkeys(("version", "status", "statusCode")), PbxNotUnderstood),
    ],
    ids=str,
)
def test_what_fails_in_its_wrapping_failed(changes: dict[str, Any], error: type[PbxError]) -> None:
    with pytest.raises(error):
        parse(DIAL, 200, {}, wrapped(**changes))


def test_an_unknown_word_beside_data_is_no_failure() -> None:
    for row, data in ((LIST, [ANNA]), (ITEM, ANNA), (DIAL, {"callID": 5, "status": 0})):
        for status in ("Izpildīts", 1, None, "warning"):
            assert parse(row, 200, {}, wrapped(data, status=status))["data"] == data
    assert parse(DIAL, 200, {}, wrapped(status="Created"))["data"] is None
    assert parse(DIAL, 204, {}, b"") == {}


@pytest.mark.parametrize("row", [LIST, ITEM], ids=lambda row: row.id)
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"<html>default backend - 404</html>",
        b'{"message":"no Route matched with those values"}',
        b'{"type":"about:blank","title":"Not Found","status":404,"detail":"x"}',
    ],
    ids=str,
)
def test_a_404_of_somebody_in_between_is_an_outage_and_not_nothing(body: bytes, row: Any) -> None:
    with pytest.raises(PbxNotUnderstood, match="PBX_BASE_URL"):
        parse(row, 404, {}, body)
    with pytest.raises(PbxNotFound):
        parse(row, 404, {}, wrapped(status="error", statusCode=404))


@pytest.mark.parametrize("data", [None, [], {}, ""], ids=repr)
def test_only_the_pbx_in_its_own_wrapping_says_that_there_is_nothing(data: Any) -> None:
    assert content(LIST, parse(LIST, 200, {}, wrapped(data))["data"]) == []
    with pytest.raises(PbxNotFound):
        parse(ITEM, 200, {}, wrapped(data))
    for missing in ("version", "status", "statusCode"):
        for row in (LIST, ITEM):
            with pytest.raises(PbxNotUnderstood):
                parse(row, 200, {}, wrapped(data, **{missing: None}))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<!doctype html>",
        b'{"statusCode":200,"data":[{"contactID":1},{"con',
        b"[]",
        b'{"statusCode":200}',
        b"[" * 9999,
    ],
    ids=["empty", "html", "cut", "bare list", "no data", "deep"],
)
def test_what_the_pbx_never_sends_is_not_understood(body: bytes) -> None:
    for row in (LIST, ITEM):
        with pytest.raises(PbxNotUnderstood):
            parse(row, 200, {}, body)


@pytest.mark.parametrize("data", [False, "none", 5, [1, 2], [[1]], {"contactID": 1}, {"detail": "?"}], ids=repr)
def test_data_of_the_wrong_kind_is_not_understood(data: Any) -> None:
    with pytest.raises(PbxNotUnderstood):
        content(LIST, data)
    if data != ANNA:
        with pytest.raises(PbxNotUnderstood):
            content(ITEM, data)


def test_gaps_and_numbered_places_make_a_list() -> None:
    assert content(LIST, [ANNA, None, {"contactID": 2}]) == [ANNA, {"contactID": 2}]
    places = {str(place): {"contactID": place} for place in (10, 2, 0)}
    assert [item["contactID"] for item in content(LIST, places)] == [0, 2, 10]


@pytest.mark.parametrize("number", ["1e999", "NaN", "-Infinity", "9" * 5000], ids=lambda number: number[:9])
def test_a_number_beyond_all_bounds_is_its_text_and_leaves_the_others(number: str) -> None:
    body = wrapped([{"contactID": 1, "x": 0}, {"contactID": 2}]).replace(b": 0}", f": {number}}}".encode())
    assert parse(LIST, 200, {}, body)["data"] == [{"contactID": 1, "x": number}, {"contactID": 2}]


def test_a_refusal_passes_the_words_on_without_numbers_and_secrets() -> None:
    message = f"limit must be at most 1000; {NUMBER} and 27 771 153 and {KEY} and call 1524664459097344 are wrong"
    with pytest.raises(PbxRefused) as caught:
        parse(LIST, 422, {}, wrapped(status="error", statusCode=422, message=message), (KEY, NUMBER))
    assert caught.value.remedy == "limit must be at most 1000; … and … and … and call … are wrong"
    with pytest.raises(PbxForbidden, match="the key has expired"):
        parse(LIST, 403, {}, wrapped(status="error", statusCode=403, message="the key has expired"))
    for message in (None, 5, {"a": 1}, "x" * 100_000):
        with pytest.raises(PbxRefused) as caught:
            parse(LIST, 422, {}, wrapped(message=message))
        assert 0 < len(caught.value.remedy) <= 300


LOCATIONS: list[tuple[str | None, Any, str | None]] = [
    ("https://pbx.example/api/v2/webhooks/4711", None, "4711"),
    ("/api/v2/webhooks/4711/", 12, "4711"),
    ("/api/v2/webhooks/CallStarted/12", None, "12"),
    ("/api/v2/webhooks/CallStarted", 4711, "4711"),
    ("/api/v2/webhooks/CallStarted", None, None),
    (None, LARGEST_ID, str(LARGEST_ID)),
    (None, "a1b2-c3", "a1b2-c3"),
    (None, {"endpoint": "http://x/webhooks/1", "webhookID": "4711"}, "4711"),
    (None, {"webhook": {"id": 4711}}, "4711"),
    (None, "Webhook 3 of 20 created", None),
    (None, [1, 2], None),
]


@pytest.mark.parametrize(("location", "data", "id"), LOCATIONS)
def test_a_webhooks_id_is_found_wherever_the_pbx_puts_it(location: str | None, data: Any, id: str | None) -> None:
    assert webhook_id(location, data) == id


@pytest.mark.parametrize(
    ("body", "headers"),
    [(b"OK", "/webhooks/171"), (b"", "/webhooks/171"), (b"171", None), (b'{"id": 171}', None), (wrapped(171), None)],
    ids=["a word", "nothing", "a number", "an object", "the PBX's"],
)
def test_a_new_webhook_is_known_by_its_id_in_any_wrapping(body: bytes, headers: str | None) -> None:
    location = {"Location": headers} if headers else {}
    wrapper = parse(SUBSCRIBE, 201, location, body)
    assert webhook_id(location.get("Location"), wrapper.get("data")) == "171"


NAMES = st.sampled_from(["version", "status", "statusCode", "error", "errors", "success", "message", "data"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(NAMES | st.text(), inner),
)


@given(VALUES, st.sampled_from([200, 404, 500]))
def test_any_answer_is_judged(value: Any, http: int) -> None:
    for row in (LIST, ITEM, DIAL, SUBSCRIBE):
        try:
            assert isinstance(parse(row, http, {}, json.dumps(value).encode()), dict)
        except PbxError:
            continue
