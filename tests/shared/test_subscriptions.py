"""Subscriptions are made once, ended once, and limited in number, also with concurrent requests."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from dev.counting import counted
from shared import subscriptions as module
from shared.errors import NotFound, Refused
from shared.settings import Settings
from shared.storage.account import Storage
from shared.subscriptions import (
    OVERLAP_SECONDS,
    STALE_SECONDS,
    Subscription,
    Subscriptions,
    new_secret,
    public_id,
    sign,
)


@pytest.fixture
def known(storage: Storage) -> Subscriptions:
    storage.ready()
    return Subscriptions(storage)


def requested(endpoint: str = "https://8.8.8.8/hook", **changes: Any) -> Subscription:
    return replace(Subscription.new(event="CallStarted", endpoint=endpoint), **changes)


def signing(one: Subscription, moment: float, *wanted: str) -> bool:
    """Return True if these secrets sign at a moment, and no others."""
    made = one.signed("id", int(moment), b"body")["webhook-signature"].split()
    return made == [sign(secret, "id", int(moment), b"body") for secret in wanted]


def test_a_subscription_comes_back_as_it_was_made(known: Subscriptions) -> None:
    asked = requested(wanted={"direction": "in", "contact_id": 2**62}, shape="cloudevents")
    assert known.make(asked) == asked
    assert known.get(asked.id) == asked
    assert asked.endpoint not in repr(asked)
    assert asked.secrets[0][0] not in repr(asked)


def test_the_same_request_finds_the_same_subscription(known: Subscriptions) -> None:
    first = known.make(requested())
    assert known.make(requested()) == first
    others = [{"event": "CallCompleted"}, {"shape": "cloudevents"}, {"wanted": {"direction": "in"}}]
    made = [known.make(requested(**change)) for change in others] + [known.make(requested("https://8.8.8.8/b"))]
    assert len({one.id for one in [first, *made]}) == 5


def test_an_end_is_an_end_however_often(known: Subscriptions) -> None:
    made = known.make(requested())
    assert known.end(made.id)
    assert not known.end(made.id)
    assert known.get(made.id) is None
    again = known.make(requested())
    assert again.id != made.id


def test_many_instances_at_once_make_one_subscription_of_one_request(settings: Settings, known: Subscriptions) -> None:
    instances = [Subscriptions(Storage(settings.storage)) for _ in range(6)]
    with ThreadPoolExecutor(6) as pool:
        made = list(pool.map(lambda one: one.make(requested()).id, instances))
    assert len(set(made)) == 1
    assert len(tuple(known.all())) == 1


def test_the_limit_of_subscriptions_is_kept(known: Subscriptions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 2)
    known.make(requested("https://8.8.8.8/first"))
    last = known.make(requested())
    with pytest.raises(Refused, match="Limit of 200"):
        known.make(requested("https://8.8.8.8/more"))
    assert known.make(requested()) == last
    assert known.end(last.id)
    assert known.make(requested("https://8.8.8.8/more"))


def test_others_changes_are_seen_after_two_seconds_and_own_at_once(
    settings: Settings, known: Subscriptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    moment = time.monotonic()
    monkeypatch.setattr(module.time, "monotonic", lambda: moment)
    storage = Storage(settings.storage)
    other = Subscriptions(storage)
    assert tuple(other.all()) == ()
    requests = counted(storage)
    made = known.make(requested())
    for _ in range(50):
        assert tuple(other.all()) == ()
    assert requests.count == 0
    assert other.get(made.id) == made
    moment += STALE_SECONDS
    assert tuple(other.all()) == (made,)
    other.end(made.id)
    assert tuple(other.all()) == ()


def test_a_change_while_the_list_is_read_is_not_missed(known: Subscriptions) -> None:
    with ThreadPoolExecutor(8) as pool:
        reading = [pool.submit(known.all) for _ in range(20)]
        made = list(pool.map(lambda number: known.make(requested(f"https://8.8.8.8/{number}")).id, range(8)))
        assert all(future.result() is not None for future in reading)
    assert {one.id for one in known.all()} == set(made)


def test_two_secrets_sign_for_a_day_after_a_rotation(known: Subscriptions) -> None:
    made = known.make(requested())
    old, fresh = made.secrets[0][0], known.rotate(made.id)
    rotated, moment = known.get(made.id), time.time()
    assert rotated is not None
    assert signing(rotated, moment, fresh, old)
    assert signing(rotated, moment + OVERLAP_SECONDS + 1, fresh)
    newest = known.rotate(made.id)
    again = known.get(made.id)
    assert again is not None
    assert signing(again, moment, newest, fresh)
    with pytest.raises(NotFound):
        known.rotate("sub-nobody")


def test_the_same_request_with_another_secret_takes_it_beside_the_old(known: Subscriptions) -> None:
    made = known.make(requested())
    fresh = new_secret()
    for _ in range(2):
        changed = known.make(requested(), fresh)
        assert (changed.id, changed.secrets[0][0]) == (made.id, fresh)
    assert signing(changed, time.time(), fresh, made.secrets[0][0])


def test_the_right_to_end_it_is_128_random_bits_and_its_id_says_nothing_of_it() -> None:
    made = [requested() for _ in range(50)]
    assert len({one.capability for one in made}) == len({one.id for one in made}) == 50
    assert all(len(bytes.fromhex(one.capability)) == 16 for one in made)
    assert all(public_id(one.capability) == one.id and one.capability not in repr(one) for one in made)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("https://example.org/Hook?a=B", "HTTPS://EXAMPLE.org/Hook?a=B"),
        ("https://example.org/h", "https://example.org:443/h"),
        ("https://example.org", "https://example.org/"),
        ("https://example.org?a=1", "https://example.org/?a=1"),
        ("https://[2001:4860:4860::8888]/b", "HTTPS://[2001:4860:4860::8888]:443/b#"),
    ],
)
def test_spellings_of_one_address_are_one_subscription(one: str, other: str, known: Subscriptions) -> None:
    first = known.make(requested(one))
    assert known.make(requested(other)) == first
    assert [found.endpoint for found in known.of_address(other)[0]] == [one]


@pytest.mark.parametrize(
    "other",
    [
        "https://example.org/hook",
        "https://example.org:8443/Hook",
        "https://example.org/%48ook",
        "https://example.org/Hook%2f",
        "http://example.org/Hook",
        "garbage",
        "https://[::1",
    ],
)
def test_other_addresses_are_others(other: str, known: Subscriptions) -> None:
    first = known.make(requested("https://example.org/Hook"))
    assert known.of_address(other) == ([], [])
    assert known.make(requested(other)).id != first.id


def test_a_secret_is_shown_until_its_first_answer(known: Subscriptions) -> None:
    made = known.make(requested())
    again = known.make(requested())
    assert (again.shown, again.secrets) == (False, made.secrets)
    known.change(made.id, lambda one: replace(one, shown=True))
    assert known.make(requested()).shown
    assert known.make(requested(), made.secrets[0][0]).shown
