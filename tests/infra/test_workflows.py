"""The Logic Apps workflows: their shape, their parameters, and their calls against our Swagger."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from shared.api.definition import BASE_PATH, definition
from shared.events.table import event_named
from tests.indexed import functions
from tests.infra.template import EVERYTHING, INFRA, snapshot

FILES = {file.stem: json.loads(file.read_text()) for file in sorted(INFRA.glob("workflows/*.json"))}
SWAGGER = definition("https", "func.test")

SCHEMA = "https://schema.management.azure.com/providers/Microsoft.Logic/schemas/2016-06-01/workflowdefinition.json#"
PARAMETER_TYPES = {"String", "SecureString", "Int", "Float", "Bool", "Array", "Object", "SecureObject"}
# Compose has no outputs to secure: with its inputs they are hidden too.
STATUSES = {"Succeeded", "Failed", "Skipped", "TimedOut"}
INPUTS = {
    "ApiConnection": {"host", "method", "path", "queries", "body", "headers", "retryPolicy"},
    "Http": {"method", "uri", "headers", "queries", "body", "authentication", "retryPolicy"},
}
CALL_KEYS = {"method", "uri", "headers", "body", "authentication", "retryPolicy"}
OURS = "@{parameters('apiUrl')}"

WORKFLOW = "Microsoft.Logic/workflows"

workflows = pytest.mark.parametrize("name", FILES)


def deployed(name: str) -> dict[str, Any]:
    """Return the properties of a workflow in a deployment of everything."""
    found = [one for one in snapshot(EVERYTHING).of(WORKFLOW) if one["name"].startswith(f"logic-{name}-")]
    properties: dict[str, Any] = found[0]["properties"]
    return properties


def actions(scope: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield all scopes of actions: the outer one, and those in conditions."""
    yield scope
    for action in scope.values():
        if action["type"] == "If":
            yield from actions(action["actions"])
            yield from actions(action.get("else", {}).get("actions", {}))


