"""The templates: what a compiler would say about them, and that the code and they name the same things."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from pycep import BicepParser

from shared.settings import SETTINGS
from shared.storage.account import CONTAINERS, POISON, QUEUES, TABLES
from tests.infra.template import (
    BICEP_FILES,
    INFRA,
    PARAMETER_FILES,
    Declaration,
    Template,
    get,
    key,
    literal,
    locals_of,
    properties,
    read,
    references,
    text,
    walk,
)

if TYPE_CHECKING:
    from pathlib import Path

ROOT = INFRA.parent
MAIN = read(INFRA / "main.bicep")
FUNCTION_APP = read(INFRA / "modules" / "functionApp.bicep")
ACCESS = read(INFRA / "modules" / "access.bicep")

# The newest stable version of each type; None where a preview is the only usable one.
NEWEST_VERSIONS = {
    "Microsoft.Authorization/roleAssignments": "2022-04-01",
    "Microsoft.Insights/actionGroups": "2023-01-01",
    "Microsoft.Insights/components": "2020-02-02",
    "Microsoft.Insights/diagnosticSettings": None,
    "Microsoft.Insights/scheduledQueryRules": "2026-03-01",
    "Microsoft.Insights/workbooks": "2023-06-01",
    "Microsoft.KeyVault/vaults": "2026-02-01",
    "Microsoft.Logic/workflows": "2019-05-01",
    "Microsoft.ManagedIdentity/userAssignedIdentities": "2024-11-30",
    "Microsoft.Network/natGateways": "2025-09-01",
    "Microsoft.Network/networkSecurityGroups": "2025-09-01",
    "Microsoft.Network/privateDnsZones": "2024-06-01",
    "Microsoft.Network/privateEndpoints": "2025-09-01",
    "Microsoft.Network/publicIPAddresses": "2025-09-01",
    "Microsoft.Network/virtualNetworks": "2025-09-01",
    "Microsoft.OperationalInsights/workspaces": "2026-03-01",
    "Microsoft.Storage/storageAccounts": "2026-04-01",
    "Microsoft.Web/connections": "2016-06-01",
    "Microsoft.Web/serverfarms": "2025-03-01",
    "Microsoft.Web/sites": "2025-03-01",
}
VERSIONS_CHECKED = "2026-09-27"

NOT_ON_FLEX = [
    "FUNCTIONS_WORKER_RUNTIME",
    "FUNCTIONS_WORKER_RUNTIME_VERSION",
    "FUNCTIONS_EXTENSION_VERSION",
    "FUNCTIONS_WORKER_PROCESS_COUNT",
    "FUNCTIONS_WORKER_DYNAMIC_CONCURRENCY_ENABLED",
    "FUNCTIONS_MAX_HTTP_CONCURRENCY",
    "WEBSITE_CONTENTAZUREFILECONNECTIONSTRING",
    "WEBSITE_CONTENTSHARE",
    "WEBSITE_SKIP_CONTENTSHARE_VALIDATION",
    "WEBSITE_RUN_FROM_PACKAGE",
    "SCM_DO_BUILD_DURING_DEPLOYMENT",
    "ENABLE_ORYX_BUILD",
    "WEBSITE_TIME_ZONE",
    "TZ",
    "WEBSITE_VNET_ROUTE_ALL",
    "WEBSITE_MAX_DYNAMIC_APPLICATION_SCALE_OUT",
    "WEBSITE_NODE_DEFAULT_VERSION",
    "WEBSITE_LOAD_CERTIFICATES",
    "APPINSIGHTS_INSTRUMENTATIONKEY",
    "AzureWebJobsStorage",
    "AzureWebJobsFeatureFlags",
    "linuxFxVersion",
    "windowsFxVersion",
    "alwaysOn",
    "use32BitWorkerProcess",
    "preWarmedInstanceCount",
    "functionAppScaleLimit",
    "containerSize",
    "ftpsState",
    "isReserved",
]

# Windows that a log alert may have.
ALERT_WINDOWS = {
    *(f"PT{minutes}M" for minutes in (1, 5, 10, 15, 30, 45)),
    *(f"PT{hours}H" for hours in (1, 2, 3, 4, 5, 6)),
    "P1D",
    "P2D",
}

# Set for the Functions host, the worker and the identity library; the bridge's own code does not read them.
PLATFORM_SETTINGS = {
    "APPLICATIONINSIGHTS_AUTHENTICATION_STRING",
    "APPLICATIONINSIGHTS_CONNECTION_STRING",
    "AZURE_CLIENT_ID",
    "PYTHON_THREADPOOL_THREAD_COUNT",
    "AzureWebJobsStorage__blobServiceUri",
    "AzureWebJobsStorage__clientId",
    "AzureWebJobsStorage__credential",
    "AzureWebJobsStorage__queueServiceUri",
    "AzureWebJobsStorage__tableServiceUri",
    "DataStorage__credential",
}
DATA_STORAGE_SETTINGS = {
    f"DataStorage__{part}" for part in ("blobServiceUri", "queueServiceUri", "tableServiceUri", "clientId")
}
LAPTOP_SETTINGS = {"ALLOW_LOOPBACK_CALLBACKS"}

PLACEHOLDER = re.compile(r"%([A-Z][A-Z0-9_]+)%")
PLAIN_TYPES = {"string": str, "int": int, "bool": bool}

files = pytest.mark.parametrize(
    "template", [read(file) for file in BICEP_FILES], ids=[file.stem for file in BICEP_FILES]
)


def platform_settings() -> dict[str, Any]:
    """Settings that the function app's module adds to what it is given."""
    body = get(FUNCTION_APP.of("resource")["settings"].body, "properties")
    assert body is not None
    added = next(node for node in walk(body) if node.type == "object")
    return literal(added)  # type: ignore[no-any-return]


