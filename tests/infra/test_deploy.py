"""deploy.sh against a stand-in for Azure."""

from __future__ import annotations

import re
import shutil
import zipfile
from typing import TYPE_CHECKING

import pytest

from shared.events.table import EVENTS
from tests.infra.conftest import PBX_KEY
from tests.infra.template import INFRA

if TYPE_CHECKING:
    from pathlib import Path

    from tests.infra.conftest import Azure

STEPS = (
    "az version",
    "az account show --query id",
    "az group exists",
    "az provider list",
    "az functionapp list-flexconsumption-runtimes",
    "az rest --method get",
    "az account show --query user.type",
    "az ad signed-in-user show",
    "az group create",
    "az deployment group create",
    "az deployment group show",
    "az keyvault secret list",
    "az keyvault secret set --vault-name kv-pbx --name pbx-api-key",
    "az keyvault secret set --vault-name kv-pbx --name pbx-webhook-key",
    "az keyvault secret set --vault-name kv-pbx --name logicapps-key",
    "az rest --method post",
    "az tag list",
    "az functionapp deployment source config-zip",
    "az tag update",
    "az functionapp function list",
    "az keyvault secret show --vault-name kv-pbx --name pbx-webhook-key",
    "az functionapp function keys set --resource-group rg --name func-pbx --function-name OnCallStarted",
    "az functionapp function keys list --resource-group rg --name func-pbx --function-name OnVoicemailDeleted",
    "az functionapp function keys set --resource-group rg --name func-pbx --function-name OnVoicemailDeleted",
    "az functionapp keys list --resource-group rg --name func-pbx --query functionKeys",
    "az functionapp keys set",
    "az functionapp keys list --resource-group rg --name func-pbx --query masterKey",
    "/api/ops/webhooks/sync",
    "/api/ops/status",
)
CHANGES = re.compile(r" (create|set|update|delete|recover|config-zip) |--method post|--request (POST|DELETE)")
CHECKS = (
    pytest.param({"AZ_VERSION": "2.86.9"}, "az upgrade", id="az too old"),
    pytest.param({"AZ_FAIL": "account show --query id"}, "az login", id="not signed in"),
    pytest.param(
        {"AZ_PROVIDERS": "Web Storage"}, "az provider register --wait --namespace Microsoft.App", id="provider"
    ),
    pytest.param({"AZ_PYTHONS": "3.10 3.11"}, "choose another region", id="no such Python in the region"),
    pytest.param({"AZ_FAIL": "list-flexconsumption-runtimes"}, "choose another region", id="no such region"),
    pytest.param({"AZ_MAY_ASSIGN": "0"}, "ask for Owner", id="may not assign roles"),
    pytest.param({"AZ_FAIL": "ad signed-in-user"}, "--deployer-id", id="directory may not be read"),
)


def same_keys(azure: Azure) -> bool:
    """Whether the ten receivers, the host and the PBX have the keys that the vault holds."""
    secrets, keys = azure.files("secrets"), azure.files("keys")
    receivers = {name: value for name, value in keys.items() if name.startswith("On")}
    return (
        len(receivers) == 10
        and set(receivers.values()) == {secrets["pbx-webhook-key"]}
        and keys["host.logicapps"] == secrets["logicapps-key"]
        and secrets["pbx-api-key"] == PBX_KEY
        and (azure.state / "pbx").read_text() == secrets["pbx-webhook-key"]
    )


def test_the_receivers_are_those_of_the_pbx_s_events() -> None:
    listed = re.search(r"^receivers=\(\n(.*?)^\)", (INFRA / "azure.sh").read_text(), re.DOTALL | re.MULTILINE)
    assert listed is not None
    assert listed[1].split() == [f"On{event.name}" for event in EVENTS if event.source == "pbx"]


def test_first_run_ends_with_a_registered_bridge(azure: Azure) -> None:
    done = azure.deploy(PBX_API_KEY=PBX_KEY)
    assert done.returncode == 0, done.stderr
    assert same_keys(azure)
    with zipfile.ZipFile(azure.state / "app.zip") as code:
        assert sorted(code.namelist()) == [
            "function_app.py",
            "functions/receivers.py",
            "host.json",
            "requirements.txt",
            "shared/events.py",
        ]
    for line in (
        "https://func-pbx.test/api/events/",
        "https://func-pbx.test/api/v2",
        "/api/swagger.json",
        "vault kv-pbx",
    ):
        assert line in done.stdout


