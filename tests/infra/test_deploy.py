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
from threading import Thread
from typing import TYPE_CHECKING

import pytest

from tests.infra.conftest import CHANGES, PBX_KEY
from tests.infra.template import INFRA

if TYPE_CHECKING:
    from pathlib import Path

    from tests.infra.conftest import Azure

STEPS = (
    "az version",
    "az account show",
    "az account get-access-token",
    "az group exists",
    "az provider list",
    "az functionapp list-flexconsumption-runtimes",
    "az rest --method get",
    "az keyvault list-deleted",
    "az group create",
    "az deployment group create",
    "az deployment group show",
    "az keyvault secret list",
    "az keyvault secret set --vault-name kv-pbx --name pbx-api-key",
    "az keyvault secret set --vault-name kv-pbx --name pbx-webhook-key",
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
    pytest.param({"AZ_FAIL": "account show"}, "az login", id="not signed in"),
    pytest.param(
        {"AZ_PROVIDERS": "Web Storage"}, "az provider register --wait --namespace Microsoft.App", id="provider"
    ),
    pytest.param({"AZ_PYTHONS": "3.10 3.11"}, "choose another region", id="no such Python in the region"),
    pytest.param({"AZ_MAY_ASSIGN": "0"}, "ask for Owner", id="may not assign roles"),
    pytest.param({"AZ_FAIL": "get-access-token"}, "az login", id="no token for the vault"),
    pytest.param({"PBX_API_KEY": ""}, "put it into PBX_API_KEY", id="no key"),
)


def same_keys(azure: Azure) -> bool:
    """True if the host and the PBX have the keys that the vault holds."""
    secrets, keys = azure.files("secrets"), azure.files("keys")
    return (
        keys["host.logicapps"] == secrets["logicapps-key"]
        and secrets["pbx-api-key"] == PBX_KEY
        and (azure.state / "pbx").read_text() == secrets["pbx-webhook-key"]
    )


