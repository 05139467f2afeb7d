"""The definition keeps every rule that Logic Apps, custom connectors and OpenAPI 2.0 make."""

from __future__ import annotations

import json
import re
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from openapi_spec_validator import OpenAPIV2SpecValidator, validate

from shared.api.openapi.definition import definition, served
from shared.api.openapi.schemas import title
from shared.api.operations import ACTIONS, LISTS
from shared.events.table import EVENTS
from shared.pbx.resources import RESOURCES
from tests.definitions import whole

if TYPE_CHECKING:
    from collections.abc import Iterator

SERVED = definition("https", "func-pbx.azurewebsites.net")
DEFINITION = whole(SERVED)
METHODS = ("get", "post", "put", "delete")
OPERATIONS = [
    (path, method, operation)
    for path, methods in DEFINITION["paths"].items()
    for method, operation in methods.items()
    if method in METHODS
]
IDS = [operation["operationId"] for _, _, operation in OPERATIONS]


def schemas(value: Any) -> Iterator[dict[str, Any]]:
    """Every schema inside, with its own."""
    if isinstance(value, dict):
        if "type" in value and isinstance(value["type"], str):
            yield value
        for part in value.values():
            yield from schemas(part)
    elif isinstance(value, list):
        for part in value:
            yield from schemas(part)


def properties(value: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    for schema in schemas(value):
        yield from schema.get("properties", {}).items()


def test_it_is_openapi_2() -> None:
    assert DEFINITION["swagger"] == "2.0"
    validate(json.loads(served("https", "localhost:7071")[0]), cls=OpenAPIV2SpecValidator)


def test_it_says_where_it_was_asked_for() -> None:
    described = json.loads(served("http", "127.0.0.1:7071")[0])
    assert (described["schemes"], described["host"], described["basePath"]) == (["http"], "127.0.0.1:7071", "/api/v2")


def test_its_etag_changes_with_its_content_only() -> None:
    assert served("https", "a")[1] == served("https", "a")[1] != served("https", "b")[1]


def test_every_row_of_the_tables_is_there_once() -> None:
    rows = {row.id for row in (*ACTIONS, *LISTS)} | {event.name for event in EVENTS}
    assert rows <= set(IDS)
    assert len(IDS) == len(set(IDS))


def test_a_connector_can_be_made_of_it() -> None:
    info = DEFINITION["info"]
    assert len(info["title"]) <= 30
    assert 30 <= len(info["description"]) <= 500
    assert not re.search(r"(?i)\b(api|connector|power|logic)\b", info["title"])
    assert DEFINITION["securityDefinitions"]["api_key"]["name"] == "x-functions-key"
    names = [row["propertyName"] for row in DEFINITION["x-ms-connector-metadata"]]
    assert names == ["Website", "Privacy policy", "Categories"]


def test_an_operation_is_described() -> None:
    for _, _, operation in OPERATIONS:
        assert re.fullmatch(r"([A-Z][a-z0-9]*|ID)+", operation["operationId"])
        summary, description = operation["summary"], operation["description"]
        assert summary[0].isupper() and not summary.endswith(".")
        assert description[0].isupper() and description.endswith(".")
        assert summary.rstrip(".").lower() != description.rstrip(".").lower()
        assert operation.get("x-ms-visibility", "important") in ("important", "advanced", "internal")


def test_every_parameter_is_described() -> None:
    for path, _, operation in OPERATIONS:
        for parameter in operation["parameters"]:
            if parameter["in"] == "body":
                assert operation["consumes"] == ["application/json"]
                continue
            assert parameter["x-ms-summary"] == parameter["x-ms-summary"].strip()
            assert parameter["x-ms-summary"][0].isupper()
            assert parameter["description"].endswith(".")
            if parameter["in"] == "path":
                assert parameter["required"] and parameter["x-ms-url-encoding"] == "single"
            if parameter["required"] and parameter.get("x-ms-visibility") == "internal":
                assert "default" in parameter
        named = set(re.findall(r"{(\w+)}", path))
        assert named == {parameter["name"] for parameter in operation["parameters"] if parameter["in"] == "path"}


def test_every_property_is_described() -> None:
    for _, _, operation in OPERATIONS:
        for name, schema in properties(operation):
            assert schema["x-ms-summary"][0].isupper(), name
            assert schema["description"].endswith("."), name


def test_every_status_has_an_answer() -> None:
    for _, _, operation in OPERATIONS:
        responses = operation["responses"]
        assert any(status.startswith("2") for status in responses)
        assert any(status.startswith("4") for status in responses)
        for status, response in responses.items():
            assert response["description"].strip()
            assert status in ("204", "401", "411") or "schema" in response
            if status in ("202", "429", "503"):
                assert response["headers"]["Retry-After"]["type"] == "integer"
        keyed = operation.get("security") != []
        assert keyed == ("401" in responses)


def test_integers_have_64_bits_and_arrays_say_what_they_hold() -> None:
    for schema in schemas(DEFINITION["paths"]):
        if schema["type"] == "integer" and "description" in schema and "x-ms-summary" in schema:
            assert schema["format"] == "int64"
        if schema["type"] == "array":
            assert "items" in schema


@pytest.mark.parametrize("row", LISTS, ids=lambda row: row.id)
def test_a_list_is_a_polling_trigger(row: Any) -> None:
    schema = DEFINITION["paths"][f"/{row.path}"]["get"]
    assert schema["x-ms-trigger"] == "batch"
    assert schema["x-ms-trigger-metadata"] == {"mode": "polling", "kind": "query"}
    assert schema["responses"]["202"]["headers"].keys() == {"Location", "Retry-After"}
    cursor = next(given for given in schema["parameters"] if given["name"].startswith("initial_"))
    assert (cursor["default"], cursor["x-ms-visibility"]) == (0, "internal")


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.name)
def test_an_event_is_a_webhook_trigger(event: Any) -> None:
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


