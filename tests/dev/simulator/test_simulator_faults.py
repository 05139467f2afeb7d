"""Faults act where and as often as their rule says."""

from __future__ import annotations

import time
from typing import Any

import pytest
import requests


def test_a_rule_acts_so_many_times_after_so_many_and_counts(pbx: Any, client: Any) -> None:
    rule = pbx.faults.add("status", "Get*", status=429, retry_after="2", times=2, after=1)
    answers = [client.get("trigger/contacts") for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 429, 429, 200]
    assert answers[1].headers["Retry-After"] == "2"
    assert rule.hits == 2


@pytest.mark.parametrize("kind", ["html", "cut", "empty"])
def test_an_answer_that_is_not_json(pbx: Any, client: Any, kind: str) -> None:
    pbx.faults.add(kind, status=200)
    with pytest.raises(requests.JSONDecodeError):
        client.get("trigger/contacts").json()


@pytest.mark.parametrize("kind", ["reset", "truncated"])
def test_a_connection_that_breaks(pbx: Any, client: Any, kind: str) -> None:
    pbx.bulk("contacts", 100)
    pbx.faults.add(kind, times=1)
    with pytest.raises(requests.RequestException):
        client.get("trigger/contacts")
    assert client.get("trigger/contacts").status_code == 200


def test_a_slow_answer(pbx: Any, client: Any) -> None:
    pbx.faults.add("slow", delay=0.2)
    began = time.monotonic()
    assert client.get("trigger/contacts").status_code == 200
    assert time.monotonic() - began >= 0.2


@pytest.mark.parametrize(("before", "rings"), [(True, 0), (False, 1)], ids=["request lost", "answer lost"])
def test_a_reset_before_or_after_the_effect(pbx: Any, client: Any, before: bool, rings: int) -> None:
    anna = pbx.add_contact("Anna")
    pbx.faults.add("reset", "Dial", before=before)
    with pytest.raises(requests.ConnectionError):
        client.post("dial", {"destination": "27771153", "contactID": anna})
    assert len(pbx.rang) == rings
