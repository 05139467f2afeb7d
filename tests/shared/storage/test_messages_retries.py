"""Transient failures wait, hopeless messages are set aside at once, and unforeseen errors are tried five times."""

from __future__ import annotations

import socket
import ssl
from datetime import timedelta
from typing import Any

import pytest
import requests
import urllib3
from azure.core.exceptions import (
    HttpResponseError,
    ResourceModifiedError,
    ServiceResponseError,
)

from shared.errors import (
    BudgetExhausted,
    ConfigError,
    Conflict,
    Invalid,
    MediaRefused,
    MediaUnreachable,
    PbxForbidden,
    PbxNotUnderstood,
    PbxThrottled,
    PbxUnavailable,
    PbxUnreachable,
    StorageUnavailable,
    Unprocessable,
)
from shared.storage import messages
from shared.storage.account import Storage
from shared.storage.messages import BUDGET, CRASHES, OTHERS, STORAGE, UNFORESEEN, Crashed, decide, handle_failure
from shared.times import iso, now
from tests.breaking import break_connections
from tests.outbox import outbox

QUEUE = "events"


def answered(status: int, kind: type[HttpResponseError] = HttpResponseError) -> HttpResponseError:
    error = kind("no")
    error.status_code = status
    return error


OURS = (
    *(StorageUnavailable("x"), Conflict("x"), ServiceResponseError("x"), HttpResponseError("broke off")),
    *(answered(409), answered(412, ResourceModifiedError)),
)
THEIRS = (
    *(PbxUnavailable("op", "x"), PbxUnreachable("op", "x"), PbxThrottled("op", "x"), PbxForbidden("op", "x")),
    *(PbxNotUnderstood("op", "x"), MediaUnreachable("x"), ConfigError("x")),
    *(ConnectionResetError(), TimeoutError(), socket.gaierror(-2, "unknown name"), ssl.SSLCertVerificationError("x")),
    *(requests.exceptions.SSLError("x"), requests.ConnectionError("x"), requests.Timeout("x")),
    *(requests.exceptions.ChunkedEncodingError("x"), urllib3.exceptions.ProtocolError("x")),
)
HOPELESS = (Unprocessable("x"), Invalid({"data.id": "wrong"}), MediaRefused("not https"))
BUGS = (KeyError("+37126123456"), TypeError("x"), RecursionError(), FileNotFoundError("x"), answered(400))


@pytest.mark.parametrize(
    ("error", "policy"),
    [
        *((error, STORAGE) for error in OURS),
        *((error, OTHERS) for error in THEIRS),
        (BudgetExhausted(), BUDGET),
        (Crashed(), CRASHES),
        *((error, None) for error in HOPELESS),
        *((error, UNFORESEEN) for error in BUGS),
    ],
    ids=lambda value: f"{type(value).__name__} {getattr(value, 'status_code', '')}" if value else "hopeless",
)
def test_each_error_means_one_thing(error: Exception, policy: Any) -> None:
    assert decide(error).policy is policy


@pytest.mark.parametrize(
    ("errors", "policy"),
    [
        ([Unprocessable("x"), KeyError("x"), StorageUnavailable("x")], STORAGE),
        ([KeyError("x"), PbxUnavailable("op", "x")], OTHERS),
        ([Unprocessable("x"), KeyError("x")], UNFORESEEN),
        ([Unprocessable("x")], None),
    ],
)
def test_of_several_errors_the_one_worth_waiting_for_counts(errors: list[Exception], policy: Any) -> None:
    assert decide(ExceptionGroup("steps", errors)).policy is policy


def test_a_reason_names_type_and_place_and_never_a_value() -> None:
    def fail() -> None:
        raise KeyError("+37126123456")

    try:
        fail()
    except KeyError as error:
        reason = decide(error).reason
    line = fail.__code__.co_firstlineno + 1
    assert reason == f"KeyError at tests/shared/storage/test_messages_retries.py:{line}"


def test_each_wait_is_longer_than_the_one_before_up_to_the_longest() -> None:
    for policy, longest in ((STORAGE, 60), (BUDGET, 300), (OTHERS, 3600)):
        assert list(policy.waits) == sorted(set(policy.waits))
        assert policy.waits[-1] == longest
        assert all(longest * (1 - messages.JITTER) <= policy.wait(tries) <= longest for tries in (50, 10_000))


