"""A failed read never counts as no, none or false: the scripts retry it, or end with an error."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.infra.conftest import CHANGES, PBX_KEY

if TYPE_CHECKING:
    import subprocess

    from tests.infra.conftest import Azure

MAY_NOT = "(AuthorizationFailed) The client does not have authorization to perform action over scope /subscriptions/1"
# Each with what is asked and the start of the line that says so.
READS = {
    "az version": "the version of az",
    "group show --name rg --query name": "the group rg",
    "provider list": "the resource providers",
    "storage account list": "the storage accounts of rg",
    "storage container-rm show": "the policy of recordings",
    "list-flexconsumption-runtimes": "what westeurope offers on Flex Consumption",
    "permissions?": "what you may do in ",
    "account show": "the sign-in",
    "KeyVault/vaults --output": "the vaults of rg",
    "kv-pbx/secrets?": "the names of the secrets",
    "alertEmail.value": "the last deployment",
    "list-deleted": "the deleted vaults",
}


def errors(done: subprocess.CompletedProcess[str]) -> list[str]:
    """Return the lines about a failure, without those of the stand-in."""
    return [line for line in done.stderr.splitlines() if not line.startswith("ERROR: ")]


def reads(calls: list[str]) -> list[str]:
    """Return the calls of az that change nothing, each once."""
    return [call for call in dict.fromkeys(calls) if call.startswith("az ") and not CHANGES.search(call)]


def test_a_check_that_cannot_read_names_the_question_and_changes_nothing(full_bridge: Azure) -> None:
    for read, what in READS.items():
        failed = full_bridge.deploy(AZ_FAIL=read)
        assert failed.returncode == 1
        (line,) = errors(failed)
        assert line.startswith(f"error: {what}")
        assert "cannot be read: see above" in line
        assert full_bridge.changes() == []


def test_a_failure_to_make_the_group_is_an_error(azure: Azure) -> None:
    failed = azure.deploy(AZ_FAIL="group create --name", PBX_API_KEY=PBX_KEY)
    assert errors(failed) == ["error: the group rg cannot be made: see above"]


@pytest.mark.parametrize("read", ["provider list", "list-deleted"])
def test_without_the_right_to_read_the_subscription_it_deploys_with_a_warning(bridge: Azure, read: str) -> None:
    done = bridge.deploy(AZ_FAIL=read, AZ_ERROR=MAY_NOT)
    assert done.returncode == 0, done.stderr
    assert "You may not see the subscription's" in done.stdout


def test_a_run_in_which_any_read_fails_once_does_what_it_would_do_or_stops(full_bridge: Azure) -> None:
    assert full_bridge.deploy().returncode == 0
    calls = full_bridge.calls()
    usual = [call for call in calls if CHANGES.search(call)]
    # Neither code nor workflows are deployed again.
    assert not [call for call in usual if "deployLogicApps=true" in call or "config-zip" in call]
    assert len(reads(calls)) > 20
    for read in reads(calls):
        (full_bridge.state / "failed").unlink(missing_ok=True)
        done = full_bridge.deploy(AZ_FAIL=read, AZ_TIMES="1")
        made = full_bridge.changes()
        if done.returncode == 0:
            assert made == usual, read
        else:
            assert errors(done)[-1].startswith("error: "), read
            assert made == [], read


def test_unreadable_tags_are_an_error(bridge: Azure) -> None:
    failed = bridge.deploy(AZ_FAIL="tag list")
    assert errors(failed)[-1].startswith("error: reading the tags still fails after 5 attempts")
    assert not [call for call in bridge.calls() if "config-zip" in call]


def test_an_app_whose_functions_nobody_can_list_gets_its_code_again(bridge: Azure) -> None:
    bridge.deploy(AZ_FAIL="function list")
    assert [call for call in bridge.calls() if "config-zip" in call]


def test_code_that_cannot_be_packed_is_not_deployed(bridge: Azure) -> None:
    (bridge.project / "host.json").unlink()
    failed = bridge.deploy()
    assert errors(failed)[-1] == "error: the code cannot be packed: see above"
    assert not [call for call in bridge.calls() if "config-zip" in call]


# The other scripts


@pytest.mark.parametrize("script", ["rotateWebhookKey.sh", "exportMonth.sh"])
def test_a_failed_read_of_the_deployment_is_retried_and_is_not_absence(bridge: Azure, script: str) -> None:
    arguments = ("-g", "rg", *(("--month", "2026-10") if script == "exportMonth.sh" else ()))
    failed = bridge.run(script, *arguments, AZ_FAIL="deployment group show")
    assert errors(failed) == [
        "error: reading the deployment bridge-pbx still fails after 5 attempts; run this again to go on from here"
    ]
    assert "run infra/deploy.sh again" in bridge.run(script, *arguments, AZ_NO_OUTPUTS="1").stderr
    (bridge.state / "deployed").unlink()
    assert "run infra/deploy.sh first" in bridge.run(script, *arguments).stderr


@pytest.mark.parametrize("arguments", [(), ("--finish",)])
def test_no_rotation_is_begun_or_ended_because_a_read_failed(bridge: Azure, arguments: tuple[str, ...]) -> None:
    assert bridge.run("rotateWebhookKey.sh", "-g", "rg", APP_IS_LATE="1").returncode == 0
    before = bridge.files("secrets"), bridge.files("keys")
    bridge.calls()
    again = bridge.run("rotateWebhookKey.sh", "-g", "rg", *arguments, APP_IS_LATE="1")
    calls = bridge.calls()
    assert len(reads(calls)) > 5
    for read in reads(calls):
        (bridge.state / "failed").unlink(missing_ok=True)
        done = bridge.run("rotateWebhookKey.sh", "-g", "rg", *arguments, AZ_FAIL=read, AZ_TIMES="1", APP_IS_LATE="1")
        assert done.returncode in (again.returncode, 1), read
        assert (bridge.files("secrets"), bridge.files("keys")) == before, read


@pytest.mark.parametrize("read", ["az version", "consumption budget list", "role definition list", "resource list"])
def test_nothing_is_deleted_while_resources_cannot_be_listed(bridge: Azure, read: str) -> None:
    (bridge.state / "ids").write_text("/providers/Microsoft.Web/sites/func-pbx\n")
    failed = bridge.run("destroy.sh", "-g", "rg", "--yes", "--delete-media", AZ_FAIL=read)
    (line,) = errors(failed)
    assert "cannot be read: see above" in line
    assert bridge.changes() == []