def provided_settings() -> set[str]:
    """Names of all app settings."""
    return set(MAIN.value("bridgeSettings")) | set(MAIN.value("defaultSchedules")) | set(platform_settings())


def python_sources() -> str:
    """The text of what runs in Azure."""
    sources = [ROOT / "function_app.py", *ROOT.glob("functions/*.py"), *ROOT.glob("shared/**/*.py")]
    return "\n".join(source.read_text() for source in sources if source.exists())


# What a compiler would say


@files
def test_checkov_can_read_the_file(template: Template) -> None:
    assert BicepParser().parse(text=template.path.read_text())


@files
def test_every_name_that_is_used_is_declared(template: Template) -> None:
    declared = {declaration.name for declaration in template.declarations}
    for declaration in template.declarations:
        assert set(references(declaration.node)) - locals_of(declaration.node) <= declared, declaration.name


@files
def test_every_param_var_and_existing_resource_is_used(template: Template) -> None:
    used: set[str] = set()
    for declaration in template.declarations:
        used |= set(references(declaration.node)) - locals_of(declaration.node)
    declared = {
        d.name for d in template.declarations if d.kind in ("param", "var") or (d.kind == "resource" and d.existing)
    }
    assert declared <= used


@files
def test_every_param_and_output_is_described(template: Template) -> None:
    for declaration in (template.of("param") | template.of("output")).values():
        assert declaration.decorators.get("description", "").endswith("."), declaration.name
    for param in template.of("param").values():
        optional = param.value is not None or param.type.endswith("?")
        assert param.decorators["description"].startswith("Optional. " if optional else "Required. "), param.name


@files
def test_the_file_says_what_it_is(template: Template) -> None:
    assert re.match(r"metadata name = '.+'\nmetadata description = '.+\.'\n", template.path.read_text())


@files
def test_params_vars_resources_and_outputs_come_in_this_order(template: Template) -> None:
    order = {"param": 0, "var": 1, "resource": 2, "module": 2, "output": 3}
    found = [order[declaration.kind] for declaration in template.declarations]
    assert found == sorted(found)


