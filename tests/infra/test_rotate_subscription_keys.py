"""rotateSubscriptionKeys.sh against a stand-in for Azure whose instances keep sealing, one with outdated secrets."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.fernet import Fernet

from functions.responses import as_json
from shared.storage.account import Storage
from shared.subscriptions import Subscription, Subscriptions, key_id

if TYPE_CHECKING:
    import subprocess

    from tests.infra.conftest import Azure

SECRET = "subscription-keys"
STORED = "keyvault secret set --vault-name"
# The changes of a run. A process that ends between two of them ends at the later one.
STEPS = (
    *((STORED, after) for after in range(3)),
    *(("/refresh", after) for after in range(4)),
    ("secret set-attributes", 0),
)
# Nothing that is tried again.
DIES = {"AZ_ERROR": "Please run 'az login' to setup account."}


def rotate(azure: Azure, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run rotateSubscriptionKeys.sh."""
    return azure.run("rotateSubscriptionKeys.sh", "-g", "rg", *arguments, **environment)


def keys(azure: Azure) -> list[str]:
    return azure.files("secrets")[SECRET].split(",")


@pytest.fixture
def old(bridge: Azure) -> str:
    """Seal five rows under the key of a bridge, which all instances know."""
    (key,) = keys(bridge)
    (bridge.state / "sealed").write_text(f"{key}\n" * 5)
    (bridge.state / "app-keys-before").write_text(key)
    return key


def readable(azure: Azure) -> bool:
    """Return True if every instance can open every row, and always could."""
    rows = (azure.state / "sealed").read_text().split()
    known = [(azure.state / name).read_text().split(",") for name in ("app-keys", "app-keys-before")]
    return not (azure.state / "unreadable").exists() and all(row in instance for row in rows for instance in known)


def rotated(azure: Azure, old: str) -> bool:
    """Return True if one key is left, not the old one, with every row under it."""
    rows = set((azure.state / "sealed").read_text().split())
    return rows == set(keys(azure)) == {(azure.state / "app-keys").read_text()} and old not in rows and len(rows) == 1


def test_a_new_key_replaces_the_old_one(bridge: Azure, old: str) -> None:
    done = rotate(bridge)
    assert done.returncode == 0, done.stderr
    assert rotated(bridge, old)
    assert readable(bridge)
    assert key_id(keys(bridge)[0]) in done.stdout


@pytest.mark.parametrize(("step", "after"), STEPS, ids=str)
def test_a_run_that_stopped_is_finished_by_the_next(bridge: Azure, old: str, step: str, after: int) -> None:
    failed = rotate(bridge, AZ_FAIL=step, AZ_AFTER=str(after), **DIES)
    assert failed.returncode == 1
    assert readable(bridge)
    begun = set(keys(bridge)) - {old}
    if step == STORED:
        assert bridge.deploy().returncode == 0
        assert readable(bridge)
    done = rotate(bridge)
    assert done.returncode == 0, done.stderr
    assert rotated(bridge, old)
    assert readable(bridge)
    # The rotation keeps the key of the first run, if it made one.
    assert begun in (set(), set(keys(bridge)))


def test_keys_that_were_put_there_by_hand_are_newest_first(bridge: Azure, old: str) -> None:
    mine = Fernet.generate_key().decode()
    (bridge.state / "secrets" / SECRET).write_text(f"{mine}, {old}")
    (bridge.state / f"tags-{SECRET}").unlink()
    (bridge.state / "app-keys-before").write_text(f"{mine},{old}")
    assert rotate(bridge).returncode == 0
    assert keys(bridge) == [mine]
    assert rotated(bridge, old)


def test_a_key_stays_while_a_row_is_under_it(bridge: Azure, storage: Storage) -> None:
    # The status is the app's own here.
    first, second = Fernet.generate_key().decode(), Fernet.generate_key().decode()
    Subscriptions(storage, (first,)).make(Subscription.new(event="CallStarted", endpoint="https://8.8.8.8/hook"))
    both = Subscriptions(storage, (second, first))
    (bridge.state / "secrets" / SECRET).write_text(f"{second},{first}")
    answer_status(bridge, both.described(), indent=None)
    stuck = rotate(bridge)
    assert stuck.returncode == 1
    assert "run this again to go on from here" in stuck.stderr
    assert keys(bridge) == [second, first]
    both.reseal()
    answer_status(bridge, both.described(), indent=2)
    assert rotate(bridge).returncode == 0
    assert keys(bridge) == [second]


def answer_status(azure: Azure, keys: dict[str, Any], indent: int | None) -> None:
    """Have the app answer with this, written as the app does or more widely."""
    body = {"problems": [], "budget": {"limit": 100, "used": 0}, "subscriptionKeys": keys}
    text = as_json(body).get_body().decode() if indent is None else json.dumps(body, indent=indent)
    (azure.state / "status").write_text(text)


def test_two_runs_at_once_do_not_undo_each_other(bridge: Azure, old: str) -> None:
    rotate(bridge, AZ_FAIL="/refresh", **DIES)
    other = Fernet.generate_key().decode()
    (bridge.state / "secret-meanwhile").write_text(f"{other},{old}")
    failed = rotate(bridge)
    assert failed.returncode == 1
    assert "does this run twice" in failed.stderr
    assert keys(bridge) == [other, old]


def test_a_bridge_without_keys_is_to_be_deployed_first(bridge: Azure) -> None:
    (bridge.state / "secrets" / SECRET).write_text("")
    failed = rotate(bridge)
    assert failed.returncode == 1
    assert "run infra/deploy.sh first" in failed.stderr


def test_no_key_is_printed_or_on_a_command_line(bridge: Azure, old: str) -> None:
    bridge.calls()
    runs = [rotate(bridge, AZ_FAIL=STORED, AZ_AFTER="1", **DIES), rotate(bridge), rotate(bridge, "--dry-run")]
    seen = "\n".join([*bridge.calls(), *(run.stdout + run.stderr for run in runs)])
    for secret in (*bridge.files("secrets").values(), old, "master-key"):
        assert secret not in seen


def test_a_dry_run_prints_what_a_run_does_and_calls_nothing(bridge: Azure, old: str) -> None:
    bridge.calls()
    dry = rotate(bridge, "--dry-run")
    assert dry.returncode == 0, dry.stderr
    assert bridge.calls() == []
    printed = [line.split(" --")[0] for line in dry.stdout.splitlines() if line.startswith(("az ", "curl "))]
    rotate(bridge)
    assert list(dict.fromkeys(printed)) == list(dict.fromkeys(call.split(" --")[0] for call in bridge.calls()))