class Failures:
    """Messages that failed one after another, and their results."""

    def __init__(self, storage: Storage) -> None:
        storage.ready()
        self.storage = storage
        self.sent = outbox(storage)
        self.dead_letters: list[tuple[str, int]] = []

    def fail(self, message: dict[str, Any], error: Exception) -> tuple[int, dict[str, Any]] | None:
        """The delay and message that were put back, or None for a dead letter."""
        handle_failure(
            self.storage, QUEUE, message, error, lambda reason, tries: self.dead_letters.append((reason, tries))
        )
        taken = self.sent.take(QUEUE)
        return (taken[0].delay, taken[0].message) if taken else None


@pytest.fixture
def failures(storage: Storage) -> Failures:
    return Failures(storage)


def test_a_retried_message_keeps_its_attempts_first_time_and_mark(failures: Failures) -> None:
    message: dict[str, Any] = {"id": "a", "mark": "t", "sent": iso(now())}
    again = message
    for tries in range(1, 30):
        found = failures.fail(again, StorageUnavailable("x"))
        assert found is not None
        delay, again = found
        assert 1 <= delay <= 60
        assert again == message | {"begun": True, "tries": {"storage": tries}}
    assert delay >= 48
    assert not failures.dead_letters


def test_waits_of_one_kind_do_not_lengthen_those_of_another(failures: Failures) -> None:
    found = failures.fail({"id": "a", "tries": {"others": 9}}, StorageUnavailable("x"))
    assert found is not None and found[0] == 1 and found[1]["tries"] == {"others": 9, "storage": 1}


def test_the_other_side_may_ask_for_a_longer_wait_up_to_an_hour(failures: Failures) -> None:
    for asked, most in ((200, 200), (10**6, 3600)):
        found = failures.fail({"id": "a"}, PbxThrottled("op", "x", retry_after=asked))
        assert found is not None and found[0] == most


def test_the_unforeseen_is_tried_five_times_over_an_hour(failures: Failures) -> None:
    found, waited, tried = failures.fail({"id": "a"}, KeyError("x")), 0, 1
    while found is not None:
        waited, tried = waited + found[0], tried + 1
        found = failures.fail(found[1], KeyError("x"))
    assert (tried, failures.dead_letters) == (5, [("KeyError at an unknown place", 5)])
    assert 2400 < waited <= 3600


@pytest.mark.parametrize("drift", [timedelta(minutes=-10), timedelta(), timedelta(minutes=10)], ids=str)
def test_waiting_messages_are_given_up_after_two_weeks_by_any_clock(failures: Failures, drift: timedelta) -> None:
    def sent(age: timedelta) -> dict[str, Any]:
        return {"id": "a", "sent": iso(now() - age + drift), "tries": {"storage": 20_000}}

    assert failures.fail(sent(timedelta()), StorageUnavailable("x")) is not None
    assert failures.fail(sent(timedelta(days=13)), StorageUnavailable("x")) is not None
    assert failures.fail(sent(timedelta(days=15)), StorageUnavailable("x")) is None
    assert failures.dead_letters == [("for 14 days: StorageUnavailable", 20_001)]


def test_fields_of_a_message_are_not_trusted(failures: Failures) -> None:
    for tries in ("many", [1], {"storage": "x"}, None):
        found = failures.fail({"id": "a", "tries": tries, "sent": 5}, StorageUnavailable("x"))
        assert found is not None and found[1]["tries"] == {"storage": 1}


def test_a_dead_letter_that_cannot_be_kept_is_put_back_or_left_to_the_queue(failures: Failures) -> None:
    def gone(reason: str, tries: int) -> None:
        raise StorageUnavailable("tables are gone")

    handle_failure(failures.storage, QUEUE, {"id": "a"}, Unprocessable("x"), gone)
    (again,) = failures.sent.take(QUEUE)
    assert again.message["tries"] == {"storage": 1}
    break_connections(failures.storage, "POST", "messages", times=99, after=False)
    with pytest.raises(StorageUnavailable):
        handle_failure(failures.storage, QUEUE, {"id": "a"}, Unprocessable("x"), gone)