@pytest.mark.parametrize(
    ("name", "described"),
    [
        ("callID", "Call ID"),
        ("callStarted", "Call Started"),
        ("recordingURL", "Recording URL"),
        ("previous_contactID", "Previous Contact ID"),
        ("voicemailBoxName", "Voicemail Box Name"),
        ("callerid", "Caller ID"),
        ("eventType", "Event Type"),
    ],
)
def test_a_field_s_title_is_its_name_in_words(name: str, described: str) -> None:
    assert title(name) == described


def inline(value: Any, at: str = "") -> Iterator[str]:
    """Where an object with properties of its own stands outside `definitions`."""
    if isinstance(value, dict):
        if "properties" in value:
            yield at
        for name, part in value.items():
            yield from inline(part, f"{at}/{name}")
    elif isinstance(value, list):
        for place, part in enumerate(value):
            yield from inline(part, f"{at}/{place}")


def test_every_object_is_a_named_schema() -> None:
    assert list(inline(SERVED["paths"])) == []
    for name, schema in SERVED["definitions"].items():
        assert re.fullmatch(r"([A-Z][a-z0-9]*)+", name)
        assert list(inline(schema["properties"])) == []
    used = set(re.findall(r"#/definitions/(\w+)", json.dumps(SERVED)))
    assert used == SERVED["definitions"].keys()
    for _, _, operation in OPERATIONS:
        path, method = next((path, method) for path, method, one in OPERATIONS if one is operation)
        for status, answer in SERVED["paths"][path][method]["responses"].items():
            schema = answer.get("schema", {"$ref": ""})
            is_file = schema.get("format") == "binary"
            assert is_file or schema.keys() == {"$ref"}, (operation["operationId"], status)


def test_what_is_always_there_is_required_and_never_null() -> None:
    for name, schema in SERVED["definitions"].items():
        required = schema.get("required", [])
        assert set(required) <= schema["properties"].keys()
        if name.endswith("Answer") or name == "Refusal":
            assert {"version", "status", "statusCode", "message", "data"} <= set(required)
        for field in required:
            assert not schema["properties"][field].get("x-nullable") or field == "data"
    for row in RESOURCES:
        assert SERVED["definitions"][row.noun]["required"] == [row.id_field]