def test_steps_come_in_an_order_that_works(azure: Azure) -> None:
    azure.deploy(PBX_API_KEY=PBX_KEY)
    calls = azure.calls()
    order = sorted(STEPS, key=lambda step: next(i for i, call in enumerate(calls) if step in call))
    assert order == list(STEPS)


def test_second_run_changes_nothing(azure: Azure) -> None:
    azure.deploy(PBX_API_KEY=PBX_KEY)
    azure.calls()
    before = azure.files("secrets"), azure.files("keys")
    done = azure.deploy()
    assert done.returncode == 0, done.stderr
    changes = [call for call in azure.calls() if CHANGES.search(call)]
    # Both state what there should be, and find it there.
    assert len(changes) == 2
    assert changes[0].startswith("az deployment group create")
    assert changes[1].endswith("/api/ops/webhooks/sync")
    assert (azure.files("secrets"), azure.files("keys")) == before


@pytest.mark.parametrize("step", STEPS)
def test_a_run_that_failed_in_a_step_is_finished_by_the_next(azure: Azure, step: str) -> None:
    failed = azure.deploy(PBX_API_KEY=PBX_KEY, AZ_FAIL=step)
    assert failed.returncode != 0
    assert failed.stderr.strip()
    kept = azure.files("secrets")
    done = azure.deploy(PBX_API_KEY=PBX_KEY)
    assert done.returncode == 0, done.stderr
    assert same_keys(azure)
    assert azure.files("secrets").items() >= {name: value for name, value in kept.items() if value}.items()


@pytest.mark.parametrize(("environment", "fix"), CHECKS)
def test_a_failed_check_is_one_line_with_the_fix_and_changes_nothing(
    azure: Azure, environment: dict[str, str], fix: str
) -> None:
    failed = azure.deploy(PBX_API_KEY=PBX_KEY, **environment)
    errors = [line for line in failed.stderr.splitlines() if not line.startswith("ERROR: told")]
    assert failed.returncode == 1
    assert len(errors) == 1
    assert errors[0].startswith("error: ")
    assert fix in errors[0]
    assert not [call for call in azure.calls() if CHANGES.search(call)]


@pytest.mark.parametrize("missing", ["az", "curl", "openssl", "zip"])
def test_a_missing_tool_is_named(azure: Azure, tmp_path: Path, missing: str) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for tool in ("bash", "cat", "curl", "dirname", "openssl", "sed"):
        (tools / tool).symlink_to(shutil.which(tool) or tool)
    for tool in ("az", "zip"):
        (tools / tool).symlink_to("/bin/true")
    (tools / missing).unlink()
    failed = azure.deploy(PATH=str(tools))
    assert failed.returncode == 1
    assert failed.stderr == f"error: {missing} is not installed: install it and run this again\n"


def test_a_dry_run_prints_what_a_first_run_does_and_calls_nothing(azure: Azure) -> None:
    dry = azure.deploy("--dry-run")
    assert dry.returncode == 0, dry.stderr
    assert azure.calls() == []
    azure.deploy(PBX_API_KEY=PBX_KEY)
    real = [call for call in azure.calls() if "masterKey" not in call]
    printed = [line for line in dry.stdout.splitlines() if line.startswith(("az ", "curl "))]
    assert [line.split(" --")[0] for line in printed] == [call.split(" --")[0] for call in real]


def test_no_secret_is_printed_or_on_a_command_line(azure: Azure) -> None:
    runs = [
        azure.deploy(PBX_API_KEY=PBX_KEY),
        azure.deploy(PBX_API_KEY=PBX_KEY),
        azure.deploy("--dry-run", PBX_API_KEY=PBX_KEY),
    ]
    seen = "\n".join([*azure.calls(), *(run.stdout + run.stderr for run in runs)])
    for secret in (*azure.files("secrets").values(), "master-key"):
        assert secret not in seen


def test_what_if_changes_nothing(azure: Azure) -> None:
    missing = azure.deploy("--what-if")
    assert "az group create" in missing.stderr
    (azure.state / "group").touch()
    azure.calls()
    shown = azure.deploy("--what-if")
    assert "1 to create" in shown.stdout
    assert not [call for call in azure.calls() if CHANGES.search(call)]


def test_without_a_key_and_without_a_terminal_it_says_where_to_put_the_key(azure: Azure) -> None:
    assert "PBX_API_KEY" in azure.deploy().stderr


