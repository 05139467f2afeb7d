"""destroy.sh and rotateWebhookKey.sh against a stand-in for Azure."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from functions.responses import as_json
from shared.webhooks.sync import Report
from shared.webhooks.table import HELD, Webhook
from tests.infra.conftest import RECEIVERS
from tests.infra.template import EVERYTHING, INFRA, snapshot

if TYPE_CHECKING:
    import subprocess

    from tests.infra.conftest import Azure

TYPES = re.search(r"^types=\(\n(.*?)^\)", (INFRA / "destroy.sh").read_text(), re.S | re.M)[1].split()  # type: ignore[index]
# Parts of a resource, gone with it.
PARTS = re.compile(
    r"^Microsoft\.(Authorization/|Consumption/|Insights/diagnosticSettings|Web/sites/|Storage/storageAccounts/|Network/privateEndpoints/)"
)
ROTATION = (
    "/functions/OnCallStarted/listkeys",
    "/functions/OnCallStarted/keys/pbx-next?",
    "/functions/OnLostCallerAdded/keys/pbx-next?",
    "/functions/OnVoicemailDeleted/keys/pbx-next?",
    "secret set --vault-name kv-pbx --name pbx-webhook-key --",
    "/refresh",
    "/api/ops/status",
    "webhooks/sync",
    "attributes.updated",
    "secret set --vault-name kv-pbx --name pbx-webhook-key-previous",
    "--method delete",
)
# Spellings of the rows of a report would be missed without a word.
REPORT = '"state":"held","host":"func-pbx.test","created":"'


@pytest.fixture
def bridge(bridge: Azure) -> Azure:
    """A deployed bridge, of which every type of resource is listed."""
    (bridge.state / "types").write_text("\n".join(TYPES) + "\n")
    shutil.copy(bridge.state / "accepted", bridge.state / "accepted-before")
    return bridge


def deleted(azure: Azure) -> list[str]:
    """Ids of deleted resources, in order."""
    file = azure.state / "deleted"
    return file.read_text().split() if file.exists() else []


def reachable(azure: Azure) -> bool:
    """Whether every receiver opens for the key that the PBX sends: its own keys, and what instances of the app take."""
    key, keys = (azure.state / "pbx").read_text(), azure.files("keys")
    taken = [(azure.state / name).read_text() for name in ("accepted", "accepted-before")]
    return all(key in (keys.get(f"{r}.pbx"), keys.get(f"{r}.pbx-next")) for r in RECEIVERS) and all(
        key in instance for instance in taken
    )


def rotate(azure: Azure, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run rotateWebhookKey.sh."""
    return azure.run("rotateWebhookKey.sh", "-g", "rg", *arguments, **environment)


def receiver_keys(azure: Azure) -> set[str]:
    """The keys that open receivers."""
    return {value for name, value in azure.files("keys").items() if name.startswith("On")}


def test_every_type_of_the_templates_is_deleted_in_an_order() -> None:
    types = {resource["type"] for resource in snapshot(EVERYTHING).resources}
    made = {name.lower() for name in types if not PARTS.match(name)}
    assert {name.lower() for name in TYPES} == made


def test_webhooks_go_first_and_the_media_stay(bridge: Azure) -> None:
    done = bridge.run("destroy.sh", "-g", "rg", "--yes")
    assert done.returncode == 0, done.stderr
    calls = [call for call in bridge.calls() if "DELETE" in call or "resource delete" in call]
    assert "/api/ops/webhooks" in calls[0]
    assert not (bridge.state / "pbx").exists()
    gone = deleted(bridge)
    assert [name.split("/providers/")[1].rsplit("/", 1)[0] for name in gone] == TYPES[:-1]
    assert not any("stpbxd" in name for name in gone)


def test_media_go_when_that_is_asked_for(bridge: Azure) -> None:
    bridge.run("destroy.sh", "-g", "rg", "--yes", "--delete-media")
    assert any("stpbxd" in name for name in deleted(bridge))
    assert any("userAssignedIdentities" in name for name in deleted(bridge))


