"""Secrets are never stored in clear, survive a rotation of keys, and are never discarded."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from cryptography.fernet import Fernet

from shared.api import subscribe as subscribing
from shared.bridge import Bridge
from shared.deliveries.drain import wake_waiting
from shared.errors import ConfigError, StorageUnavailable
from shared.settings import Settings
from shared.storage.account import Storage
from shared.subscriptions import PARTITION, TABLE, Subscription, Subscriptions, key_id, subscriptions
from shared.times import now
from tests.breaking import break_connections

ENDPOINT = "https://8.8.8.8/hook?sig=s3cret"
FIRST, SECOND = Fernet.generate_key().decode(), Fernet.generate_key().decode()


def under(storage: Storage, *keys: str) -> Subscriptions:
    return Subscriptions(storage, keys)


def make(known: Subscriptions, endpoint: str = ENDPOINT) -> Subscription:
    return known.make(Subscription.new(event="CallStarted", endpoint=endpoint))


def stored(storage: Storage) -> str:
    return json.dumps([dict(row) for row in storage.table(TABLE).list_entities()], default=str)


def test_nothing_secret_stands_in_the_table(storage: Storage) -> None:
    made = make(under(storage, FIRST))
    text = stored(storage)
    secret = made.secrets[0][0].removeprefix("whsec_")
    assert not [part for part in ("s3cret", "8.8.8.8", secret, made.capability, FIRST) if part in text]
    assert made.id in text
    assert under(storage, FIRST).get(made.id) == made


def test_a_rotation_ends_with_no_row_under_the_old_key(storage: Storage) -> None:
    made = [make(under(storage, FIRST), f"https://8.8.8.8/{number}") for number in range(5)]
    both = under(storage, SECOND, FIRST)
    assert {one.id for one in both.all()} == {one.id for one in made}
    assert both.described()["keys"] == {key_id(SECOND): 0, key_id(FIRST): 5}
    for _ in range(2):
        both.reseal()
    assert both.described() == {
        "newest": key_id(SECOND), "keys": {key_id(SECOND): 5, key_id(FIRST): 0}, "unreadable": []
    }  # fmt: skip
    alone = under(storage, SECOND)
    assert list(alone.all()) == list(both.all())
    assert make(alone, "https://8.8.8.8/0") == made[0]
    assert [one.id for one in alone.of_address("https://8.8.8.8/3")[0]] == [made[3].id]


def test_a_row_that_no_key_opens_is_reported_and_stays(storage: Storage, caplog: pytest.LogCaptureFixture) -> None:
    made = make(under(storage, FIRST))
    other = under(storage, SECOND)
    (found,) = other.all()
    assert (found.id, found.event, found.readable, found.endpoint) == (made.id, "CallStarted", False, "")
    other.reseal()
    assert [text for text in caplog.messages if text.startswith("signal subscription_unreadable")] == [
        f"signal subscription_unreadable subscription={made.id} key={key_id(FIRST)}"
    ]
    assert other.described()["unreadable"] == [made.id]
    with pytest.raises(ConfigError):
        make(other)
    assert other.change(made.id, lambda one: replace(one, disabled=now()))
    assert (other.of_address(ENDPOINT)[0], [one.id for one in other.of_address(ENDPOINT)[1]]) == ([], [made.id])
    back = under(storage, SECOND, FIRST).get(made.id)
    assert back is not None
    assert (back.capability, back.endpoint, back.disabled is None) == (made.capability, ENDPOINT, False)
    assert other.end(made.id)
    assert not list(other.all())


@pytest.mark.parametrize("columns", [("sealed",), ("sealed", "key")])
def test_a_row_that_nobody_sealed_stops_no_other(
    storage: Storage, caplog: pytest.LogCaptureFixture, columns: tuple[str, ...]
) -> None:
    known = under(storage, FIRST)
    made, other = make(known), make(known, "https://8.8.8.8/other")
    row = storage.table(TABLE).get_entity(PARTITION, made.mark)
    storage.table(TABLE).update_entity({name: row[name] for name in row if name not in columns}, mode="replace")
    again = under(storage, FIRST)
    assert {one.id: one.readable for one in again.all()} == {made.id: False, other.id: True}
    assert again.described()["unreadable"] == [made.id]
    again.reseal()
    assert [text for text in caplog.messages if made.id in text]
    assert again.change(made.id, lambda one: replace(one, disabled=now()))
    assert again.end(made.id)
    assert [one.id for one in under(storage, FIRST).all()] == [other.id]


def leave(storage: Storage, environment: dict[str, str], endpoint: str, *keys: str) -> dict[str, Any]:
    """Unsubscribing by address in an app with these keys."""
    settings = Settings.from_env(environment | {"SUBSCRIPTION_KEYS": ",".join(keys)})
    bridge = Bridge(settings=settings, storage=storage, pbx=None)  # type: ignore[arg-type]
    return subscribing.unsubscribe_address(bridge, json.dumps({"endpoint": endpoint}).encode())


def test_unsubscribing_while_rows_cannot_be_read_is_503(environment: dict[str, str], storage: Storage) -> None:
    make(under(storage, FIRST))
    readable = make(under(storage, SECOND, FIRST), "https://8.8.8.8/other")
    for endpoint, left in (
        (ENDPOINT, 2),
        ("https://8.8.8.8/nobody", 2),
        (readable.endpoint, 1),
        (readable.endpoint, 1),
    ):
        with pytest.raises(ConfigError):
            leave(storage, environment, endpoint, SECOND)
        assert len(list(under(storage, SECOND, FIRST).all())) == left
    for _ in range(2):
        assert leave(storage, environment, ENDPOINT, SECOND, FIRST)["statusCode"] == 200
    assert not list(under(storage, SECOND, FIRST).all())


def test_a_laptop_makes_one_key_and_keeps_it(storage: Storage) -> None:
    made = make(Subscriptions(storage))
    assert Subscriptions(storage).get(made.id) == made


def test_the_timer_seals_again(environment: dict[str, str], storage: Storage) -> None:
    make(under(storage, FIRST))
    settings = Settings.from_env(environment | {"SUBSCRIPTION_KEYS": f"{SECOND},{FIRST}"})
    wake_waiting(Bridge(settings=settings, storage=storage, pbx=None))  # type: ignore[arg-type]
    assert not under(storage, SECOND).described()["unreadable"]


def subscribe(bridge: Bridge) -> dict[str, Any]:
    body = json.dumps({"endpoint": ENDPOINT}).encode()
    return subscribing.subscribe(bridge, "CallStarted", body, "https://bridge.example")[0]


def test_a_retry_after_503_gets_the_secret(start_bridge: Callable[..., Bridge], bridge: Bridge) -> None:
    bridge.storage.ready()
    doomed = start_bridge()
    break_connections(doomed.storage, "POST", TABLE, times=9)
    with pytest.raises(StorageUnavailable):
        subscribe(doomed)
    answer = subscribe(bridge)
    (one,) = subscriptions(bridge).all()
    assert answer["secret"] == one.secrets[0][0]
    assert "secret" not in subscribe(bridge)


def test_the_secret_is_shown_also_where_that_cannot_be_noted(bridge: Bridge) -> None:
    bridge.storage.ready()
    break_connections(bridge.storage, "PUT", TABLE, times=9, after=False)
    answer = subscribe(bridge)
    assert answer["secret"].startswith("whsec_")
    assert subscribe(bridge)["secret"] == answer["secret"]


def test_cryptography_waits_for_the_first_subscription() -> None:
    code = "import sys, function_app; print('cryptography.fernet' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