def calls(workflow: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the HTTP calls of a workflow, without those of connectors."""
    for trigger in workflow["triggers"].values():
        yield from (trigger["inputs"]["subscribe"], trigger["inputs"]["unsubscribe"])
    for scope in actions(workflow["actions"]):
        yield from (action["inputs"] for action in scope.values() if action["type"] == "Http")


@workflows
def test_the_definition_has_the_published_shape(name: str) -> None:
    workflow = FILES[name]
    assert list(workflow) == ["$schema", "contentVersion", "parameters", "triggers", "actions", "outputs"]
    assert workflow["$schema"] == SCHEMA
    assert re.fullmatch(r"\d+\.\d+\.\d+\.\d+", workflow["contentVersion"])
    assert {parameter["type"] for parameter in workflow["parameters"].values()} <= PARAMETER_TYPES
    assert len(workflow["triggers"]) == 1
    for trigger in workflow["triggers"].values():
        assert trigger["type"] == "HttpWebhook"
        assert set(trigger["inputs"]) == {"subscribe", "unsubscribe"}
        for call in trigger["inputs"].values():
            assert {"method", "uri"} <= set(call) <= CALL_KEYS
            assert call["body"] == {"endpoint": "@{listCallbackUrl()}"}
        assert trigger["inputs"]["unsubscribe"]["method"] == "POST"
        assert trigger["inputs"]["unsubscribe"]["uri"] == f"{OURS}/webhooks/unsubscribe"


@workflows
def test_actions_have_the_published_shape_and_run_after_actions_that_exist(name: str) -> None:
    for scope in actions(FILES[name]["actions"]):
        for title, action in scope.items():
            assert re.fullmatch(r"[A-Za-z_]+", title)
            assert set(action["runAfter"]) <= set(scope) - {title}
            assert all(set(statuses) <= STATUSES for statuses in action["runAfter"].values())
            if action["type"] == "If":
                assert set(action) <= {"type", "runAfter", "expression", "actions", "else"}
            elif action["type"] != "Compose":
                assert set(action["inputs"]) <= INPUTS[action["type"]]


@workflows
def test_parameters_are_declared_used_and_given(name: str) -> None:
    workflow = FILES[name]
    used = set(
        re.findall(r"parameters\('([^']+)'\)", json.dumps(workflow["triggers"]) + json.dumps(workflow["actions"]))
    )
    assert used | {"$connections"} == set(workflow["parameters"])
    given = deployed(name)["parameters"]
    assert set(given) == set(workflow["parameters"])
    connections = set(re.findall(r"\['(\w+)'\]\['connectionId'\]", json.dumps(workflow)))
    assert connections == set(given["$connections"]["value"])
    made = snapshot(EVERYTHING).last_names("Microsoft.Web/connections")
    assert {connection["connectionName"] for connection in given["$connections"]["value"].values()} <= made


@workflows
def test_keys_are_secure_and_never_shown(name: str) -> None:
    workflow = FILES[name]
    secret = {key for key, value in workflow["parameters"].items() if value["type"] == "SecureString"}
    assert "apiKey" in secret
    assert {key for key in workflow["parameters"] if re.search("key|authorization", key, re.IGNORECASE)} == secret
    secured = [*workflow["triggers"].values()]
    for scope in actions(workflow["actions"]):
        secured += [action for action in scope.values() if action["type"] != "If"]
    for part in secured:
        assert "inputs" in part["runtimeConfiguration"]["secureData"]["properties"]


@workflows
def test_everything_called_is_a_function_of_ours_and_but_for_audio_in_our_swagger(name: str) -> None:
    assert SWAGGER["basePath"] == BASE_PATH == "/api/v2"
    defined = {(path, method.upper()) for path, methods in SWAGGER["paths"].items() for method in methods}
    served = {(one.route.removeprefix("v2"), method) for one in functions() for method in one.methods}
    found = 0
    for call in calls(FILES[name]):
        if not call["uri"].startswith(OURS):
            continue
        path = re.sub(r"@\{[^}]*blobName[^}]*\}", "2018/04/25/1.mp3", call["uri"].removeprefix(OURS))
        path = re.sub(r"@\{[^}]*\}", "1", path)
        for routes in (served, defined)[: 1 if path.startswith("/media/") else 2]:
            assert any(fits(path, route) and method == call["method"] for route, method in routes), path
        assert call["headers"]["x-functions-key"] == "@parameters('apiKey')"
        found += 1
    assert found >= 2


@workflows
def test_fields_of_a_delivery_are_encoded_in_addresses(name: str) -> None:
    for scope in actions(FILES[name]["actions"]):
        for action in scope.values():
            inputs = action["inputs"] if action["type"] in INPUTS else {}
            for part in re.findall(r"@\{([^}]*)\}", inputs.get("uri", "") + inputs.get("path", "")):
                assert re.match(r"parameters\('apiUrl'\)$|(replace\()*encodeURIComponent\(", part), part


def fits(path: str, route: str) -> bool:
    return re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", route), path) is not None


@workflows
def test_fields_of_the_event_exist(name: str) -> None:
    (event,) = FILES[name]["triggers"]
    fields = set(re.findall(r"triggerBody\(\)\?\['data'\]\?\['(\w+)'\]", json.dumps(FILES[name])))
    assert fields <= {field.name for field in event_named(event).model.fields}


def test_every_file_is_deployed_by_a_flag_that_is_off_by_default() -> None:
    assert {deployed(name)["definition"]["contentVersion"] for name in FILES} == {"1.0.0.0"}
    for name, workflow in FILES.items():
        assert deployed(name)["definition"] == workflow
    assert len(snapshot(EVERYTHING).of(WORKFLOW)) == len(FILES)
    assert not snapshot(INFRA / "main.bicepparam").of(WORKFLOW)
    alone = snapshot(EVERYTHING, *((name, "false") for name in FILES if name != "missedCallMail"))
    assert [workflow["name"].split("-")[1] for workflow in alone.of(WORKFLOW)] == ["missedCallMail"]
    assert [name.split("-")[0] for name in alone.last_names("Microsoft.Web/connections")] == ["office365"]