@pytest.mark.parametrize(("arguments", "role"), [((), True), (("--delete-media",), False)])
def test_the_budget_goes_and_the_role_with_the_media(bridge: Azure, arguments: tuple[str, ...], role: bool) -> None:
    (bridge.state / "budgets").write_text("budget-pbx-1\n")
    (bridge.state / "roles").write_text("role-1\n")
    assert bridge.run("destroy.sh", "-g", "rg", "--yes", *arguments).returncode == 0
    assert not (bridge.state / "budgets").exists()
    assert (bridge.state / "roles").exists() == role


def test_nothing_is_deleted_while_webhooks_are_left_at_the_pbx(bridge: Azure) -> None:
    failed = bridge.run("destroy.sh", "-g", "rg", "--yes", AZ_FAIL="api/ops/webhooks")
    assert "--skip-webhooks" in failed.stderr
    assert deleted(bridge) == []
    bridge.run("destroy.sh", "-g", "rg", "--yes", "--skip-webhooks", AZ_FAIL="api/ops/webhooks")
    assert deleted(bridge)


@pytest.mark.parametrize(
    "step", [f"resource delete --ids /providers/{name}" for name in (TYPES[0], TYPES[1], TYPES[2], TYPES[-2])]
)
def test_a_destroy_that_failed_in_a_step_is_finished_by_the_next(bridge: Azure, step: str) -> None:
    assert bridge.run("destroy.sh", "-g", "rg", "--yes", AZ_FAIL=step).returncode != 0
    done = bridge.run("destroy.sh", "-g", "rg", "--yes")
    assert done.returncode == 0, done.stderr
    gone = deleted(bridge)
    assert len(gone) == len(set(gone)) == len(TYPES) - 1


def test_nothing_is_deleted_unless_confirmed(bridge: Azure) -> None:
    assert "--yes" in bridge.run("destroy.sh", "-g", "rg").stderr
    assert deleted(bridge) == []


def test_a_dry_run_of_destroy_calls_nothing(bridge: Azure) -> None:
    dry = bridge.run("destroy.sh", "-g", "rg", "--dry-run")
    assert bridge.calls() == []
    printed = [line for line in dry.stdout.splitlines() if line.startswith("az resource delete")]
    assert [re.findall(r"Microsoft[^<']*(?=/<)", line)[0] for line in printed] == TYPES[:-1]


def test_a_destroyed_bridge_can_be_deployed_again(bridge: Azure) -> None:
    bridge.run("destroy.sh", "-g", "rg", "--yes")
    done = bridge.deploy()
    assert done.returncode == 0, done.stderr
    assert reachable(bridge)


def test_a_bridge_whose_last_deployment_failed_can_be_destroyed(bridge: Azure) -> None:
    done = bridge.run("destroy.sh", "-g", "rg", "--yes", AZ_NO_OUTPUTS="1")
    assert done.returncode == 0, done.stderr
    assert not (bridge.state / "pbx").exists()
    assert len(deleted(bridge)) == len(TYPES) - 1
    assert "Kept: stpbxd" in done.stdout


def test_what_could_not_be_deleted_is_named_with_what_to_do(bridge: Azure) -> None:
    failed = bridge.run("destroy.sh", "-g", "rg", "--yes", AZ_FAIL="resource delete --ids /providers/Microsoft.Network")
    assert "run this again" in failed.stderr


def test_a_key_is_not_rotated_where_the_last_deployment_failed(bridge: Azure) -> None:
    failed = bridge.run("rotateWebhookKey.sh", "-g", "rg", AZ_NO_OUTPUTS="1")
    assert failed.stderr.startswith("error: the last deployment")
    assert reachable(bridge)


def test_a_rotated_key_replaces_the_old_one(bridge: Azure) -> None:
    old = (bridge.state / "pbx").read_text()
    begun = rotate(bridge)
    assert begun.returncode == 0, begun.stderr
    assert "the PBX uses the new one" in begun.stdout
    assert reachable(bridge)
    new = (bridge.state / "pbx").read_text()
    assert new != old
    assert receiver_keys(bridge) == {old, new}
    secrets = bridge.files("secrets")
    assert (secrets["pbx-webhook-key"], secrets["pbx-webhook-key-previous"]) == (new, old)
    finished = rotate(bridge, "--finish")
    assert finished.returncode == 0, finished.stderr
    assert (bridge.state / "pbx").read_text() == new
    assert receiver_keys(bridge) == {new}
    assert bridge.files("secrets")["pbx-webhook-key-previous"] == new