def test_first_run_ends_with_a_registered_bridge(azure: Azure) -> None:
    done = azure.deploy(PBX_API_KEY=PBX_KEY)
    assert done.returncode == 0, done.stderr
    assert same_keys(azure)
    with zipfile.ZipFile(azure.state / "app.zip") as code:
        assert sorted(code.namelist()) == [
            "board/board.css",
            "function_app.py",
            "functions/receivers.py",
            "host.json",
            "requirements.txt",
            "shared/phones.py",
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
    changes = azure.changes()
    # Each states what there should be, and finds it there.
    assert [change.split(" --")[0] for change in changes] == [
        "az deployment group create",
        "az rest",
        "curl",
    ]
    assert "/refresh" in changes[1]
    assert changes[2].endswith("/api/ops/webhooks/sync")
    assert (azure.files("secrets"), azure.files("keys")) == before


@pytest.mark.parametrize("step", [step for step in STEPS if CHANGES.search(f"{step} ")])
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
    failed = azure.deploy(**{"PBX_API_KEY": PBX_KEY} | environment)
    errors = [line for line in failed.stderr.splitlines() if not line.startswith("ERROR: made")]
    assert failed.returncode == 1
    assert len(errors) == 1
    assert errors[0].startswith("error: ")
    assert fix in errors[0]
    assert azure.changes() == []


@pytest.mark.parametrize("missing", ["az", "curl", "jq", "openssl", "zip"])
def test_a_missing_tool_is_named(azure: Azure, tmp_path: Path, missing: str) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for tool in ("awk", "bash", "cat", "curl", "dirname", "mktemp", "openssl", "rm", "sed", "tr"):
        (tools / tool).symlink_to(shutil.which(tool) or tool)
    for tool in ("az", "jq", "zip"):
        (tools / tool).symlink_to("/bin/true")
    (tools / missing).unlink()
    failed = azure.deploy(PATH=str(tools))
    assert failed.returncode == 1
    assert failed.stderr == f"error: {missing} is not installed: install it and run this again\n"


def test_a_dry_run_prints_what_a_first_run_does_and_calls_nothing(azure: Azure) -> None:
    assert "put it into PBX_API_KEY" in azure.deploy("--dry-run").stderr
    dry = azure.deploy("--dry-run", PBX_API_KEY=PBX_KEY)
    assert dry.returncode == 0, dry.stderr
    assert azure.calls() == []
    azure.deploy(PBX_API_KEY=PBX_KEY)
    printed = [line for line in dry.stdout.splitlines() if line.startswith(("az ", "curl "))]
    assert [line.split(" --")[0] for line in printed] == [call.split(" --")[0] for call in azure.calls()]


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
    assert missing.returncode == 0
    assert "There is no group rg" in missing.stdout
    (azure.state / "group").touch()
    azure.calls()
    shown = azure.deploy("--what-if")
    assert "1 to create" in shown.stdout
    assert azure.changes() == []


def test_a_new_pbx_key_replaces_the_old_where_that_is_said_and_is_read_at_once(azure: Azure) -> None:
    azure.deploy(PBX_API_KEY="old")
    azure.calls()
    azure.deploy("--replace-keys", PBX_API_KEY=PBX_KEY)
    assert azure.files("secrets")["pbx-api-key"] == PBX_KEY
    assert any("configreferences" in call for call in azure.calls())


@pytest.mark.parametrize(
    ("secret", "variable"), [("pbx-api-key", "PBX_API_KEY"), ("crm-authorization", "CRM_AUTHORIZATION")]
)
def test_a_stale_key_of_the_environment_replaces_no_key_of_the_vault(azure: Azure, secret: str, variable: str) -> None:
    azure.add_parameters("param deployLogicApps = true", "param newContactCrm = true")
    azure.deploy(PBX_API_KEY=PBX_KEY, CRM_AUTHORIZATION="Bearer first")
    (azure.state / "secrets" / secret).write_text("rotated by hand")
    done = azure.deploy(**{variable: "stale"})
    assert done.returncode == 0, done.stderr
    assert azure.files("secrets")[secret] == "rotated by hand"
    assert "--replace-keys" in done.stdout
    assert "stale" not in done.stdout + done.stderr


def test_changed_code_is_deployed_and_the_same_is_not(azure: Azure) -> None:
    azure.deploy(PBX_API_KEY=PBX_KEY)
    azure.calls()
    (azure.project / "shared" / "events.py").write_text("changed\n")
    azure.deploy()
    assert any("config-zip" in call for call in azure.calls())
    azure.deploy()
    assert not any("config-zip" in call for call in azure.calls())


def test_a_deleted_vault_is_recovered_first(azure: Azure) -> None:
    vault = "/subscriptions/1/resourceGroups/RG/providers/Microsoft.KeyVault/vaults/"
    (azure.state / "deleted-vault").write_text(f"kv-pbx\t{vault}kv-pbx\n")
    # Its secrets come back with it.
    assert azure.deploy().returncode == 0
    verbs = [call.split(" --")[0] for call in azure.calls()]
    assert verbs.index("az keyvault recover") < verbs.index("az deployment group create")


WORKFLOWS = ("param deployLogicApps = true", "param missedCallMail = true")


def workflow_deployments(azure: Azure) -> list[str]:
    """Deployments that put workflows there, since calls were last asked for."""
    return [call for call in azure.calls() if "deployLogicApps=true" in call]


def test_workflows_come_last_and_only_where_the_parameters_ask_for_them(azure: Azure) -> None:
    azure.add_parameters(*WORKFLOWS)
    azure.deploy(PBX_API_KEY=PBX_KEY)
    calls = azure.calls()
    deployments = [call for call in calls if "deployment group create" in call]
    assert [re.findall(r"deployLogicApps=(\w+)", call)[0] for call in deployments] == ["false", "true"]
    assert calls.index(deployments[-1]) > next(i for i, call in enumerate(calls) if call.endswith("/api/ops/status"))


def test_a_second_run_that_changes_nothing_leaves_workflows_alone(azure: Azure) -> None:
    azure.add_parameters(*WORKFLOWS)
    azure.deploy(PBX_API_KEY=PBX_KEY)
    assert workflow_deployments(azure)
    assert azure.deploy().returncode == 0
    assert workflow_deployments(azure) == []


@pytest.mark.parametrize("changed", ["parameter", "workflow", "key", "environment", "deleted"])
def test_workflows_are_deployed_again_where_something_of_theirs_has_changed(azure: Azure, changed: str) -> None:
    azure.add_parameters(*WORKFLOWS, "param workflowMailTo = readEnvironmentVariable('MAIL_TO', '')")
    azure.deploy(PBX_API_KEY=PBX_KEY)
    azure.calls()
    if changed == "parameter":
        azure.add_parameters("param crmUrl = 'https://crm.example.com/'")
    elif changed == "workflow":
        file = azure.project / "infra" / "workflows" / "missedCallMail.json"
        file.write_text(file.read_text() + "\n")
    elif changed == "key":
        os.utime(azure.state / "secrets" / "logicapps-key", (1, 1))
    elif changed == "deleted":
        (azure.state / "workflows").unlink()
    azure.deploy(**({"MAIL_TO": "someone"} if changed == "environment" else {}))
    assert workflow_deployments(azure)


@pytest.mark.parametrize(
    "line", ["param name = 'tele2'", "param name = 'tele2' // the other one", "param name='tele2'"]
)
def test_another_name_is_another_bridge(azure: Azure, line: str) -> None:
    parameters = azure.project / "infra" / "other.bicepparam"
    parameters.write_text(f"using 'main.bicep'\n\n{line}\n")
    azure.deploy("--no-alerts", "-p", str(parameters), PBX_API_KEY=PBX_KEY)
    assert any("deployment group create --resource-group rg --name bridge-tele2" in call for call in azure.calls())


@pytest.mark.parametrize("value", ["'Tele2'", "'tele-2'", "'telephony'", "readEnvironmentVariable('NAME')"])
def test_a_name_that_no_resource_could_have_is_refused_at_once(azure: Azure, value: str) -> None:
    parameters = azure.project / "infra" / "other.bicepparam"
    parameters.write_text(f"using 'main.bicep'\n\nparam name = {value}\n")
    failed = azure.deploy("-p", str(parameters), PBX_API_KEY=PBX_KEY)
    assert failed.returncode == 1
    assert "two to six lower-case letters" in failed.stderr or "does not compile" in failed.stderr
    assert azure.calls() == []


def test_what_the_app_finds_wrong_is_said(azure: Azure) -> None:
    answer = '{"created":[],"problem":"the PBX holds 20 webhooks already","endedSince":null}'
    failed = azure.deploy(PBX_API_KEY=PBX_KEY, AZ_FAIL="webhooks/sync", AZ_SAYS=answer)
    assert "func-pbx: the PBX holds 20 webhooks already\n" in failed.stdout
    assert "registering the webhooks still fails after" in failed.stderr


def test_the_one_address_is_printed_for_the_key_s_ip_list(azure: Azure) -> None:
    assert "203.0.113.7/32" in azure.deploy(PBX_API_KEY=PBX_KEY, AZ_ADDRESS="203.0.113.7").stdout


def test_no_master_key_is_an_error_and_never_fine(azure: Azure) -> None:
    failed = azure.deploy(PBX_API_KEY=PBX_KEY, AZ_MASTER_KEY="")
    assert failed.returncode == 1
    assert "the key of the API still fails" in failed.stderr
    assert "error: func-pbx gave no master key" in failed.stderr


SIGN_IN = "AADSTS700024: Client assertion is not within its valid time range."


@pytest.mark.parametrize(
    ("step", "error"),
    [
        ("keyvault secret list", SIGN_IN),
        ("keyvault secret list", "(Forbidden) ForbiddenByFirewall: Client address is not authorized"),
        ("configreferences", "Please run 'az login' to setup account."),
        ("source config-zip", "ERROR: No matching distribution found for azure-functions"),
        ("keyvault secret set", "az: error: unrecognized arguments: --valu"),
    ],
)
def test_what_waiting_cannot_cure_is_not_waited_for(azure: Azure, step: str, error: str) -> None:
    failed = azure.deploy(PBX_API_KEY=PBX_KEY, AZ_FAIL=step, AZ_ERROR=error)
    assert failed.returncode == 1
    assert error in failed.stderr
    assert "waiting does not help" in failed.stderr
    assert "not yet" not in failed.stdout


@pytest.mark.parametrize(
    ("step", "times"),
    [
        ("keyvault secret list", 39),
        ("keyvault secret set", 8),
        ("configreferences", 8),
        ("source config-zip", 12),
        ("listkeys", 12),
        ("tag update", 3),
    ],
)
def test_what_takes_time_is_waited_for(azure: Azure, step: str, times: int) -> None:
    errors = "(Forbidden) Caller is not authorized: ForbiddenByRbac. AADSTS90033: A transient error has occurred"
    done = azure.deploy(PBX_API_KEY=PBX_KEY, AZ_FAIL=step, AZ_TIMES=str(times), AZ_ERROR=errors)
    assert done.returncode == 0, done.stderr
    assert same_keys(azure)


def test_a_deployment_that_still_runs_is_waited_for_and_gone_on_from(azure: Azure) -> None:
    error = (
        "(DeploymentActive) The deployment with resource id bridge-pbx cannot be saved, because this would overwrite"
    )
    done = azure.deploy(PBX_API_KEY=PBX_KEY, AZ_FAIL="deployment group create", AZ_TIMES="30", AZ_ERROR=error)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("A deployment still runs") == 1
    assert same_keys(azure)


def test_a_deployment_that_failed_is_not_tried_again(azure: Azure) -> None:
    azure.deploy(PBX_API_KEY=PBX_KEY, AZ_FAIL="deployment group create", AZ_ERROR="(InvalidTemplate) wrong")
    assert sum("deployment group create" in call for call in azure.calls()) == 1


NETWORK = "param deployNetwork = true"


def test_a_live_bridge_keeps_its_data_account_open_until_it_runs_in_the_network(bridge: Azure) -> None:
    bridge.add_parameters(NETWORK)
    done = bridge.deploy()
    assert done.returncode == 0, done.stderr
    calls = bridge.calls()
    closing = [re.findall(r"closeDataAccount=(\w+)", call)[0] for call in calls if "deployment group create" in call]
    assert closing == ["false", "true"]
    closed = next(i for i, call in enumerate(calls) if "closeDataAccount=true" in call)
    assert next(i for i, call in enumerate(calls) if call.endswith("/api/ops/status")) < closed
    # Closed, it is never opened again by a run.
    bridge.deploy()
    assert not [call for call in bridge.calls() if "closeDataAccount=false" in call]


@pytest.mark.parametrize(
    ("has", "wants", "migrates"),
    [
        ("Standard_LRS", "Standard_ZRS", "Standard_ZRS"),
        ("Standard_LRS", "Standard_GZRS", "Standard_ZRS"),
        ("Standard_GRS", "Standard_ZRS", "Standard_GZRS"),
        ("Standard_ZRS", "Standard_LRS", "Standard_LRS"),
        ("Standard_GZRS", "Standard_GRS", "Standard_GRS"),
        ("Standard_LRS", "Standard_GRS", None),
        ("Standard_ZRS", "Standard_GZRS", None),
        ("Standard_GRS", "Standard_LRS", None),
        ("Standard_GZRS", "Standard_ZRS", None),
        ("Standard_ZRS", "Standard_ZRS", None),
    ],
)
def test_a_change_of_zones_is_said_first_with_the_migration(
    bridge: Azure, has: str, wants: str, migrates: str | None
) -> None:
    (bridge.state / "data-account").write_text(f"stpbxd\twesteurope\t{has}\tEnabled\n")
    bridge.add_parameters(f"param dataStorageSku = '{wants}'")
    done = bridge.deploy()
    if migrates is None:
        assert done.returncode == 0, done.stderr
        return
    assert done.returncode == 1
    assert (
        f"az storage account migration start --account-name stpbxd --resource-group rg --sku {migrates} " in done.stderr
    )
    assert bridge.changes() == []


@pytest.mark.parametrize(("state", "locked"), [("Locked", "true"), ("Unlocked", "false"), (None, "false")])
def test_a_locked_policy_is_left_alone(bridge: Azure, state: str | None, locked: str) -> None:
    bridge.add_parameters("param recordingImmutabilityDays = 365")
    if state:
        (bridge.state / "policy").write_text(state)
    bridge.deploy()
    assert all(f"recordingPolicyLocked={locked}" in call for call in bridge.calls() if "group create" in call)


@pytest.mark.parametrize(
    ("region", "fix"),
    [("westeurope", None), ("West Europe", None), ("northeurope", "give -l westeurope"), ("North Europe", "give -l")],
)
def test_another_region_is_said_at_once(bridge: Azure, region: str, fix: str | None) -> None:
    done = bridge.run("deploy.sh", "-g", "rg", "-l", region)
    changes = bridge.changes()
    if fix is None:
        assert done.returncode == 0, done.stderr
        assert all("location=westeurope" in change for change in changes if "group create" in change)
        return
    assert done.returncode == 1
    assert fix in done.stderr
    assert changes == []


def test_a_group_is_spelled_as_azure_spells_it(bridge: Azure) -> None:
    done = bridge.run("deploy.sh", "-g", "RG", "-l", "westeurope")
    assert done.returncode == 0, done.stderr
    calls = [call for call in bridge.calls() if not call.startswith(("az group exists", "az group show"))]
    assert not [call for call in calls if re.search(r"resource-group RG|resourceGroups/RG", call)]


def test_every_answer_that_is_read_is_asked_for_in_a_form_of_its_own(azure: Azure) -> None:
    azure.deploy(PBX_API_KEY=PBX_KEY)
    azure.deploy("--what-if")
    calls = [call for call in azure.calls() if call.startswith("az ") and "what-if" not in call]
    quiet = ("az account get-access-token", "az keyvault recover", "az bicep version")
    assert not [call for call in calls if "--output " not in call and not call.startswith(quiet)]


def test_former_deployers_lose_the_vault(bridge: Azure) -> None:
    former = "/providers/Microsoft.KeyVault/vaults/kv-pbx/providers/Microsoft.Authorization/roleAssignments/1"
    (bridge.state / "former-roles").write_text(former + "\n")
    assert bridge.deploy().returncode == 0
    assert [call for call in bridge.calls() if f"--method delete --url {former}" in call]


def test_the_template_says_whose_role_ends() -> None:
    described = re.search(r"description=='([^']+)'", (INFRA / "deploy.sh").read_text())
    assert described is not None
    assert f"description: '{described[1]}'" in (INFRA / "modules" / "access.bicep").read_text()


def test_nobody_runs_unwatched_by_accident(azure: Azure) -> None:
    file = azure.project / "infra" / "main.bicepparam"
    watched = file.read_text()
    for email in ("", "operations@example.com"):
        file.write_text(watched.replace("operations@contoso.com", email))
        failed = azure.deploy(PBX_API_KEY=PBX_KEY)
        assert failed.returncode == 1
        assert "--alert-email" in failed.stderr
        assert "--no-alerts" in failed.stderr
        assert azure.changes() == []
    azure.deploy("--alert-email", "ops@contoso.com", PBX_API_KEY=PBX_KEY)
    assert [call for call in azure.calls() if "alertEmail=ops@contoso.com" in call]
    # The next run knows, and --no-alerts unsays it.
    azure.deploy(AZ_LAST_EMAIL="ops@contoso.com")
    assert [call for call in azure.calls() if "alertEmail=ops@contoso.com" in call]
    unwatched = azure.deploy("--no-alerts", AZ_LAST_EMAIL="ops@contoso.com")
    assert all("alertEmail= " in call for call in azure.calls() if "group create" in call)
    assert "nobody gets a message" in unwatched.stdout


def test_retention_is_passed_on_where_the_template_has_it(azure: Azure) -> None:
    assert azure.deploy("--retention-months", "12x", PBX_API_KEY=PBX_KEY).returncode == 1
    azure.deploy("--retention-months", "24", PBX_API_KEY=PBX_KEY)
    assert [call for call in azure.calls() if "retentionMonths=24" in call]
    azure.deploy(AZ_LAST_MONTHS="24")
    assert [call for call in azure.calls() if "retentionMonths=24" in call]
    azure.deploy()
    assert [call for call in azure.calls() if "retentionMonths=0" in call]


def test_the_two_halves_make_a_whole(azure: Azure) -> None:
    first = azure.deploy("--infrastructure-only", PBX_API_KEY=PBX_KEY)
    assert first.returncode == 0, first.stderr
    assert not [call for call in azure.calls() if "keyvault secret" in call]
    second = azure.deploy("--skip-infrastructure", PBX_API_KEY=PBX_KEY)
    assert second.returncode == 0, second.stderr
    assert same_keys(azure)


def test_a_subscription_key_is_a_fernet_key(bridge: Azure) -> None:
    key = bridge.files("secrets")["subscription-keys"]
    assert len(base64.urlsafe_b64decode(key)) == 32


def test_a_post_to_the_app_has_a_length(azure: Azure) -> None:
    seen: list[tuple[str, str | None]] = []

    class App(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            seen.append((self.headers["x-functions-key"], self.headers["Content-Length"]))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Write nothing."""

    with HTTPServer(("127.0.0.1", 0), App) as server:
        Thread(target=server.handle_request, daemon=True).start()
        script = f"""
            source {azure.project}/infra/azure.sh
            read_host_keys() {{ master_key=secret; }}
            base_url=http://127.0.0.1:{server.server_port} api POST /api/ops/webhooks/sync
        """
        done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 0, done.stderr
    assert seen == [("secret", "0")]


SCRIPTS = ["deploy.sh", "destroy.sh", "rotateWebhookKey.sh", "rotateSubscriptionKeys.sh", "exportMonth.sh"]


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize(("arguments", "status"), [(["--help"], 0), ([], 1), (["-g"], 1), (["--nonsense"], 1)])
def test_options_are_explained(azure: Azure, script: str, arguments: list[str], status: int) -> None:
    done = azure.run(script, *arguments)
    assert done.returncode == status
    assert ("Usage" in done.stdout) if status == 0 else done.stderr.startswith("error: ")


@pytest.mark.parametrize("error", ["(RoleDefinitionDoesNotExist)", "PrincipalNotFound", "(ServiceUnavailable) 503"])
def test_a_first_deployment_outlasts_what_azure_does_not_know_yet(azure: Azure, error: str) -> None:
    failing = {"AZ_FAIL": "deployment group create", "AZ_ERROR": error}
    assert azure.deploy(PBX_API_KEY=PBX_KEY, AZ_TIMES="3", **failing).returncode == 0
    (azure.state / "failed").unlink()
    azure.calls()
    assert "failed: see above" in azure.deploy(**failing).stderr
    assert sum("deployment group create" in call for call in azure.calls()) == 6


def test_an_app_that_comes_up_late_is_not_sent_its_code_again(azure: Azure) -> None:
    error = "Deployment was successful, but the app appears to be unhealthy"
    failed = azure.deploy(PBX_API_KEY=PBX_KEY, AZ_FAIL="config-zip", AZ_ERROR=error)
    assert sum("config-zip" in call for call in azure.calls()) == 1
    assert "The code has arrived" in failed.stdout
    # Nothing came up: what its host says, and where to read on.
    assert "no module named shared" in failed.stderr
    assert "az functionapp log deployment show" in failed.stderr


def test_what_azure_makes_is_said_while_it_works(azure: Azure) -> None:
    done = azure.deploy(PBX_API_KEY=PBX_KEY, AZ_SLOW="deployment group create", PROGRESS_SECONDS="1")
    assert done.stdout.startswith("Subscription Contoso (00000000-0000-0000-0000-000000000001), tenant ")
    assert re.search(r"^\d\d:\d\d:\d\d  making kv-pbx$", done.stdout, re.MULTILINE)


def test_the_problems_that_the_app_reports_are_printed_last(bridge: Azure) -> None:
    assert "Status     no problems" in bridge.deploy().stdout
    problem = "The PBX refused the webhook CallStarted: 409."
    (bridge.state / "status").write_text(json.dumps({"problems": [problem]}))
    assert bridge.deploy().stdout.endswith(f"{problem}\n")


@pytest.mark.parametrize(
    "line",
    [
        "param pbxBaseUrl = '\"https://pbx.example/\"'",
        "param workflowMailTo = '#{MAIL}#'",
        "param mediaHosts = ['$(HOST)']",
        "param crmUrl = '<your-url>'",
        "param alertEmail = 'null'",
        "param defaultRegion = 'UK'",
        "param dialCountries = ['LV', 'EU']",
    ],
)
def test_a_value_that_cannot_be_right_is_refused_before_anything_changes(azure: Azure, line: str) -> None:
    file = azure.project / "infra" / "main.bicepparam"
    name = line.split()[1]
    file.write_text("".join(row for row in file.read_text().splitlines(keepends=True) if name not in row))
    azure.add_parameters(line)
    failed = azure.deploy("--no-alerts", PBX_API_KEY=PBX_KEY)
    assert failed.returncode == 1
    assert re.search(rf"error: ({name}|UK|EU) .*write|error: EU is no country", failed.stderr)
    assert azure.calls() == []


def test_a_group_in_another_region_is_no_obstacle(azure: Azure) -> None:
    (azure.state / "group").touch()
    assert azure.deploy(PBX_API_KEY=PBX_KEY).returncode == 0


def test_a_placeholder_in_the_vault_is_a_missing_key(azure: Azure) -> None:
    azure.deploy("--infrastructure-only", PBX_API_KEY=PBX_KEY)
    azure.calls()
    failed = azure.deploy()
    assert "put it into PBX_API_KEY" in failed.stderr
    assert azure.changes() == []


def test_a_subscription_without_cost_management_has_no_budget_and_is_deployed(azure: Azure) -> None:
    azure.add_parameters("param monthlyBudget = 200")
    done = azure.deploy(PBX_API_KEY=PBX_KEY, AZ_FAIL="Microsoft.Consumption/budgets")
    assert done.returncode == 0, done.stderr
    assert "No budget is made" in done.stdout
    assert [call for call in azure.calls() if "group create" in call and "monthlyBudget=null" in call]