def _modules() -> list[Any]:
    return [pytest.param(module, id=name) for name, module in MAIN.of("module").items()]


@pytest.mark.parametrize("module", _modules())
def test_a_module_is_given_what_it_takes(module: Declaration) -> None:
    template = read(INFRA / module.target)
    given = get(module.body, "params")
    assert given is not None
    values = {key(node): node.named_children[1] for node in properties(given)}
    params = template.of("param")
    assert values.keys() <= params.keys()
    required = {name for name, param in params.items() if param.value is None and not param.type.endswith("?")}
    assert required <= values.keys()
    for name, node in values.items():
        passed = MAIN.of("param").get(text(node))
        if passed is not None:
            assert passed.type.rstrip("?") == params[name].type.rstrip("?"), name
            assert params[name].type.endswith("?") or not passed.type.endswith("?"), name
            assert ("secure" in passed.decorators) == ("secure" in params[name].decorators), name
        else:
            wanted = PLAIN_TYPES.get(params[name].type)
            value = literal(node)
            assert wanted is None or isinstance(value, (wanted, str)), name


def test_every_module_is_part_of_the_whole() -> None:
    assert {module.target for module in MAIN.of("module").values()} == {
        str(file.relative_to(INFRA)) for file in BICEP_FILES if file.parent.name == "modules"
    }


def test_outputs_of_modules_exist() -> None:
    modules = {name: read(INFRA / module.target) for name, module in MAIN.of("module").items()}
    for module, output in re.findall(r"(\w+)!?\.outputs\.(\w+)", MAIN.path.read_text()):
        assert output in modules[module].of("output"), f"{module}.outputs.{output}"


@pytest.mark.parametrize("file", PARAMETER_FILES, ids=lambda file: file.stem)
def test_parameter_files_give_params_that_exist_and_values_that_are_allowed(file: Path) -> None:
    assert file.read_text().startswith("using 'main.bicep'\n")
    for name, given in read(file).of("var").items():
        param, value = MAIN.of("param")[name], literal(given.value)
        wanted = PLAIN_TYPES.get(param.type.rstrip("?"))
        assert wanted is None or type(value) is wanted, name
        assert value in param.decorators.get("allowed", [value]), name
        if isinstance(value, int):
            assert param.decorators.get("minValue", value) <= value <= param.decorators.get("maxValue", value), name


@files
def test_every_resource_type_is_of_a_recent_version(template: Template) -> None:
    for resource in template.of("resource").values():
        name, version = resource.target.split("@")
        newest = NEWEST_VERSIONS["/".join(name.split("/")[:2])]
        if newest is None:
            # The linter counts any stable version as better than a preview that is two years old.
            assert f"\n#disable-next-line use-recent-api-versions\n{resource.text[:40]}" in template.path.read_text()
            continue
        two_years_before = f"{int(VERSIONS_CHECKED[:4]) - 2}{VERSIONS_CHECKED[4:]}"
        assert not version.endswith("-preview"), name
        assert version == newest or version >= two_years_before, name


@files
def test_addresses_of_clouds_come_from_the_environment(template: Template) -> None:
    code = re.sub(r"//.*", "", template.path.read_text())
    assert not re.search(r"core\.windows\.net|vault\.azure\.net|management\.azure\.com|microsoftonline", code)


@files
def test_nothing_secret_is_an_output_or_has_a_default(template: Template) -> None:
    secure = {name for name, param in template.of("param").items() if "secure" in param.decorators}
    for output in template.of("output").values():
        assert not secure & set(references(output.node))
        assert not re.search(r"list\w*\(|ConnectionString|getSecret", output.text)
    for name in secure:
        assert literal(template.of("param")[name].value) in (None, "")


# What the code reads, and what it is given


def test_every_setting_that_the_code_reads_is_provided() -> None:
    assert {row.name for row in SETTINGS} - LAPTOP_SETTINGS | DATA_STORAGE_SETTINGS <= provided_settings()


