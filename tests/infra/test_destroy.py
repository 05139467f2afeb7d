"""destroy.sh and rotateWebhookKey.sh against a stand-in for Azure."""

from __future__ import annotations

import json
import os
import re
import shutil
from typing import TYPE_CHECKING

import pytest

from functions.responses import as_json
from shared.webhooks import HELD, Report, Webhook
from tests.infra.template import EVERYTHING, snapshot

if TYPE_CHECKING:
    import subprocess

    from tests.infra.conftest import Azure

# A few of each kind, in no order of use.
IDS = [
    f"/subscriptions/1/resourceGroups/rg/providers/Microsoft.{name}"
    for name in (
        "Storage/storageAccounts/stpbxd1",
        "Storage/storageAccounts/stpbxh1",
        "ManagedIdentity/userAssignedIdentities/id-pbx",
        "Web/serverFarms/plan-pbx",
        "Web/sites/func-pbx",
        "Logic/workflows/logic-missedCallMail-pbx",
        "KeyVault/vaults/kv-pbx",
        "Network/virtualNetworks/vnet-pbx",
    )
]
KEPT = {IDS[0], IDS[2]}
ROTATION = (
    "secret set --vault-name kv-pbx --name pbx-webhook-key --",
    "/refresh",
    "/api/ops/status",
    "webhooks/sync",
    "attributes.updated",
    "secret set --vault-name kv-pbx --name pbx-webhook-key-previous",
)
# The first key is stored, the PBX has the new one.
DEPLOYED_BETWEEN = (ROTATION[1], ROTATION[-1])


@pytest.fixture
def bridge(bridge: Azure) -> Azure:
    (bridge.state / "ids").write_text("\n".join(IDS) + "\n")
    shutil.copy(bridge.state / "accepted", bridge.state / "accepted-before")
    return bridge


def deleted(azure: Azure) -> list[str]:
    """Ids of deleted resources, in order."""
    file = azure.state / "deleted"
    return file.read_text().split() if file.exists() else []


def reachable(azure: Azure) -> bool:
    """True if every instance of the app accepts the key that the PBX sends."""
    key = (azure.state / "pbx").read_text()
    return all(key in (azure.state / name).read_text() for name in ("accepted", "accepted-before"))


