"""deploy.sh against a stand-in for Azure."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
import zipfile
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

import pytest

from tests.infra.conftest import CHANGES, CRM_HEADER, PBX_KEY
from tests.infra.template import INFRA

if TYPE_CHECKING:
    from tests.infra.conftest import Azure, FirstRun

STEPS = (
    "az version",
    "az account show",
    "az group show",
    "az provider list",
    "az functionapp list-flexconsumption-runtimes",
    "/permissions?",
    "az keyvault list-deleted",
    "az group create",
    "az deployment group create",
    "az deployment group show",
    "az keyvault secret list",
    "az keyvault secret set --vault-name kv-pbx --name pbx-api-key",
    "az keyvault secret set --vault-name kv-pbx --name pbx-webhook-key --",
    "az keyvault secret set --vault-name kv-pbx --name pbx-webhook-key-previous",
    "az keyvault secret set --vault-name kv-pbx --name logicapps-key",
    "az keyvault secret set --vault-name kv-pbx --name subscription-keys",
    "/config/configreferences/appsettings/refresh",
    "az tag list",
    "az functionapp deployment source config-zip",
    "az tag update",
    "az functionapp function list",
    "/host/default/listkeys",
    "/host/default/functionKeys/logicapps?",
    "/api/ops/webhooks/sync",
    "/api/ops/status",
    "atScope()",
)
CHECKS = (
    pytest.param({"AZ_VERSION": "2.86.9"}, "az upgrade", id="az too old"),
    pytest.param({"AZ_BICEP": "0.37.4"}, "az bicep upgrade", id="Bicep too old"),
    pytest.param({"AZ_UNREGISTERED": "App"}, "az provider register --wait --namespace Microsoft.App", id="provider"),
    pytest.param({"AZ_PYTHONS": "3.10 3.11"}, "choose another region", id="no such Python in the region"),
    pytest.param({"AZ_MAY_NOT": '"Microsoft.Authorization/*/Write"'}, "ask for Owner", id="Contributor"),
    pytest.param({"AZ_MAY": "Microsoft.Authorization/roleAssignments/write"}, "ask for Owner", id="no new roles"),
    pytest.param({"PBX_API_KEY": ""}, "put it into PBX_API_KEY", id="no key"),
)


def same_keys(azure: Azure) -> bool:
    """Return True if the host and the PBX have the keys that the vault holds."""
    secrets, keys = azure.files("secrets"), azure.files("keys")
    return (
        keys["host.logicapps"] == secrets["logicapps-key"]
        and secrets["pbx-api-key"] == PBX_KEY
        and (azure.state / "pbx").read_text() == secrets["pbx-webhook-key"]
    )


def deployments(azure: Azure) -> list[str]:
    """Return the deployments made since calls were last asked for."""
    return [call for call in azure.calls() if "deployment group create" in call]


def test_first_run_ends_with_a_registered_bridge(first_run: FirstRun) -> None:
    azure = first_run.azure
    assert same_keys(azure)
    assert len(base64.urlsafe_b64decode(azure.files("secrets")["subscription-keys"])) == 32
    with zipfile.ZipFile(azure.state / "app.zip") as code:
        assert sorted(code.namelist()) == [
            "board/board.css",
            "function_app.py",
            "functions/receivers.py",
            "host.json",
            "requirements.txt",
            "shared/values.py",
        ]
    for line in ("https://func-pbx.test/api/events/", "https://func-pbx.test/api/v2", "vault kv-pbx", "no problems"):
        assert line in first_run.output


def test_steps_come_in_an_order_that_works(first_run: FirstRun) -> None:
    order = sorted(STEPS, key=lambda step: next(i for i, call in enumerate(first_run.calls) if step in call))
    assert order == list(STEPS)


def test_every_az_command_names_its_output_format(first_run: FirstRun, full_run: FirstRun) -> None:
    calls = [call for call in first_run.calls + full_run.calls if call.startswith("az ")]
    assert [call for call in calls if "--output " not in call and "az bicep version" not in call] == []


def test_no_secret_is_printed_or_on_a_command_line(full_run: FirstRun) -> None:
    azure = full_run.azure
    dry = azure.deploy("--dry-run", PBX_API_KEY=PBX_KEY, CRM_AUTHORIZATION=CRM_HEADER)
    seen = "\n".join([*full_run.calls, full_run.output, dry.stdout, dry.stderr])
    assert [secret for secret in (*azure.files("secrets").values(), "master-key") if secret in seen] == []


def test_a_dry_run_prints_what_a_first_run_does_and_calls_nothing(azure: Azure, first_run: FirstRun) -> None:
    assert "put it into PBX_API_KEY" in azure.deploy("--dry-run").stderr
    dry = azure.deploy("--dry-run", PBX_API_KEY=PBX_KEY)
    assert dry.returncode == 0, dry.stderr
    assert dry.stdout.endswith("The calls above would be made.\n")
    assert azure.calls() == []
    printed = [line for line in dry.stdout.splitlines() if line.startswith(("az ", "curl "))]
    assert [line.split(" --")[0] for line in printed] == [call.split(" --")[0] for call in first_run.calls]


def test_second_run_changes_nothing(bridge: Azure) -> None:
    before = bridge.files("secrets"), bridge.files("keys")
    done = bridge.deploy()
    assert done.returncode == 0, done.stderr
    deployment, refresh, sync = bridge.changes()
    # These steps run always, and change nothing.
    assert "deployment group create" in deployment
    assert "/refresh" in refresh
    assert sync.endswith("/api/ops/webhooks/sync")
    assert (bridge.files("secrets"), bridge.files("keys")) == before


def test_a_run_that_failed_in_any_step_is_finished_by_the_next(azure: Azure) -> None:
    kept: dict[str, str] = {}
    for step in (step for step in STEPS if CHANGES.search(f"{step} ")):
        failed = azure.deploy(PBX_API_KEY=PBX_KEY, AZ_FAIL=step)
        assert failed.returncode != 0, step
        assert failed.stderr.strip()
        secrets = azure.files("secrets")
        assert secrets.items() >= kept.items()
        kept = {name: value for name, value in secrets.items() if value}
    assert azure.deploy(PBX_API_KEY=PBX_KEY).returncode == 0
    assert same_keys(azure)


@pytest.mark.parametrize(("environment", "fix"), CHECKS)
def test_a_failed_check_is_one_line_with_the_fix_and_changes_nothing(
    azure: Azure, environment: dict[str, str], fix: str
) -> None:
    failed = azure.deploy(**{"PBX_API_KEY": PBX_KEY} | environment)
    assert failed.returncode == 1
    (error,) = failed.stderr.splitlines()
    assert error.startswith("error: ")
    assert fix in error
    assert azure.changes() == []


def test_a_missing_tool_is_named(azure: Azure, tmp_path: Path) -> None:
    needed = ("az", "curl", "jq", "openssl", "zip")
    for missing in needed:
        tools = tmp_path / missing
        tools.mkdir()
        for tool in ("bash", "dirname", "mktemp", "rm"):
            (tools / tool).symlink_to(shutil.which(tool) or tool)
        for tool in set(needed) - {missing}:
            (tools / tool).symlink_to("/bin/true")
        failed = azure.deploy(PATH=str(tools))
        assert failed.returncode == 1
        assert failed.stderr == f"error: {missing} is not installed: install it and run this again\n"


@pytest.mark.parametrize(
    "script", ["deploy.sh", "destroy.sh", "rotateWebhookKey.sh", "rotateSubscriptionKeys.sh", "exportMonth.sh"]
)
def test_options_are_explained(azure: Azure, script: str) -> None:
    assert f"Usage: infra/{script} -g GROUP" in azure.run(script, "--help").stdout
    for arguments, error in (((), "no resource group"), (("-g",), "-g needs a value"), (("--group=rg",), "unknown")):
        failed = azure.run(script, *arguments)
        assert failed.returncode == 1
        assert failed.stderr.startswith(f"error: {error}")


def test_what_if_changes_nothing(azure: Azure) -> None:
    missing = azure.deploy("--what-if")
    assert missing.returncode == 0
    assert "There is no group rg" in missing.stdout
    (azure.state / "group").touch()
    azure.calls()
    assert "1 to create" in azure.deploy("--what-if").stdout
    assert azure.changes() == []


@pytest.mark.parametrize(
    ("secret", "variable"), [("pbx-api-key", "PBX_API_KEY"), ("crm-authorization", "CRM_AUTHORIZATION")]
)
def test_only_replace_keys_overwrites_a_key_of_the_vault(full_bridge: Azure, secret: str, variable: str) -> None:
    done = full_bridge.deploy(**{variable: "another"})
    assert done.returncode == 0, done.stderr
    assert full_bridge.files("secrets")[secret] in (PBX_KEY, CRM_HEADER)
    assert "--replace-keys" in done.stdout
    assert "another" not in done.stdout + done.stderr
    full_bridge.calls()
    full_bridge.deploy("--replace-keys", **{variable: "another"})
    assert full_bridge.files("secrets")[secret] == "another"
    # It is read at once.
    assert any("configreferences" in call for call in full_bridge.calls())


def test_changed_code_is_deployed_and_the_same_is_not(bridge: Azure) -> None:
    (bridge.project / "shared" / "events.py").write_text("changed\n")
    for is_sent in (True, False):
        bridge.deploy()
        assert any("config-zip" in call for call in bridge.calls()) == is_sent


def test_a_deleted_vault_is_recovered_first(azure: Azure) -> None:
    vault = "/subscriptions/1/resourceGroups/RG/providers/Microsoft.KeyVault/vaults/"
    (azure.state / "deleted-vault").write_text(f"kv-other\t{vault.replace('RG', 'other')}\nkv-pbx\t{vault}kv-pbx\n")
    # Its secrets come back with it.
    assert azure.deploy().returncode == 0
    verbs = [call.split(" --output")[0] for call in azure.calls()]
    assert verbs.index("az keyvault recover --name kv-pbx") < [verb.split(" --")[0] for verb in verbs].index(
        "az deployment group create"
    )


# Workflows


def test_workflows_come_last(full_run: FirstRun) -> None:
    made = [call for call in full_run.calls if "deployment group create" in call]
    assert [re.findall(r"deployLogicApps=(\w+)", call)[0] for call in made] == ["false", "false", "true"]
    assert full_run.calls.index(made[-1]) > max(
        i for i, call in enumerate(full_run.calls) if call.endswith("/api/ops/status")
    )


def test_changed_workflows_are_deployed_again(full_bridge: Azure) -> None:
    def deployed(**environment: str) -> bool:
        assert full_bridge.deploy(**environment).returncode == 0
        return any("deployLogicApps=true" in call for call in full_bridge.calls())

    assert not deployed()
    file = full_bridge.project / "infra" / "workflows" / "missedCallMail.json"
    file.write_text(file.read_text() + "\n")
    assert deployed()
    os.utime(full_bridge.state / "secrets" / "logicapps-key", (1, 1))
    assert deployed()
    (full_bridge.state / "workflows").unlink()
    assert deployed()
    full_bridge.add_parameters("param workflowMailTo = readEnvironmentVariable('MAIL_TO', '')")
    assert not deployed()
    assert deployed(MAIL_TO="someone@contoso.com")


# Waiting


SIGN_IN = "AADSTS700024: Client assertion is not within its valid time range."


@pytest.mark.parametrize(
    ("step", "error"),
    [
        ("keyvault secret list", SIGN_IN),
        ("configreferences", "(Forbidden) ForbiddenByFirewall: Client address is not authorized"),
        ("source config-zip", "ERROR: No matching distribution found for azure-functions"),
    ],
)
def test_permanent_errors_are_not_retried(bridge: Azure, step: str, error: str) -> None:
    (bridge.project / "host.json").write_text("changed\n")
    failed = bridge.deploy(AZ_FAIL=step, AZ_ERROR=error)
    assert failed.returncode == 1
    assert error in failed.stderr
    assert "waiting does not help" in failed.stderr
    assert "not yet" not in failed.stdout


@pytest.mark.parametrize(("step", "times"), [("keyvault secret list", 39), ("source config-zip", 12), ("listkeys", 12)])
def test_transient_errors_are_retried(azure: Azure, step: str, times: int) -> None:
    errors = "(Forbidden) Caller is not authorized: ForbiddenByRbac. AADSTS90033: A transient error has occurred"
    done = azure.deploy(PBX_API_KEY=PBX_KEY, AZ_FAIL=step, AZ_TIMES=str(times), AZ_ERROR=errors)
    assert done.returncode == 0, done.stderr
    assert same_keys(azure)


def test_a_deployment_that_still_runs_is_waited_for_and_gone_on_from(azure: Azure) -> None:
    error = "(DeploymentActive) The deployment with resource id bridge-pbx cannot be saved"
    done = azure.deploy(PBX_API_KEY=PBX_KEY, AZ_FAIL="deployment group create", AZ_TIMES="30", AZ_ERROR=error)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("A deployment still runs") == 1
    assert same_keys(azure)


def test_a_deployment_is_retried_for_transient_errors_only(bridge: Azure) -> None:
    for error, tries in (("(InvalidTemplate) wrong", 1), ("PrincipalNotFound", 6), ("(ServiceUnavailable) 503", 6)):
        failed = bridge.deploy(AZ_FAIL="deployment group create", AZ_ERROR=error)
        assert "error: the deployment bridge-pbx " in failed.stderr
        assert len(deployments(bridge)) == tries
    failing = {"AZ_FAIL": "deployment group create", "AZ_ERROR": "(RoleDefinitionDoesNotExist)", "AZ_TIMES": "3"}
    (bridge.state / "failed").unlink()
    assert bridge.deploy(**failing).returncode == 0


def test_a_slow_start_does_not_upload_the_code_again(azure: Azure) -> None:
    error = "Deployment was successful, but the app appears to be unhealthy"
    failed = azure.deploy(PBX_API_KEY=PBX_KEY, AZ_FAIL="config-zip", AZ_ERROR=error)
    assert sum("config-zip" in call for call in azure.calls()) == 1
    assert "The code has arrived" in failed.stdout
    # The app did not start: its host's errors, and where to read more.
    assert "no module named shared" in failed.stderr
    assert "az functionapp log deployment show" in failed.stderr


def test_the_progress_of_a_deployment_is_printed(bridge: Azure) -> None:
    done = bridge.deploy(AZ_SLOW="deployment group create", PROGRESS_SECONDS="1")
    assert done.stdout.startswith("Subscription Contoso (00000000-0000-0000-0000-000000000001), tenant ")
    assert re.search(r"^\d\d:\d\d:\d\d  making kv-pbx$", done.stdout, re.MULTILINE)


# Properties that no later deployment can change


def test_a_live_bridge_keeps_its_data_account_open_until_it_runs_in_the_network(full_run: FirstRun) -> None:
    calls = full_run.calls
    closing = [re.findall(r"closeDataAccount=(\w+)", call)[0] for call in calls if "deployment group create" in call]
    assert closing == ["false", "true", "true"]
    closed = next(i for i, call in enumerate(calls) if "closeDataAccount=true" in call)
    assert next(i for i, call in enumerate(calls) if call.endswith("/api/ops/status")) < closed


def test_a_closed_data_account_stays_closed_and_a_locked_policy_is_left_alone(full_bridge: Azure) -> None:
    for state, locked in (("Locked", "true"), ("Unlocked", "false")):
        (full_bridge.state / "policy").write_text(state)
        full_bridge.deploy()
        (deployment,) = deployments(full_bridge)
        assert f"closeDataAccount=true recordingPolicyLocked={locked} " in deployment


@pytest.mark.parametrize(
    ("has", "wants", "migrates"),
    [
        ("Standard_LRS", "Standard_ZRS", "Standard_ZRS"),
        ("Standard_GRS", "Standard_ZRS", "Standard_GZRS"),
        ("Standard_ZRS", "Standard_LRS", "Standard_LRS"),
        ("Standard_GZRS", "Standard_LRS", "Standard_GRS"),
        ("Standard_GRS", "Standard_LRS", None),
        ("Standard_GZRS", "Standard_ZRS", None),
    ],
)
def test_a_change_of_zones_is_refused_with_the_migration_command(
    bridge: Azure, has: str, wants: str, migrates: str | None
) -> None:
    (bridge.state / "data-account").write_text(f"stpbxd\twesteurope\t{has}\tEnabled\n")
    if wants == "Standard_ZRS":
        bridge.add_parameters("param dataStorageSku = 'Standard_ZRS'")
    done = bridge.deploy()
    assert (done.returncode == 0) == (migrates is None), done.stderr
    if migrates:
        migration = "az storage account migration start --account-name stpbxd --resource-group rg --sku"
        assert f"{migration} {migrates} " in done.stderr
        assert bridge.changes() == []


def test_another_region_is_refused_at_once(bridge: Azure) -> None:
    done = bridge.run("deploy.sh", "-g", "rg", "-l", "North Europe")
    assert "give -l westeurope" in done.stderr
    assert bridge.changes() == []
    # A region in the portal's spelling, and a group in another spelling than Azure's.
    assert bridge.run("deploy.sh", "-g", "RG", "-l", "West Europe").returncode == 0
    calls = [call for call in bridge.calls() if not call.startswith("az group show")]
    assert not [call for call in calls if re.search(r"resource-group RG|resourceGroups/RG", call)]
    assert [call for call in calls if "group create" in call and "location=westeurope" in call]


def test_former_deployers_lose_the_vault(bridge: Azure) -> None:
    former = "/providers/Microsoft.KeyVault/vaults/kv-pbx/providers/Microsoft.Authorization/roleAssignments/1"
    (bridge.state / "former-roles").write_text(former + "\n")
    assert bridge.deploy().returncode == 0
    assert [call for call in bridge.calls() if f"--method delete --url {former}" in call]
    described = re.search(r"description=='([^']+)'", (INFRA / "deploy.sh").read_text())
    assert described is not None
    assert f"description: '{described[1]}'" in (INFRA / "modules" / "access.bicep").read_text()


# A person's choices


def test_nobody_runs_unwatched_by_accident(azure: Azure) -> None:
    file = azure.project / "infra" / "main.bicepparam"
    file.write_text(file.read_text().replace("operations@contoso.com", "operations@example.com"))
    failed = azure.deploy(PBX_API_KEY=PBX_KEY)
    assert failed.returncode == 1
    assert "--alert-email" in failed.stderr
    assert "--no-alerts" in failed.stderr
    assert azure.changes() == []
    azure.deploy("--alert-email", "ops@contoso.com", PBX_API_KEY=PBX_KEY)
    # The next run knows, and --no-alerts unsays it.
    azure.deploy(AZ_LAST_EMAIL="ops@contoso.com")
    assert ["alertEmail=ops@contoso.com" in call for call in deployments(azure)] == [True, True]
    unwatched = azure.deploy("--no-alerts", AZ_LAST_EMAIL="ops@contoso.com")
    assert "alertEmail= " in deployments(azure)[0]
    assert "nobody gets a message" in unwatched.stdout


def test_retention_is_chosen_once(bridge: Azure) -> None:
    assert bridge.deploy("--retention-months", "12x").returncode == 1
    bridge.deploy("--retention-months", "24")
    bridge.deploy(AZ_LAST_MONTHS="24")
    bridge.deploy()
    assert [re.findall(r"retentionMonths=(\d+)", call)[0] for call in deployments(bridge)] == ["24", "24", "0"]


def test_the_two_halves_make_a_whole(azure: Azure) -> None:
    first = azure.deploy("--infrastructure-only", PBX_API_KEY=PBX_KEY)
    assert first.returncode == 0, first.stderr
    assert not [call for call in azure.calls() if "keyvault secret" in call]
    # The placeholders of the vault are no keys.
    assert "put it into PBX_API_KEY" in azure.deploy().stderr
    assert azure.changes() == []
    second = azure.deploy("--skip-infrastructure", PBX_API_KEY=PBX_KEY)
    assert second.returncode == 0, second.stderr
    assert same_keys(azure)


def test_invalid_values_are_refused_before_anything_changes(azure: Azure) -> None:
    wrong = {
        "pbxBaseUrl": "'\"https://pbx.example/\"'",
        "workflowMailTo": "'#{MAIL}#'",
        "mediaHosts": "['$(HOST)']",
        "crmUrl": "'<your-url>'",
        "boardClientId": "'null'",
    }
    azure.add_parameters(*(f"param {name} = {value}" for name, value in wrong.items()))
    azure.add_parameters("param defaultRegion = 'UK'", "param dialCountries = ['LV', 'EU']")
    failed = azure.deploy(PBX_API_KEY=PBX_KEY)
    assert failed.returncode == 1
    assert [name for name in wrong if f"{name} is a placeholder or a text in quotes" not in failed.stderr] == []
    assert re.findall(r"(\w+) is no country code: write", failed.stderr) == ["UK", "EU"]
    assert azure.calls() == []


@pytest.mark.parametrize("name", ["tele-2", "telephony"])
def test_a_name_that_no_resource_could_have_is_refused_at_once(azure: Azure, name: str) -> None:
    parameters = azure.project / "infra" / "other.bicepparam"
    parameters.write_text(f"using 'main.bicep'\n\nparam name = '{name}'\n")
    failed = azure.deploy("-p", str(parameters), PBX_API_KEY=PBX_KEY)
    assert failed.returncode == 1
    assert "two to six lower-case letters" in failed.stderr or "does not compile" in failed.stderr
    assert azure.calls() == []


def test_a_subscription_without_cost_management_has_no_budget_and_is_deployed(azure: Azure) -> None:
    azure.add_parameters("param monthlyBudget = 200")
    (azure.state / "group").touch()
    done = azure.deploy(PBX_API_KEY=PBX_KEY, AZ_FAIL="Microsoft.Consumption/budgets")
    assert done.returncode == 0, done.stderr
    assert "No budget is made" in done.stdout
    assert "monthlyBudget=null" in deployments(azure)[0]


# The app's answers


def test_problems_of_the_app_are_printed(bridge: Azure) -> None:
    answer = '{"created":[],"problem":"the PBX holds 20 webhooks already","endedSince":null}'
    failed = bridge.deploy(AZ_FAIL="webhooks/sync", AZ_SAYS=answer)
    assert "func-pbx: the PBX holds 20 webhooks already\n" in failed.stdout
    assert "registering the webhooks still fails after" in failed.stderr
    problem = "The PBX refused the webhook CallStarted: 409."
    (bridge.state / "status").write_text(json.dumps({"problems": [problem]}))
    assert bridge.deploy().stdout.endswith(f"{problem}\n")


def test_the_address_of_a_network_is_printed_for_the_key_s_ip_list(full_bridge: Azure) -> None:
    assert "203.0.113.7/32" in full_bridge.deploy(AZ_ADDRESS="203.0.113.7").stdout


def test_a_missing_master_key_is_an_error(bridge: Azure) -> None:
    failed = bridge.deploy(AZ_MASTER_KEY="")
    assert failed.returncode == 1
    assert "registering the webhooks still fails" in failed.stderr
    assert "error: func-pbx gave no master key" in failed.stderr


def test_a_post_to_the_app_has_a_length(azure: Azure) -> None:
    seen: list[tuple[str, str | None]] = []

    class App(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            seen.append((self.headers["x-functions-key"], self.headers["Content-Length"]))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Write nothing."""

    call = re.search(r"api POST /api/ops/webhooks/sync.*", (INFRA / "deploy.sh").read_text())
    assert call is not None
    with HTTPServer(("127.0.0.1", 0), App) as server:
        Thread(target=server.handle_request, daemon=True).start()
        script = f"""
            source {azure.project}/infra/azure.sh
            host_key() {{ echo secret; }}
            base_url=http://127.0.0.1:{server.server_port} {call[0]}
        """
        done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 0, done.stderr
    assert seen == [("secret", "0")]