def test_keys_are_rotated_again_and_again(bridge: Azure) -> None:
    seen = set()
    for _ in range(3):
        rotate(bridge)
        assert rotate(bridge, "--finish").returncode == 0
        seen |= receiver_keys(bridge)
    assert len(seen) == 3
    assert len([name for name in bridge.files("keys") if name.startswith("On")]) == len(RECEIVERS)


@pytest.mark.parametrize("step", ROTATION)
@pytest.mark.parametrize("between", ["nothing", "a deployment"])
def test_no_event_is_turned_away_however_a_rotation_stops(bridge: Azure, step: str, between: str) -> None:
    for arguments in ([], ["--finish"]):
        rotate(bridge, *arguments, AZ_FAIL=step)
        assert reachable(bridge)
        if between == "a deployment":
            assert bridge.deploy().returncode == 0
            assert reachable(bridge)
        assert rotate(bridge, *arguments).returncode == 0
        assert reachable(bridge)
    secrets = bridge.files("secrets")
    assert receiver_keys(bridge) == {secrets["pbx-webhook-key"]} == {secrets["pbx-webhook-key-previous"]}


def test_a_rotation_goes_on_with_the_key_that_it_began_with(bridge: Azure) -> None:
    rotate(bridge, AZ_FAIL="webhooks/sync")
    begun = bridge.files("secrets")["pbx-webhook-key"]
    rotate(bridge)
    rotate(bridge)
    assert bridge.files("secrets")["pbx-webhook-key"] == begun == (bridge.state / "pbx").read_text()


def test_the_old_key_stays_while_the_pbx_uses_it(bridge: Azure) -> None:
    old = (bridge.state / "pbx").read_text()
    # The app has not read the vault yet, and registers what it knows.
    os.utime(bridge.state / "secrets" / "pbx-webhook-key", (1, 1))
    (bridge.state / "registered").write_text("2026-01-01T00:00:00Z\n")
    assert "hourly sync" in rotate(bridge, APP_IS_LATE="1").stdout
    early = rotate(bridge, "--finish", APP_IS_LATE="1")
    assert early.returncode == 1
    assert "still uses the old key" in early.stderr
    assert old in receiver_keys(bridge)
    assert rotate(bridge, "--finish").returncode == 0
    assert old not in receiver_keys(bridge)


def test_a_rotation_changes_nothing_where_keys_are_answered_with_nulls(bridge: Azure) -> None:
    before = bridge.files("secrets"), bridge.files("keys")
    for empty in ("0", "None", ""):
        failed = rotate(bridge, AZ_KEYS=empty)
        assert failed.returncode == 1
        assert "gave no key" in failed.stderr
    assert (bridge.files("secrets"), bridge.files("keys")) == before


def test_deploying_during_a_rotation_leaves_both_keys_alone(bridge: Azure) -> None:
    rotate(bridge)
    before = bridge.files("secrets"), bridge.files("keys")
    done = bridge.deploy()
    assert done.returncode == 0, done.stderr
    assert (bridge.files("secrets"), bridge.files("keys")) == before


def test_a_new_key_that_nobody_uses_yet_is_replaced_by_another(bridge: Azure) -> None:
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
    assert receiver_keys(bridge).isdisjoint({old, unused})


def test_the_report_that_a_rotation_reads_is_the_app_s_own() -> None:
    row = Webhook(key="k", event="CallStarted", state=HELD, endpoint="e", host="func-pbx.test", id="1", created="2026")
    report = Report(held=[row.to_dict()])
    text = as_json(report.to_dict()).get_body().decode()
    assert REPORT in text
    assert REPORT in (Path(__file__).parent / "stand_in" / "curl").read_text().replace("\n", "")


def test_no_key_is_printed_by_a_rotation(bridge: Azure) -> None:
    old = bridge.files("secrets")
    runs = [rotate(bridge), rotate(bridge, "--finish"), rotate(bridge, "--dry-run")]
    seen = "\n".join([*bridge.calls(), *(run.stdout + run.stderr for run in runs)])
    for secret in (*bridge.files("secrets").values(), *old.values(), "master-key"):
        assert secret not in seen