def rotate(azure: Azure, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run rotateWebhookKey.sh."""
    return azure.run("rotateWebhookKey.sh", "-g", "rg", *arguments, **environment)


def accepted(azure: Azure) -> set[str]:
    """Return the keys that the app reads of the vault."""
    secrets = azure.files("secrets")
    return {secrets["pbx-webhook-key"], secrets["pbx-webhook-key-previous"]}


def test_every_resource_has_the_tag_of_its_bridge() -> None:
    parts = re.compile(r"^Microsoft\.(Authorization|Consumption)/|diagnosticSettings$|/.*/")
    made = [one for one in snapshot(EVERYTHING).resources if not parts.search(one["type"])]
    assert len(made) > 15
    assert {one["type"] for one in made if "bridge" not in one.get("tags", {})} == set()


def test_webhooks_go_first_and_the_media_stay(bridge: Azure) -> None:
    done = bridge.run("destroy.sh", "-g", "rg", "--yes")
    assert done.returncode == 0, done.stderr
    calls = [call for call in bridge.calls() if "DELETE" in call or "resource delete" in call]
    assert "/api/ops/webhooks" in calls[0]
    assert not (bridge.state / "pbx").exists()
    gone = deleted(bridge)
    assert set(gone) == set(IDS) - KEPT
    assert "workflows" in gone[0]
    assert "sites" in gone[1]


def test_delete_media_deletes_the_role_too_and_the_budget_always_goes(bridge: Azure) -> None:
    (bridge.state / "budgets").write_text("budget-pbx-1\n")
    (bridge.state / "roles").write_text("role-1\n")
    assert bridge.run("destroy.sh", "-g", "rg", "--yes").returncode == 0
    assert not (bridge.state / "budgets").exists()
    assert (bridge.state / "roles").exists()
    bridge.run("destroy.sh", "-g", "rg", "--yes", "--delete-media")
    assert set(deleted(bridge)) == set(IDS)
    assert not (bridge.state / "roles").exists()


def test_nothing_is_deleted_while_webhooks_are_left_at_the_pbx(bridge: Azure) -> None:
    failed = bridge.run("destroy.sh", "-g", "rg", "--yes", AZ_FAIL="api/ops/webhooks")
    assert "--skip-webhooks" in failed.stderr
    assert deleted(bridge) == []
    bridge.run("destroy.sh", "-g", "rg", "--yes", "--skip-webhooks", AZ_FAIL="api/ops/webhooks")
    assert deleted(bridge)


def test_a_destroy_that_failed_in_any_step_is_finished_by_the_next(bridge: Azure) -> None:
    for step in ("Microsoft.Logic/workflows/logic", "Microsoft.Web/sites/func-pbx --output", "vnet-pbx"):
        failed = bridge.run("destroy.sh", "-g", "rg", "--yes", AZ_FAIL=step)
        assert "something is left: see above, and run this again" in failed.stderr
    done = bridge.run("destroy.sh", "-g", "rg", "--yes")
    assert done.returncode == 0, done.stderr
    gone = deleted(bridge)
    assert len(gone) == len(set(gone)) == len(IDS) - 2


def test_nothing_is_deleted_unless_confirmed(bridge: Azure) -> None:
    assert "--yes" in bridge.run("destroy.sh", "-g", "rg").stderr
    assert deleted(bridge) == []


def test_a_dry_run_of_destroy_calls_nothing(bridge: Azure) -> None:
    dry = bridge.run("destroy.sh", "-g", "rg", "--dry-run")
    assert bridge.calls() == []
    printed = [line for line in dry.stdout.splitlines() if line.startswith("az resource delete")]
    assert printed == ["az resource delete --ids '<id of each resource>' --output none"]
    assert dry.stdout.endswith("Nothing was changed. The calls above would be made.\n")


def test_a_destroyed_bridge_can_be_deployed_again(bridge: Azure) -> None:
    bridge.run("destroy.sh", "-g", "rg", "--yes")
    done = bridge.deploy()
    assert done.returncode == 0, done.stderr
    assert reachable(bridge)


def test_a_bridge_whose_last_deployment_failed_can_be_destroyed(bridge: Azure) -> None:
    done = bridge.run("destroy.sh", "-g", "rg", "--yes", AZ_NO_OUTPUTS="1")
    assert done.returncode == 0, done.stderr
    assert not (bridge.state / "pbx").exists()
    assert len(deleted(bridge)) == len(IDS) - 2
    assert "Kept: stpbxd1" in done.stdout


def test_a_key_is_not_rotated_where_the_last_deployment_failed(bridge: Azure) -> None:
    failed = bridge.run("rotateWebhookKey.sh", "-g", "rg", AZ_NO_OUTPUTS="1")
    assert failed.stderr.startswith("error: the last deployment")
    assert reachable(bridge)


def test_a_rotated_key_replaces_the_old_one(bridge: Azure) -> None:
    old = (bridge.state / "pbx").read_text()
    begun = rotate(bridge)
    assert begun.returncode == 0, begun.stderr
    assert begun.stdout.endswith("Both keys work. Run this with --finish tomorrow.\n")
    assert "hourly sync" not in begun.stdout
    assert reachable(bridge)
    new = (bridge.state / "pbx").read_text()
    assert new != old
    assert accepted(bridge) == {old, new}
    secrets = bridge.files("secrets")
    assert (secrets["pbx-webhook-key"], secrets["pbx-webhook-key-previous"]) == (new, old)
    finished = rotate(bridge, "--finish")
    assert finished.returncode == 0, finished.stderr
    assert (bridge.state / "pbx").read_text() == new
    assert accepted(bridge) == {new}


@pytest.mark.parametrize("step", ROTATION)
def test_no_event_is_turned_away_however_a_rotation_stops(bridge: Azure, step: str) -> None:
    for arguments in ([], ["--finish"]):
        rotate(bridge, *arguments, AZ_FAIL=step)
        assert reachable(bridge)
        if step in DEPLOYED_BETWEEN:
            assert bridge.deploy().returncode == 0
            assert reachable(bridge)
        assert rotate(bridge, *arguments).returncode == 0
        assert reachable(bridge)
    assert accepted(bridge) == {(bridge.state / "pbx").read_text()}


def test_a_repeated_rotation_keeps_its_new_key(bridge: Azure) -> None:
    rotate(bridge, AZ_FAIL="webhooks/sync")
    begun = bridge.files("secrets")
    assert bridge.deploy().returncode == 0
    rotate(bridge)
    rotate(bridge)
    assert bridge.files("secrets") == begun
    assert begun["pbx-webhook-key"] == (bridge.state / "pbx").read_text()


def test_the_old_key_stays_while_the_pbx_uses_it(bridge: Azure) -> None:
    old = (bridge.state / "pbx").read_text()
    # The app has not read the vault yet, and registers with the old key.
    os.utime(bridge.state / "secrets" / "pbx-webhook-key", (1, 1))
    (bridge.state / "registered").write_text("2026-01-01T00:00:00Z\n")
    assert "hourly sync" in rotate(bridge, APP_IS_LATE="1").stdout
    early = rotate(bridge, "--finish", APP_IS_LATE="1")
    assert early.returncode == 1
    assert "still uses the old key" in early.stderr
    assert old in accepted(bridge)
    assert rotate(bridge, "--finish").returncode == 0
    assert old not in accepted(bridge)


def test_an_unused_new_key_is_replaced(bridge: Azure) -> None:
    for name in ("pbx-webhook-key", "pbx-webhook-key-previous"):
        os.utime(bridge.state / "secrets" / name, (1, 1))
    old = bridge.files("secrets")["pbx-webhook-key"]
    rotate(bridge, AZ_FAIL="/api/ops/status")
    secrets = bridge.files("secrets")
    unused = secrets["pbx-webhook-key-previous"]
    assert secrets["pbx-webhook-key"] == old != unused
    assert "without --finish" in rotate(bridge, "--finish").stderr
    assert rotate(bridge).returncode == 0
    assert rotate(bridge, "--finish").returncode == 0
    assert accepted(bridge).isdisjoint({old, unused})


def test_the_report_that_a_rotation_reads_is_the_app_s_own() -> None:
    row = Webhook(key="k", event="CallStarted", state=HELD, endpoint="e", host="func-pbx.test", id="1", created="2026")
    text = as_json(Report(held=[row.to_dict()]).to_dict()).get_body().decode()
    assert json.loads(text)["held"][0]["created"] == "2026"


def test_no_key_is_printed_by_a_rotation(bridge: Azure) -> None:
    old = bridge.files("secrets")
    runs = [rotate(bridge), rotate(bridge, "--finish"), rotate(bridge, "--dry-run")]
    seen = "\n".join([*bridge.calls(), *(run.stdout + run.stderr for run in runs)])
    for secret in (*bridge.files("secrets").values(), *old.values(), "master-key"):
        assert secret not in seen
