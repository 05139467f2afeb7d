"""The definition keeps every rule that Logic Apps, custom connectors and OpenAPI 2.0 make."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV2SpecValidator, validate

from shared.api.definition import definition, served
from shared.api.operations import SERVED as ROWS
from shared.events.table import EVENTS, Event
from shared.media.blobs import MEDIA
from shared.pbx.resources import RESOURCES
from tests.definitions import inside, whole

SERVED = definition("https", "func-pbx.azurewebsites.net")
DEFINITION = whole(SERVED)
OPERATIONS = {
    operation["operationId"]: (path, method, operation)
    for path, methods in DEFINITION["paths"].items()
    for method, operation in methods.items()
    if "operationId" in operation
}
each_operation = pytest.mark.parametrize("name", OPERATIONS)
LISTS = [name for name, (_, _, operation) in OPERATIONS.items() if operation.get("x-ms-trigger") == "batch"]


def properties(value: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    for schema in inside(value):
        if isinstance(schema.get("type"), str):
            yield from schema.get("properties", {}).items()


def parameters(name: str) -> dict[str, dict[str, Any]]:
    return {given["name"]: given for given in OPERATIONS[name][2]["parameters"]}


def test_the_definition_is_openapi_2_with_the_requested_host() -> None:
    body, etag = served("http", "127.0.0.1:7071", "/pbx")
    described = json.loads(body)
    validate(described, cls=OpenAPIV2SpecValidator)
    assert (described["schemes"], described["host"], described["basePath"]) == (
        ["http"],
        "127.0.0.1:7071",
        "/pbx/api/v2",
    )
    assert etag == served("http", "127.0.0.1:7071", "/pbx")[1] != served("https", "a")[1]


def test_every_row_of_the_tables_is_there() -> None:
    assert {row.id for row in ROWS} | {event.name for event in EVENTS} <= OPERATIONS.keys()
    assert {f"Get{row.list_operation.removeprefix('Get')}" for row in RESOURCES} | {"GetEndedCalls"} == set(LISTS)


def test_a_connector_can_be_made_of_it() -> None:
    info = DEFINITION["info"]
    assert len(info["title"]) <= 30
    assert 30 <= len(info["description"]) <= 500
    assert not re.search(r"(?i)\b(api|connector|power|logic)\b", info["title"])
    assert DEFINITION["securityDefinitions"]["api_key"]["name"] == "x-functions-key"
    names = [row["propertyName"] for row in DEFINITION["x-ms-connector-metadata"]]
    assert names == ["Website", "Privacy policy", "Categories"]


@each_operation
def test_an_operation_is_described(name: str) -> None:
    path, _, operation = OPERATIONS[name]
    assert re.fullmatch(r"([A-Z][a-z0-9]*|ID)+", name)
    summary, description = operation["summary"], operation["description"]
    assert summary[0].isupper() and not summary.endswith(".")
    assert description[0].isupper() and description.endswith(".")
    assert summary.rstrip(".").lower() != description.rstrip(".").lower()
    assert operation.get("x-ms-visibility", "important") in ("important", "advanced", "internal")
    for given in operation["parameters"]:
        if given["in"] == "body":
            assert operation["consumes"] == ["application/json"]
            continue
        assert given["x-ms-summary"] == given["x-ms-summary"].strip()
        assert given["x-ms-summary"][0].isupper()
        assert given["description"].endswith(".")
        if given["in"] == "path":
            assert given["required"] and given["x-ms-url-encoding"] == "single"
        if given["required"] and given.get("x-ms-visibility") == "internal":
            assert "default" in given
    in_path = {given["name"] for given in operation["parameters"] if given["in"] == "path"}
    assert set(re.findall(r"{(\w+)}", path)) == in_path
    for field, schema in properties(operation):
        assert schema["x-ms-summary"][0].isupper(), field
        assert schema["description"].endswith("."), field


@each_operation
def test_every_status_has_an_answer(name: str) -> None:
    path, method, operation = OPERATIONS[name]
    responses = operation["responses"]
    assert {"2", "4"} <= {status[0] for status in responses}
    for status, response in responses.items():
        assert response["description"].strip()
        assert status in ("401", "411") or "schema" in response
        if status in ("202", "429", "503"):
            assert response["headers"]["Retry-After"]["type"] == "integer"
        schema = SERVED["paths"][path][method]["responses"][status].get("schema", {"$ref": ""})
        assert schema.get("format") == "binary" or schema.keys() == {"$ref"}
    assert (operation.get("security") != []) == ("401" in responses)


def test_integers_have_64_bits_and_arrays_say_what_they_hold() -> None:
    for schema in inside(DEFINITION["paths"]):
        if schema.get("type") == "integer" and "x-ms-summary" in schema:
            assert schema["format"] == "int64"
        assert schema.get("type") != "array" or "items" in schema


@pytest.mark.parametrize("name", LISTS)
def test_a_list_is_a_polling_trigger(name: str) -> None:
    schema, given = OPERATIONS[name][2], parameters(name)
    assert schema["x-ms-trigger-metadata"] == {"mode": "polling", "kind": "query"}
    assert schema["responses"]["202"]["headers"].keys() == {"Location", "Retry-After"}
    cursors = [one for one in given if one.startswith("initial_")]
    for one in (*cursors, "state", "triggerState"):
        assert (given[one]["allowEmptyValue"], given[one]["x-ms-visibility"]) == (True, "internal")
        assert not given[one]["required"]
    assert [given[one]["default"] for one in cursors] == [0] * len(cursors)
    for status in ("200", "202"):
        assert schema["responses"][status]["schema"]["properties"]["state"]["type"] == "string"


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.name)
def test_an_event_is_a_webhook_trigger(event: Event) -> None:
    path = DEFINITION["paths"][f"/webhooks/{event.name}"]
    assert path["post"]["x-ms-trigger"] == "single"
    content = path["x-ms-notification-content"]
    assert content["description"].endswith(".")
    assert {"type", "eventType", "version", "data"} <= content["schema"]["properties"].keys()
    assert content["schema"]["properties"]["data"]["properties"]
    (body,) = (given for given in path["post"]["parameters"] if given["in"] == "body")
    urls = [name for name, schema in properties(body["schema"]) if schema.get("x-ms-notification-url")]
    assert urls == ["endpoint"]
    assert "Location" in path["post"]["responses"]["201"]["headers"]


def test_every_object_is_a_named_schema_and_what_is_always_there_is_required() -> None:
    assert not [schema for schema in inside(SERVED["paths"]) if "properties" in schema]
    for name, schema in SERVED["definitions"].items():
        assert re.fullmatch(r"([A-Z][a-z0-9]*)+", name)
        assert not [one for one in inside(schema["properties"]) if isinstance(one.get("properties"), dict)]
        required = set(schema.get("required", []))
        assert required <= schema["properties"].keys()
        if name.endswith("Answer") or name == "Refusal":
            assert {"version", "status", "statusCode", "message", "data"} <= required
        assert not [one for one in required - {"data"} if schema["properties"][one].get("x-nullable")]
    assert set(re.findall(r"#/definitions/(\w+)", json.dumps(SERVED))) == SERVED["definitions"].keys()
    for row in RESOURCES:
        assert SERVED["definitions"][row.noun]["required"] == [row.id_field]


def test_the_definition_has_media_types_and_tags_every_operation() -> None:
    assert SERVED["produces"] == ["application/json"]
    tags = [tag["name"] for tag in SERVED["tags"]]
    assert sorted({tag for _, _, operation in OPERATIONS.values() for tag in operation["tags"]}) == tags


def test_makers_choose_by_name() -> None:
    found = {
        name: schema["x-ms-dynamic-values"]
        for name, schema in (
            *((given["name"], given) for name in OPERATIONS for given in OPERATIONS[name][2]["parameters"]),
            *properties(DEFINITION["paths"]),
        )
        if "x-ms-dynamic-values" in schema
    }
    titled = [row for row in RESOURCES if row.title]
    assert {"employee", "contactID", *(row.id_parameter for row in titled)} <= found.keys()
    for chosen in found.values():
        action, given = OPERATIONS[chosen["operationId"]][2], parameters(chosen["operationId"])
        assert not any(one["required"] for one in given.values())
        assert chosen["parameters"].keys() <= given.keys()
        data = action["responses"]["200"]["schema"]["properties"][chosen["value-collection"]]
        assert {chosen["value-path"], chosen["value-title"]} <= set(data["items"]["required"])


def test_an_enum_has_one_name_and_one_set_of_values_wherever_it_stands() -> None:
    found: dict[str, list[str]] = {}
    for one in inside(SERVED):
        if "enum" in one:
            assert found.setdefault(one["x-ms-enum"]["name"], one["enum"]) == one["enum"]
    assert found["CallDirection"] == ["in", "out"]
    assert not {"Type", "Format", "Direction"} & found.keys()


def test_audio_is_asked_for_by_the_fields_of_its_event_and_comes_as_a_file() -> None:
    operation, given = OPERATIONS["GetAudio"][2], parameters("GetAudio")
    for media in MEDIA:
        content = DEFINITION["paths"][f"/webhooks/{media.stored}"]["x-ms-notification-content"]
        assert given.keys() == {"container", "blobName"} <= content["schema"]["properties"]["data"]["properties"].keys()
        assert media.container in given["container"]["enum"]
    assert re.search(given["blobName"]["pattern"], "2018/04/25/161204400117.mp3")
    assert not re.search(given["blobName"]["pattern"], "../payloads/2018/04/25/161204400117.mp3")
    assert operation["responses"]["200"]["schema"]["format"] == "binary"
    assert {"401", "404", "413", "503"} <= operation["responses"].keys()


def test_every_pattern_is_one_in_javascript_too_also_where_it_is_strict() -> None:
    found = sorted({one["pattern"] for one in inside(SERVED) if isinstance(one.get("pattern"), str)})
    assert len(found) >= 5
    program = "for (const one of JSON.parse(process.argv[1])) for (const flag of ['', 'u']) new RegExp(one, flag)"
    done = subprocess.run(["node", "-e", program, json.dumps(found)], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