def test_it_says_what_it_produces_and_tags_every_operation() -> None:
    assert SERVED["produces"] == ["application/json"]
    tags = [tag["name"] for tag in SERVED["tags"]]
    assert sorted(set(tags)) == tags
    assert {tag for _, _, operation in OPERATIONS for tag in operation["tags"]} == set(tags)


def choices(value: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every parameter and property that is picked from a list, by its name."""
    if isinstance(value, dict):
        if "x-ms-dynamic-values" in value and "name" in value:
            yield value["name"], value["x-ms-dynamic-values"]
        for name, part in value.get("properties", {}).items():
            if "x-ms-dynamic-values" in part:
                yield name, part["x-ms-dynamic-values"]
        for part in value.values():
            yield from choices(part)
    elif isinstance(value, list):
        for part in value:
            yield from choices(part)


def test_makers_pick_by_name_what_has_one() -> None:
    found = dict(choices(DEFINITION["paths"]))
    titled = [row for row in RESOURCES if row.title]
    assert {"contact_id", "employee", "contactID", "group_id", "box_id", "prompt_id", "endpoint_id"} <= found.keys()
    assert {row.id_parameter for row in titled} <= found.keys()
    assert found.keys() <= {"employee", *(name for row in titled for name in (row.id_parameter, row.id_field))}
    for chosen in found.values():
        action = OPERATIONS[IDS.index(chosen["operationId"])][2]
        assert not any(parameter["required"] for parameter in action["parameters"])
        assert chosen["parameters"].keys() <= {parameter["name"] for parameter in action["parameters"]}
        data = action["responses"]["200"]["schema"]["properties"][chosen["value-collection"]]
        assert {chosen["value-path"], chosen["value-title"]} <= set(data["items"]["required"])


def test_direction_and_shape_are_chosen() -> None:
    for _, _, operation in OPERATIONS:
        for given in operation["parameters"]:
            if given["name"] == "direction":
                assert given["enum"] == ["in", "out"]
    body = next(given for given in DEFINITION["paths"]["/webhooks/CallStarted"]["post"]["parameters"])["schema"]
    assert body["properties"]["shape"]["enum"] == ["native", "cloudevents"]
    assert body["properties"]["filter"]["properties"]["direction"]["enum"] == ["in", "out"]


@pytest.mark.parametrize("row", LISTS, ids=lambda row: row.id)
def test_an_empty_cursor_and_states_are_taken_and_states_are_internal(row: Any) -> None:
    given = {one["name"]: one for one in DEFINITION["paths"][f"/{row.path}"]["get"]["parameters"]}
    cursor = next(name for name in given if name.startswith("initial_"))
    for name in (cursor, "state", "triggerState"):
        assert (given[name]["allowEmptyValue"], given[name]["x-ms-visibility"]) == (True, "internal")
        assert not given[name]["required"]
    for status in ("200", "202"):
        operation = DEFINITION["paths"][f"/{row.path}"]["get"]
        assert operation["responses"][status]["schema"]["properties"]["state"]["type"] == "string"


def patterns(part: Any) -> Iterator[str]:
    """All patterns in a definition."""
    if isinstance(part, dict):
        if isinstance(part.get("pattern"), str):
            yield part["pattern"]
        part = list(part.values())
    for each in part if isinstance(part, list) else ():
        yield from patterns(each)


def test_every_pattern_is_one_in_javascript_too_also_where_it_is_strict() -> None:
    found = sorted(set(patterns(definition("https", "func.example"))))
    assert len(found) >= 5
    program = "for (const one of JSON.parse(process.argv[1])) for (const flag of ['', 'u']) new RegExp(one, flag)"
    done = subprocess.run(["node", "-e", program, json.dumps(found)], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
