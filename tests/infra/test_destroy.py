"""destroy.sh and rotateWebhookKey.sh against a stand-in for Azure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.infra.template import BICEP_FILES, INFRA, read

if TYPE_CHECKING:
    from tests.infra.conftest import Azure

TYPES = re.search(r"^types=\(\n(.*?)^\)", (INFRA / "destroy.sh").read_text(), re.S | re.M)[1].split()  # type: ignore[index]
# Parts of a resource, gone with it.
PARTS = re.compile(
    r"^Microsoft\.(Authorization/|Insights/diagnosticSettings|Web/sites/|Storage/storageAccounts/|Network/privateEndpoints/)"
)
ROTATION = ("keys set", "OnVoicemailDeleted --key-name", "secret set", "--method post", "webhooks/sync", "keys delete")


@pytest.fixture
def bridge(bridge: Azure) -> Azure:
    """A deployed bridge, of which every type of resource is listed."""
    (bridge.state / "types").write_text("\n".join(TYPES) + "\n")
    return bridge


def deleted(azure: Azure) -> list[str]:
    """Ids of deleted resources, in order."""
    file = azure.state / "deleted"
    return file.read_text().split() if file.exists() else []


def reachable(azure: Azure) -> bool:
    """Whether every receiver opens for the key that the PBX sends."""
    key, keys = (azure.state / "pbx").read_text(), azure.files("keys")
    receivers = {name.split(".")[0] for name in keys if name.startswith("On")}
    return len(receivers) == 10 and all(key in (keys.get(f"{r}.pbx"), keys.get(f"{r}.pbx-next")) for r in receivers)


def test_every_type_of_the_templates_is_deleted_in_an_order() -> None:
    made = {
        resource.target.split("@")[0].lower()
        for file in BICEP_FILES
        for resource in read(file).of("resource").values()
        if not resource.existing and not PARTS.match(resource.target)
    }
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


def test_media_go_when_told(bridge: Azure) -> None:
    bridge.run("destroy.sh", "-g", "rg", "--yes", "--delete-media")
    assert any("stpbxd" in name for name in deleted(bridge))
    assert any("userAssignedIdentities" in name for name in deleted(bridge))


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
    assert bridge.run("rotateWebhookKey.sh", "-g", "rg").returncode == 0
    assert reachable(bridge)
    assert set(bridge.files("keys").values()) >= {old}
    assert bridge.run("rotateWebhookKey.sh", "-g", "rg", "--finish").returncode == 0
    new = (bridge.state / "pbx").read_text()
    assert new != old
    keys = {name: value for name, value in bridge.files("keys").items() if name.startswith("On")}
    assert set(keys.values()) == {new}
    assert len(keys) == 10


@pytest.mark.parametrize("step", ROTATION)
def test_no_event_is_turned_away_however_a_rotation_stops(bridge: Azure, step: str) -> None:
    for arguments in ([], ["--finish"]):
        bridge.run("rotateWebhookKey.sh", "-g", "rg", *arguments, AZ_FAIL=step)
        assert reachable(bridge)
        assert bridge.run("rotateWebhookKey.sh", "-g", "rg", *arguments).returncode == 0
        assert reachable(bridge)
    assert {name.split(".")[1] for name in bridge.files("keys")} == {"pbx", "logicapps"}


def test_deploying_during_a_rotation_leaves_the_old_key_alone(bridge: Azure) -> None:
    old = (bridge.state / "pbx").read_text()
    bridge.run("rotateWebhookKey.sh", "-g", "rg")
    done = bridge.deploy()
    assert done.returncode == 0, done.stderr
    assert bridge.files("keys")["OnCallStarted.pbx"] == old


def test_no_key_is_printed_by_a_rotation(bridge: Azure) -> None:
    done = bridge.run("rotateWebhookKey.sh", "-g", "rg")
    seen = "\n".join([*bridge.calls(), done.stdout, done.stderr])
    for secret in bridge.files("secrets").values():
        assert secret not in seen