def test_every_provided_setting_is_read() -> None:
    read_by_code = {row.name for row in SETTINGS} | DATA_STORAGE_SETTINGS
    assert provided_settings() - PLATFORM_SETTINGS <= read_by_code


def test_settings_of_a_laptop_are_not_provided() -> None:
    assert not LAPTOP_SETTINGS & provided_settings()


def test_every_schedule_that_a_timer_names_is_provided() -> None:
    named = set(PLACEHOLDER.findall(python_sources())) | {row.name for row in SETTINGS if row.read_by_host}
    assert named == set(MAIN.value("defaultSchedules"))


def test_defaults_are_those_of_the_code() -> None:
    defaults = {row.name: row.default for row in SETTINGS}
    for name, value in MAIN.value("defaultSchedules").items():
        assert value == defaults[name]
    for param, setting in (
        ("pbxBaseUrl", "PBX_BASE_URL"),
        ("defaultRegion", "DEFAULT_REGION"),
        ("pollStart", "POLL_START"),
        ("sweepLookbackHours", "SWEEP_LOOKBACK_HOURS"),
        ("mirrorVoicemailDeletes", "MIRROR_VOICEMAIL_DELETES"),
    ):
        assert str(literal(MAIN.of("param")[param].value)).lower() == str(defaults[setting]).lower()


def test_secrets_come_from_the_vault() -> None:
    for row in SETTINGS:
        if row.secret:
            value = platform_settings()[row.name]
            assert re.fullmatch(r"'@Microsoft\.KeyVault\(SecretUri=\$\{keyVaultUri\}secrets/[a-z-]+\)'", value)


def test_tables_queues_and_containers_are_those_of_the_code() -> None:
    assert set(MAIN.value("tableNames")) == set(TABLES)
    assert set(MAIN.value("queueNames")) == set(QUEUES)
    assert f"'${{queueName}}{POISON}'" in read(INFRA / "modules" / "dataStorage.bicep").path.read_text()
    media = {MAIN.value("recordingContainerName"), "voicemails"}
    assert text(MAIN.of("var")["mediaContainerNames"].value) == "[recordingContainerName, 'voicemails']"  # type: ignore[arg-type]
    assert media | {MAIN.value("payloadContainerName")} == set(CONTAINERS)


def test_queue_triggers_wait_at_queues_that_exist_of_the_data_account() -> None:
    decorated = re.findall(r"connection=[\"'](\w+)[\"']", python_sources())
    assert set(decorated) <= {"DataStorage"}


def test_the_app_may_do_what_it_does() -> None:
    grants = {(grant["account"], grant["role"]) for grant in ACCESS.value("accountGrants")}
    for part in ("Queue Data Contributor", "Table Data Contributor"):
        assert ("hostStorageName", f"Storage {part}") in grants
        assert ("dataStorageName", f"Storage {part}") in grants
    assert ("hostStorageName", "Storage Blob Data Owner") in grants
    # Index tags of blobs need the owner's role.
    assert ACCESS.value("mediaRole") == "Storage Blob Data Owner"
    assert ACCESS.value("appVaultGrant")["role"] == "Key Vault Secrets User"
    assert "Monitoring Metrics Publisher" in ACCESS.of("resource")["component_roleAssignment"].text


def test_roles_are_named_from_the_map_and_given_on_resources_only() -> None:
    roles = ACCESS.value("roles")
    assert len(set(roles.values())) == len(roles)
    named = set(re.findall(r"'((?:Storage|Key Vault|Monitoring) [A-Z][\w ]+)'", ACCESS.path.read_text()))
    assert named == set(roles)
    for file in BICEP_FILES:
        for resource in read(file).of("resource").values():
            if resource.target.startswith("Microsoft.Authorization/"):
                assert get(resource.body, "scope") is not None