def test_a_new_pbx_key_replaces_the_old_and_is_read_at_once(azure: Azure) -> None:
    azure.deploy(PBX_API_KEY="old")
    azure.calls()
    azure.deploy(PBX_API_KEY=PBX_KEY)
    assert azure.files("secrets")["pbx-api-key"] == PBX_KEY
    assert any("configreferences" in call for call in azure.calls())


def test_changed_code_is_deployed_and_the_same_is_not(azure: Azure) -> None:
    azure.deploy(PBX_API_KEY=PBX_KEY)
    azure.calls()
    (azure.project / "shared" / "events.py").write_text("changed\n")
    azure.deploy()
    assert any("config-zip" in call for call in azure.calls())
    azure.deploy()
    assert not any("config-zip" in call for call in azure.calls())


def test_a_deleted_vault_is_recovered_first(azure: Azure) -> None:
    (azure.state / "deleted-vault").write_text("kv-pbx\n")
    azure.deploy(PBX_API_KEY=PBX_KEY)
    verbs = [call.split(" --")[0] for call in azure.calls()]
    assert verbs.index("az keyvault recover") < verbs.index("az deployment group create")


def test_workflows_come_last_and_only_where_the_parameters_ask_for_them(azure: Azure) -> None:
    parameters = azure.project / "infra" / "main.bicepparam"
    parameters.write_text(parameters.read_text() + "param deployLogicApps = true\n")
    providers = "App Insights KeyVault Logic ManagedIdentity OperationalInsights Storage Web"
    azure.deploy(PBX_API_KEY=PBX_KEY, AZ_PROVIDERS=providers)
    calls = azure.calls()
    deployments = [call for call in calls if "deployment group create" in call]
    assert [re.findall(r"deployLogicApps=\w+", call) for call in deployments] == [
        ["deployLogicApps=false"],
        ["deployLogicApps=true"],
    ]
    assert calls[-1] == deployments[-1]


@pytest.mark.parametrize(
    "line", ["param name = 'tele2'", "param name = 'tele2' // the other one", "param name='tele2'"]
)
def test_another_name_is_another_bridge(azure: Azure, line: str) -> None:
    parameters = azure.project / "infra" / "other.bicepparam"
    parameters.write_text(f"using 'main.bicep'\n\n{line}\n")
    azure.deploy("-p", str(parameters), PBX_API_KEY=PBX_KEY)
    assert any("deployment group create --resource-group rg --name bridge-tele2" in call for call in azure.calls())


@pytest.mark.parametrize("value", ["'Tele2'", "'tele-2'", "'telephony'", "readEnvironmentVariable('NAME')"])
def test_a_name_that_no_resource_could_have_is_refused_at_once(azure: Azure, value: str) -> None:
    parameters = azure.project / "infra" / "other.bicepparam"
    parameters.write_text(f"using 'main.bicep'\n\nparam name = {value}\n")
    failed = azure.deploy("-p", str(parameters), PBX_API_KEY=PBX_KEY)
    assert failed.returncode == 1
    assert "two to six lower-case letters" in failed.stderr
    assert azure.calls() == []


def test_what_the_app_finds_wrong_is_said(azure: Azure) -> None:
    answer = '{"created":[],"problem":"the PBX holds 20 webhooks already","endedSince":null}'
    failed = azure.deploy(PBX_API_KEY=PBX_KEY, AZ_FAIL="webhooks/sync", AZ_SAYS=answer)
    assert "func-pbx: the PBX holds 20 webhooks already\n" in failed.stdout
    assert "registering the webhooks still fails after" in failed.stderr


def test_keys_wait_for_a_host_that_starts(azure: Azure) -> None:
    failed = azure.deploy(PBX_API_KEY=PBX_KEY, AZ_FAIL="function keys list")
    assert "setting the keys: not yet, attempt 2" in failed.stdout
    assert azure.files("keys") == {}


def test_the_one_address_is_printed_for_the_key_s_ip_list(azure: Azure) -> None:
    assert "203.0.113.7/32" in azure.deploy(PBX_API_KEY=PBX_KEY, AZ_ADDRESS="203.0.113.7").stdout


@pytest.mark.parametrize("script", ["deploy.sh", "destroy.sh", "rotateWebhookKey.sh"])
@pytest.mark.parametrize(("arguments", "status"), [(["--help"], 0), ([], 1), (["-g"], 1), (["--nonsense"], 1)])
def test_options_are_explained(azure: Azure, script: str, arguments: list[str], status: int) -> None:
    done = azure.run(script, *arguments)
    assert done.returncode == status
    assert ("Usage" in done.stdout) if status == 0 else done.stderr.startswith("error: ")
