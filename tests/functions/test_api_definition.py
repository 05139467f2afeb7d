"""The definition over HTTP: open to everybody, and true to its host."""

from __future__ import annotations

import pytest
from openapi_spec_validator import OpenAPIV2SpecValidator, validate

from tests.face import KEY, Face

pytestmark = pytest.mark.xdist_group("shared_face")


@pytest.fixture(scope="module")
def running(shared_face: Face) -> Face:
    return shared_face


def test_anybody_may_read_the_definition_from_any_page(running: Face) -> None:
    answer = running.ask("GET", "/api/swagger.json", headers={"x-functions-key": ""})
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "application/json")
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    definition = answer.json()
    validate(definition, cls=OpenAPIV2SpecValidator)
    assert f"{definition['schemes'][0]}://{definition['host']}" == running.url
    assert not any(secret in answer.text for secret in (KEY, running.pbx.api_key, running.pbx.base_url))


def test_the_definition_is_fetched_once(running: Face) -> None:
    etag = running.ask("GET", "/api/swagger.json").headers["ETag"]
    again = running.ask("GET", "/api/swagger.json", headers={"If-None-Match": etag})
    assert (again.status_code, again.content) == (304, b"")


def test_the_host_and_scheme_are_the_caller_s(running: Face) -> None:
    headers = {"Host": "func-pbx.azurewebsites.net", "X-Forwarded-Proto": "https"}
    definition = running.ask("GET", "/api/swagger.json", headers=headers).json()
    assert (definition["schemes"], definition["host"]) == (["https"], "func-pbx.azurewebsites.net")