def test_nothing_that_flex_consumption_refuses_is_set() -> None:
    for file in BICEP_FILES:
        keys = {key(node) for node in walk(read(file).root) if node.type == "object_property"}
        assert not keys & set(NOT_ON_FLEX), file.name
    assert not any("basicPublishingCredentialsPolicies" in file.read_text() for file in BICEP_FILES)


def test_http_concurrency_and_threads_are_one_number() -> None:
    assert platform_settings()["PYTHON_THREADPOOL_THREAD_COUNT"] == "string(httpConcurrency)"
    assert "perInstanceConcurrency: httpConcurrency\n" in FUNCTION_APP.path.read_text()


def test_both_accounts_are_closed_to_keys_and_strangers() -> None:
    for module in ("hostStorage", "dataStorage"):
        account = get(read(INFRA / "modules" / f"{module}.bicep").of("resource")["account"].body, "properties")
        assert literal(account) | {
            "allowSharedKeyAccess": False,
            "allowBlobPublicAccess": False,
            "allowCrossTenantReplication": False,
            "supportsHttpsTrafficOnly": True,
            "minimumTlsVersion": "TLS1_2",
        } == literal(account)


def test_alerts_watch_polls_that_exist() -> None:
    named = set(re.findall(r'"(Poll\w+)"', (INFRA / "queries" / "pollsStale.kql").read_text()))
    schedules = {name for name in MAIN.value("defaultSchedules") if name.startswith("POLL_")}
    functions = {
        "Poll" + "".join(part.title() for part in name.removesuffix("_SCHEDULE").split("_")[1:]) for name in schedules
    }
    assert named == functions


def test_every_signal_that_the_code_logs_is_watched() -> None:
    logged = set(re.findall(r"[\"']signal (\w+) \w+=%", python_sources()))
    watched = re.findall(r'"signal (\w+) "', "".join(file.read_text() for file in INFRA.glob("queries/*.kql")))
    assert logged <= set(watched)


def test_every_query_belongs_to_a_figure_and_gives_what_is_measured() -> None:
    figures = read(INFRA / "modules" / "alerts.bicep").value("figures")
    loaded = {re.search(r"queries/(\w+)\.kql", figure["query"])[1]: figure for figure in figures}  # type: ignore[index]
    assert set(loaded) == {file.stem for file in INFRA.glob("queries/*.kql")}
    for name, figure in loaded.items():
        query = (INFRA / "queries" / f"{name}.kql").read_text()
        assert figure["name"] == name
        assert (figure["aggregation"] == "Count") == (figure["measure"] == "")
        assert not figure["measure"] or f"summarize {figure['measure']} = " in query


@pytest.mark.parametrize("query", sorted(INFRA.glob("queries/*.kql")), ids=lambda file: file.stem)
def test_columns_that_a_union_brings_together_are_of_one_type(query: Path) -> None:
    # Columns of one name and two types come out as two columns of other names.
    types: dict[str, set[str]] = {}
    for projection in re.findall(r"\| project (.*)", query.read_text()):
        for name, conversion in re.findall(r"(\w+) = (to\w+\()?", projection):
            types.setdefault(name, set()).add(conversion)
    assert all(len(found) == 1 and "" not in found for found in types.values())


def test_a_rule_looks_at_its_window_and_no_further() -> None:
    rules = read(INFRA / "modules" / "alerts.bicep").of("resource")["rules"]
    found = {key(node): node for node in walk(rules.body) if node.type == "object_property"}
    assert set(literal(found["failingPeriods"].named_children[1]).values()) == {1}
    assert {figure["window"] for figure in read(INFRA / "modules" / "alerts.bicep").value("figures")} <= ALERT_WINDOWS


def test_the_linter_s_rules_are_on() -> None:
    core = json.loads((INFRA / "bicepconfig.json").read_text())["analyzers"]["core"]
    assert core["enabled"]
    assert {rule["level"] for rule in core["rules"].values()} <= {"warning", "error"}
