"""The templates: the compiler has no warnings, and a deployment makes everything that the code and Azure require."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from shared.pbx.resources import RESOURCES
from shared.settings import IN_AZURE, SETTINGS
from shared.storage.account import CONTAINERS, POISON, QUEUES, TABLES
from tests.infra.template import BICEP_FILES, EVERYTHING, GROUP, INFRA, PARAMETER_FILES, Snapshot, built, run, snapshot

ROOT = INFRA.parent
MAIN, PRODUCTION = INFRA / "main.bicepparam", INFRA / "production.bicepparam"
ALL_PARAMETERS = (*PARAMETER_FILES, EVERYTHING)

# Settings and properties that Flex Consumption refuses or ignores.
NOT_ON_FLEX = set(
    re.findall(
        r"\w+",
        """
    APPINSIGHTS_INSTRUMENTATIONKEY AzureWebJobsFeatureFlags AzureWebJobsStorage ENABLE_ORYX_BUILD
    FUNCTIONS_EXTENSION_VERSION FUNCTIONS_MAX_HTTP_CONCURRENCY FUNCTIONS_WORKER_DYNAMIC_CONCURRENCY_ENABLED
    FUNCTIONS_WORKER_PROCESS_COUNT FUNCTIONS_WORKER_RUNTIME FUNCTIONS_WORKER_RUNTIME_VERSION
    SCM_DO_BUILD_DURING_DEPLOYMENT TZ WEBSITE_CONTENTAZUREFILECONNECTIONSTRING WEBSITE_CONTENTSHARE
    WEBSITE_LOAD_CERTIFICATES WEBSITE_MAX_DYNAMIC_APPLICATION_SCALE_OUT WEBSITE_NODE_DEFAULT_VERSION
    WEBSITE_RUN_FROM_PACKAGE WEBSITE_SKIP_CONTENTSHARE_VALIDATION WEBSITE_TIME_ZONE WEBSITE_VNET_ROUTE_ALL
    alwaysOn containerSize ftpsState functionAppScaleLimit isReserved linuxFxVersion preWarmedInstanceCount
    use32BitWorkerProcess windowsFxVersion
    """,
    )
)
# Set for the Functions host, the worker and the identity library; the bridge's own code does not read them.
PLATFORM_SETTINGS = {
    "APPLICATIONINSIGHTS_AUTHENTICATION_STRING",
    "APPLICATIONINSIGHTS_CONNECTION_STRING",
    "AZURE_CLIENT_ID",
    "AzureFunctionsJobHost__extensions__queues__batchSize",
    "AzureFunctionsJobHost__extensions__queues__newBatchThreshold",
    "OVERRIDE_USE_MI_FIC_ASSERTION_CLIENTID",
    "AzureWebJobsStorage__blobServiceUri",
    "AzureWebJobsStorage__clientId",
    "AzureWebJobsStorage__credential",
    "AzureWebJobsStorage__queueServiceUri",
    "AzureWebJobsStorage__tableServiceUri",
    "DataStorage__credential",
    "FUNCTIONS_REQUEST_BODY_SIZE_LIMIT",
    "PYTHON_THREADPOOL_THREAD_COUNT",
}
DATA_STORAGE_SETTINGS = {
    f"DataStorage__{part}" for part in ("blobServiceUri", "queueServiceUri", "tableServiceUri", "clientId")
}
LAPTOP_SETTINGS = {"ALLOW_LOOPBACK_CALLBACKS"}
PLACEHOLDER = re.compile(r"%([A-Z][A-Z0-9_]+)%")

# Azure's rules for names, by type.
NAMES = {
    "Microsoft.KeyVault/vaults": r"[a-z](?!.*--)[a-z0-9-]{1,22}[a-z0-9]",
    "Microsoft.Storage/storageAccounts": r"[a-z0-9]{3,24}",
    "Microsoft.Storage/storageAccounts/blobServices/containers": r"(?!.*--)[a-z0-9][a-z0-9-]{2,62}",
    "Microsoft.Storage/storageAccounts/queueServices/queues": r"(?!.*--)[a-z0-9][a-z0-9-]{1,61}[a-z0-9]",
    "Microsoft.Storage/storageAccounts/tableServices/tables": r"[A-Za-z][A-Za-z0-9]{2,62}",
    "Microsoft.Web/sites": r"[a-z0-9][a-z0-9-]{0,41}[a-z0-9]",
    "Microsoft.Web/serverfarms": r"[A-Za-z0-9-]{1,60}",
    "Microsoft.Web/connections": r"[A-Za-z0-9._()-]{1,80}",
    "Microsoft.Logic/workflows": r"[A-Za-z0-9._()-]{1,43}",
    "Microsoft.ManagedIdentity/userAssignedIdentities": r"[A-Za-z0-9][A-Za-z0-9_-]{2,127}",
    "Microsoft.OperationalInsights/workspaces": r"[A-Za-z0-9][A-Za-z0-9-]{2,61}[A-Za-z0-9]",
    "Microsoft.Insights/components": r"[^%&\\?/]{1,260}",
    "Microsoft.Insights/actionGroups": r"[^:<>+/&%\\?|]{1,260}",
    "Microsoft.Insights/scheduledQueryRules": r"[^*<>%{}&:\\?/#|]{1,260}",
    "Microsoft.Consumption/budgets": r"[A-Za-z0-9_-]{1,63}",
}
# Roles by the last part of their id.
OFFICER = "b86a8fe4-44ce-4948-aee5-eccb2c155cd7"
ROLES = {
    "4633458b-17de-408a-b874-0445c86b69e6": "Key Vault Secrets User",
    OFFICER: "Key Vault Secrets Officer",
    "3913510d-42f4-4e42-8a64-420c390055eb": "Monitoring Metrics Publisher",
    "ba92f5b4-2d11-453d-a403-e96b0029c9fe": "Storage Blob Data Contributor",
    "b7e6dc6d-f1e8-4753-8033-0f276bb0955b": "Storage Blob Data Owner",
    "974c5e8b-45b9-4653-ba55-5f855dd0fb88": "Storage Queue Data Contributor",
    "0a9a7e1f-b9d0-4cc4-a60d-0319b160aaa3": "Storage Table Data Contributor",
}
READER = "Key Vault Secrets User"
ROLE_DEFINITION = "Microsoft.Authorization/roleDefinitions"
BLOBS = "Microsoft.Storage/storageAccounts/blobServices/containers/blobs"

# A bridge on its way into the network, with a locked policy, a schedule and a concurrency of its own.
MOVING = (
    ("httpConcurrency", "100"),
    ("closeDataAccount", "false"),
    ("recordingPolicyLocked", "true"),
    ("scheduleOverrides", "{ LOOK_AFTER_SCHEDULE: '0 0 3 * * *' }"),
)

parameter_files = pytest.mark.parametrize("file", ALL_PARAMETERS, ids=lambda file: file.stem)
modules = pytest.mark.parametrize("file", BICEP_FILES, ids=lambda file: file.stem)


def python_sources() -> str:
    """Return the text of all Python that runs in Azure."""
    sources = [
        ROOT / "function_app.py",
        *ROOT.glob("functions/*.py"),
        *ROOT.glob("shared/**/*.py"),
        *ROOT.glob("board/**/*.py"),
    ]
    return "\n".join(source.read_text() for source in sources)


def keys_of(value: Any) -> set[str]:
    """Return every key in a value, at any depth."""
    if isinstance(value, dict):
        return set(value).union(*map(keys_of, value.values()))
    return set().union(*map(keys_of, value)) if isinstance(value, list) else set()


def roles(made: Snapshot) -> set[tuple[str, str, str]]:
    """Return the role assignments: (identity, role, scope without the group)."""
    custom = {role["name"]: role["properties"]["roleName"].split(" pbx-")[0] for role in made.of(ROLE_DEFINITION)}
    found = set()
    for assignment in made.of("Microsoft.Authorization/roleAssignments"):
        properties = assignment["properties"]
        identity = re.search(r"userAssignedIdentities/(\w+)-", properties["principalId"])
        role = properties["roleDefinitionId"].rsplit("/", maxsplit=1)[-1]
        scope = re.search(rf"{GROUP}/providers/([^']+?)(?:'|/providers/Microsoft.Authorization)", assignment["id"])
        assert scope is not None
        who = identity[1] if identity else properties["principalId"]
        where = re.sub(r"^Microsoft\.\w+/\w+/([a-z]+?)-?pbx([dh]?)-?[a-z0-9]{13}", r"\1\2", scope[1])
        found.add((who, (ROLES | custom)[role], where.replace("/blobServices/default", "")))
    return found


# The compiler's findings


def template_of(file: Path) -> dict[str, Any]:
    """Return the built template of main.bicep, or of a module in it."""
    whole = built(INFRA / "main.bicep")
    name = re.search(r"^metadata name = '(.+)'$", file.read_text(), re.MULTILINE)
    assert name is not None
    nested = (
        resource["properties"].get("template") for resource in whole["resources"].values() if "properties" in resource
    )
    named = {template["metadata"]["name"]: template for template in (whole, *filter(None, nested))}
    found: dict[str, Any] = named[name[1]]
    return found


def test_the_compiler_has_nothing_to_say() -> None:
    done = run("lint", INFRA / "main.bicep")
    assert (done.returncode, done.stderr) == (0, "")


def test_the_compiler_finds_a_secret_in_an_output(tmp_path: Path) -> None:
    leak = tmp_path / "leak.bicep"
    leak.write_text("@secure()\nparam key string\nvar rows = [{ name: 'a', key: key }]\noutput names array = rows\n")
    (tmp_path / "bicepconfig.json").write_text((INFRA / "bicepconfig.json").read_text())
    done = run("build", leak, "--stdout")
    assert done.returncode != 0
    assert "outputs-should-not-contain-secrets" in done.stderr


def test_the_linter_s_rules_are_on() -> None:
    core = json.loads((INFRA / "bicepconfig.json").read_text())["analyzers"]["core"]
    assert core["enabled"]
    assert {rule["level"] for rule in core["rules"].values()} <= {"warning", "error"}


@modules
def test_everything_is_described(file: Path) -> None:
    template = template_of(file)
    assert template["metadata"]["name"]
    assert template["metadata"]["description"].endswith(".")
    for name, declared in (template.get("parameters", {}) | template.get("outputs", {})).items():
        assert declared["metadata"]["description"].endswith("."), name
    for name, param in template.get("parameters", {}).items():
        optional = "defaultValue" in param or param.get("nullable")
        assert param["metadata"]["description"].startswith("Optional. " if optional else "Required. "), name


# Names


def test_names_fit_azure_at_the_longest_and_at_a_short_one() -> None:
    for made in (snapshot(EVERYTHING, ("name", "'abcdef'")), snapshot(EVERYTHING)):
        for resource in made.resources:
            allowed = NAMES.get(resource["type"], ".*")
            assert re.fullmatch(allowed, resource["name"].rsplit("/", maxsplit=1)[-1]), resource["name"]
        assert {resource["type"] for resource in made.resources} >= NAMES.keys()


def test_a_second_bridge_in_a_group_is_apart() -> None:
    one, other = snapshot(EVERYTHING), snapshot(EVERYTHING, ("name", "'abcdef'"))
    shared = {resource["id"] for resource in one.resources} & {resource["id"] for resource in other.resources}
    # A group has one private zone of a name, which bridges share.
    assert all("privateDnsZones" in one for one in shared), shared
    for made in (one, other):
        ids = [resource["id"] for resource in made.resources]
        assert len(ids) == len(set(ids))


# Settings: in the code and in the templates


@parameter_files
def test_settings_are_those_that_the_code_reads(file: Path) -> None:
    provided = set(snapshot(file).settings())
    read = {row.name for row in SETTINGS} | DATA_STORAGE_SETTINGS | {IN_AZURE}
    assert read - LAPTOP_SETTINGS - {"BOARD_KEY"} - provided == set()
    assert provided - read - PLATFORM_SETTINGS == set()
    assert not provided & (LAPTOP_SETTINGS | NOT_ON_FLEX)


def test_the_app_learns_from_the_template_that_it_is_in_azure() -> None:
    settings = snapshot(MAIN).settings()
    assert settings[IN_AZURE] == "true"
    read_elsewhere = re.findall(r"WEBSITE_\w+", python_sources())
    assert read_elsewhere == []


def test_every_schedule_that_a_timer_names_is_provided() -> None:
    named = set(PLACEHOLDER.findall(python_sources())) | {row.name for row in SETTINGS if row.read_by_host}
    assert named | {row.schedule for row in RESOURCES} <= set(snapshot(MAIN).settings())


def test_defaults_are_those_of_the_code() -> None:
    settings = snapshot(MAIN).settings()
    for row in SETTINGS:
        if not row.secret and row.name in settings and row.name != "PUBLIC_BASE_URL":
            assert settings[row.name] == row.default, row.name


def test_a_schedule_can_be_another() -> None:
    made = snapshot(PRODUCTION, *MOVING)
    assert made.settings()["LOOK_AFTER_SCHEDULE"] == "0 0 3 * * *"
    assert made.settings()["POLL_CALL_HISTORY_SCHEDULE"] == "0 0/5 * * * *"


def test_secrets_come_from_the_vault_and_the_app_may_read_each() -> None:
    made = snapshot(EVERYTHING)
    # The platform's sign-in needs no key.
    secrets = {row.name: made.settings()[row.name] for row in SETTINGS if row.secret and row.name != "BOARD_KEY"}
    named = set()
    for value in secrets.values():
        found = re.fullmatch(
            r"\[format\('@Microsoft\.KeyVault\(SecretUri=\{0\}secrets/\{1\}\)', .*, '([a-z-]+)'\)\]", value
        )
        assert found is not None
        named.add(found[1])
    readable = {where.split("/")[-1] for who, role, where in roles(made) if (who, role) == ("id", READER)}
    assert readable == named
    assert not readable & {"logicapps-key", "crm-authorization"}


def test_tables_queues_and_containers_are_those_of_the_code() -> None:
    made, storage = snapshot(MAIN), "Microsoft.Storage/storageAccounts"
    assert made.last_names(f"{storage}/tableServices/tables") == set(TABLES)
    queues = {name + suffix for name in QUEUES for suffix in ("", POISON)}
    assert made.last_names(f"{storage}/queueServices/queues") == queues
    assert made.last_names(f"{storage}/blobServices/containers") == {*CONTAINERS, "packages"}


def test_queue_triggers_wait_at_queues_of_the_data_account() -> None:
    decorated = re.findall(r"connection=[\"'](\w+)[\"']", python_sources())
    assert set(decorated) <= {"DataStorage"}


def test_requests_messages_and_threads_of_an_instance_follow_its_memory_or_are_chosen() -> None:
    assert concurrency(snapshot(MAIN)) == (8, 8, 8)
    assert concurrency(snapshot(PRODUCTION)) == (16, 16, 16)
    # A batch of a queue has 32 messages at most.
    assert concurrency(snapshot(PRODUCTION, *MOVING)) == (100, 100, 64)


def concurrency(made: Snapshot) -> tuple[int, int, int]:
    """Requests and threads of an instance, and messages that it works on at once."""
    settings = made.settings()
    scale = made.one("Microsoft.Web/sites")["properties"]["functionAppConfig"]["scaleAndConcurrency"]
    queues = "AzureFunctionsJobHost__extensions__queues__"
    assert 1 <= int(settings[f"{queues}batchSize"]) <= 32
    messages = int(settings[f"{queues}batchSize"]) + int(settings[f"{queues}newBatchThreshold"])
    requests = scale["triggers"]["http"]["perInstanceConcurrency"]
    return requests, int(settings["PYTHON_THREADPOOL_THREAD_COUNT"]), messages


def test_an_idle_bridge_is_small_and_production_is_not() -> None:
    for file, memory, warm in ((MAIN, 512, []), (PRODUCTION, 2048, [{"name": "http", "instanceCount": 1}])):
        scale = snapshot(file).one("Microsoft.Web/sites")["properties"]["functionAppConfig"]["scaleAndConcurrency"]
        assert (scale["instanceMemoryMB"], scale["alwaysReady"]) == (memory, warm)


# Roles


def test_the_app_may_do_what_it_does_and_no_more() -> None:
    everything = roles(snapshot(EVERYTHING))
    officer = ("[deployer().objectId]", "Key Vault Secrets Officer", "kv")
    app = {
        ("id", "Storage Blob Data Owner", "sth"),
        ("id", "Storage Table Data Contributor", "sth"),
        ("id", "Storage Queue Data Contributor", "std"),
        ("id", "Storage Table Data Contributor", "std"),
        ("id", "PBX bridge audio", "std/containers/recordings"),
        ("id", "PBX bridge audio", "std/containers/voicemails"),
        ("id", "PBX bridge audio", "std/containers/payloads"),
        ("id", "PBX bridge audio", "std/containers/exports"),
        ("id", READER, "kv/secrets/board-admin-key"),
        ("id", READER, "kv/secrets/pbx-api-key"),
        ("id", READER, "kv/secrets/pbx-webhook-key"),
        ("id", READER, "kv/secrets/pbx-webhook-key-previous"),
        ("id", READER, "kv/secrets/subscription-keys"),
        ("id", "Monitoring Metrics Publisher", "appi"),
    }
    assert everything == app | {officer}
    assert roles(snapshot(MAIN)) == everything | {("id", READER, "kv/secrets/board-key")}


def test_the_app_s_role_on_audio_leaves_containers_and_their_policies_alone() -> None:
    role = snapshot(EVERYTHING).one(ROLE_DEFINITION)["properties"]
    (permissions,) = role["permissions"]
    assert role["assignableScopes"] == [GROUP]
    assert permissions["actions"] == []
    assert all(action.startswith(f"{BLOBS}/") for action in permissions["dataActions"])
    wanted = ("read", "write", "add/action", "delete", "tags/read", "tags/write", "deleteBlobVersion/action")
    assert set(permissions["dataActions"]) == {f"{BLOBS}/{action}" for action in wanted}


def test_a_locked_policy_is_left_alone() -> None:
    policy = "Microsoft.Storage/storageAccounts/blobServices/containers/immutabilityPolicies"
    assert snapshot(PRODUCTION).one(policy)["properties"]["immutabilityPeriodSinceCreationInDays"] == 365
    assert not snapshot(PRODUCTION, *MOVING).of(policy)
    assert not snapshot(MAIN).of(policy)


# Closed to strangers


@parameter_files
def test_no_shared_keys_no_old_tls_nothing_public(file: Path) -> None:
    made = snapshot(file)
    accounts = made.of("Microsoft.Storage/storageAccounts")
    assert len(accounts) == 2
    for account in accounts:
        assert (
            account["properties"]
            | {
                "allowSharedKeyAccess": False,
                "allowBlobPublicAccess": False,
                "allowCrossTenantReplication": False,
                "isLocalUserEnabled": False,
                "supportsHttpsTrafficOnly": True,
                "minimumTlsVersion": "TLS1_2",
            }
            == account["properties"]
        )
    for container in made.of("Microsoft.Storage/storageAccounts/blobServices/containers"):
        assert container["properties"]["publicAccess"] == "None"
    app = made.one("Microsoft.Web/sites")["properties"]
    assert app["httpsOnly"] is True
    assert app["siteConfig"]["minTlsVersion"] == "1.2"
    assert made.one("Microsoft.KeyVault/vaults")["properties"]["enableRbacAuthorization"] is True
    assert made.one("Microsoft.Insights/components")["properties"]["DisableLocalAuth"] is True
    assert not keys_of(list(made.resources)) & NOT_ON_FLEX


def test_the_network_closes_the_data_account_and_all_calls_take_it() -> None:
    made = snapshot(PRODUCTION)
    data = data_account(made)
    assert (data["publicNetworkAccess"], data["networkAcls"]["defaultAction"]) == ("Disabled", "Deny")
    reached = {
        (connection["groupIds"][0], connection["privateLinkServiceId"].rsplit("/", maxsplit=1)[-1])
        for endpoint in made.of("Microsoft.Network/privateEndpoints")
        for connection in (each["properties"] for each in endpoint["properties"]["privateLinkServiceConnections"])
    }
    accounts = made.last_names("Microsoft.Storage/storageAccounts")
    (vault,) = made.last_names("Microsoft.KeyVault/vaults")
    assert reached == {(s, account) for s in ("blob", "queue", "table") for account in accounts} | {("vault", vault)}
    app = made.one("Microsoft.Web/sites")["properties"]
    assert app["virtualNetworkSubnetId"].endswith("/subnets/functions")
    assert app["outboundVnetRouting"] == {"allTraffic": True}


def test_without_a_network_nothing_is_routed_or_closed() -> None:
    made = snapshot(MAIN)
    app = made.one("Microsoft.Web/sites")["properties"]
    assert not app.get("virtualNetworkSubnetId")
    assert not app.get("outboundVnetRouting")
    assert data_account(made)["publicNetworkAccess"] == "Enabled"


def test_a_bridge_that_moves_into_its_network_stays_reachable_until_the_last_step() -> None:
    data = data_account(snapshot(PRODUCTION, *MOVING))
    assert (data["publicNetworkAccess"], data["networkAcls"]["defaultAction"]) == ("Enabled", "Allow")


def data_account(made: Snapshot) -> dict[str, Any]:
    """Properties of the account of events and media."""
    accounts = made.of("Microsoft.Storage/storageAccounts")
    properties: dict[str, Any] = next(one["properties"] for one in accounts if one["name"].startswith("stpbxd"))
    return properties


def test_a_body_is_turned_away_at_a_mebibyte() -> None:
    assert snapshot(MAIN).settings()["FUNCTIONS_REQUEST_BODY_SIZE_LIMIT"] == str(1024 * 1024)


# Costs


def test_alert_rules_exist_only_with_an_address() -> None:
    kinds = (
        "Microsoft.Insights/scheduledQueryRules",
        "Microsoft.Insights/actionGroups",
        "Microsoft.Consumption/budgets",
    )
    quiet, loud = snapshot(MAIN), snapshot(EVERYTHING)
    assert all(not quiet.of(kind) and loud.of(kind) for kind in kinds)
    assert quiet.of("Microsoft.Insights/workbooks")
    assert not snapshot(EVERYTHING, ("monthlyBudget", "null")).of("Microsoft.Consumption/budgets")


def test_a_budget_sends_mail_at_half_and_at_the_whole() -> None:
    budget = snapshot(PRODUCTION).one("Microsoft.Consumption/budgets")["properties"]
    assert budget["amount"] == 200
    assert {notice["threshold"] for notice in budget["notifications"].values()} == {50, 100}
    assert all(notice["contactEmails"] for notice in budget["notifications"].values())


@parameter_files
def test_the_outputs_are_those_that_the_scripts_read(file: Path) -> None:
    script = (INFRA / "azure.sh").read_text()
    assert set(re.findall(r"(\w+)\.value\b", script)) <= set(snapshot(file).outputs)
    assert len(snapshot(file).outputs["workflowNames"]) == len(snapshot(file).of("Microsoft.Logic/workflows"))


# The page


def test_a_sign_in_has_the_settings_that_it_needs() -> None:
    key, entra, none = snapshot(MAIN), snapshot(EVERYTHING), snapshot(MAIN, ("boardSignIn", "'none'"))
    settings = [made.settings() for made in (key, entra, none)]
    assert [one["BOARD_SIGN_IN"] for one in settings] == ["key", "entra", "none"]
    assert ["BOARD_KEY" in one for one in settings] == [True, False, False]
    assert ["BOARD_ADMIN_KEY" in one for one in settings] == [True, True, False]
    for made, is_on in ((key, False), (entra, True), (none, False)):
        (sign_in,) = [one for one in made.of("Microsoft.Web/sites/config") if one["name"].endswith("/authsettingsV2")]
        assert sign_in["properties"]["platform"] == {"enabled": is_on}
        # Webhooks, the API and health are reached without it.
        assert sign_in["properties"]["globalValidation"]["unauthenticatedClientAction"] == "AllowAnonymous"


def test_old_versions_are_deleted_when_they_can_no_longer_be_restored() -> None:
    policy = snapshot(MAIN).one("Microsoft.Storage/storageAccounts/managementPolicies")["properties"]["policy"]
    (rule,) = [one for one in policy["rules"] if one["name"] == "media"]
    version = rule["definition"]["actions"]["version"]
    assert version["delete"] == {"daysAfterCreationGreaterThan": 30}
    assert "delete" not in rule["definition"]["actions"]["baseBlob"]


def test_roles_are_assigned_on_existing_secrets() -> None:
    placeholders = snapshot(MAIN).of("Microsoft.KeyVault/vaults/secrets")
    assert len(placeholders) == 6
    assert {one["properties"]["contentType"] for one in placeholders} == {"placeholder"}
    template = template_of(INFRA / "modules" / "keyVault.bicep")
    assert template["resources"]["placeholders"]["@options"] == {"onlyIfNotExists": []}
