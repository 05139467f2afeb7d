"""Requests are read completely, even if the host drops parts of them."""

from __future__ import annotations

import json

import azure.functions as func
import pytest

from dev.host.http import first_match
from functions.api import _definition
from functions.requests import address, body_of, keys_of, origin, request_of
from shared.api.operations import ACTIONS
from shared.api.parameters import takes_body
from shared.errors import Refused
from shared.settings import settings
from tests.apps import MASTER, RunningApp
from tests.indexed import functions, hosted

pytestmark = pytest.mark.xdist_group("shared_bridge")
WITH_BODY = (
    "/api/events/CallStarted",
    "/api/events/VoicemailDeleted",
    "/api/v2/dial",
    "/api/v2/webhooks/CallStarted",
    "/api/v2/webhooks/unsubscribe",
    "/api/ops/deadletters/replay",
    "/api/ops/subscriptions/0123/replay",
    "/api/ops/people/export",
    "/api/ops/people/erase",
)
# POST all of them, and none takes a body.
WITHOUT_BODY = {
    "ApplyRetentionNow",
    "Board",
    "RetryDeadLetter",
    "WakeSubscription",
    "RotateSecret",
    "RotateSecretNow",
    "SyncWebhooksNow",
} | {action.id for action in ACTIONS if not takes_body(action)}


def request(url: str = "https://app.example/api/x", body: bytes = b"", **headers: str) -> func.HttpRequest:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return func.HttpRequest("POST", url, headers=named, body=body)


@pytest.mark.parametrize("encoding", ["chunked", "gzip, chunked", "Chunked"])
def test_an_empty_body_in_chunks_has_lost_its_text(encoding: str) -> None:
    with pytest.raises(Refused, match="Content-Length"):
        body_of(request(transfer_encoding=encoding))
    assert body_of(request(body=b"{}", transfer_encoding=encoding)) == b"{}"
    assert body_of(request()) == b""
    assert request_of(request(transfer_encoding=encoding)).body == b""


@pytest.mark.parametrize(
    ("url", "header", "keys"),
    [
        ("https://a/b?code=x%2By", None, ("x+y",)),
        ("https://a/b?Code=x&code=z", None, ("x",)),
        ("https://a/b?code=x", "y", ("x", "y")),
        ("https://a/b?code=", "y", ("y",)),
        ("https://a/b?decode=x", None, ()),
    ],
)
def test_a_key_comes_in_the_query_or_a_header(url: str, header: str | None, keys: tuple[str, ...]) -> None:
    assert keys_of(request(url, **({"X_Functions_Key": header} if header else {}))) == keys


def test_parameters_without_a_value_are_seen() -> None:
    assert request_of(request("https://a/b?x=&y"), with_body=True).query == {"x": "", "y": ""}


@pytest.mark.parametrize(
    ("url", "forwarded", "expected"),
    [
        ("http://app.example/x", "https", ("https", "app.example")),
        ("http://app.example:7071/x", "", ("http", "app.example:7071")),
        ("http://[::1]:7071/x", "gopher", ("http", "[::1]:7071")),
        ('http://a"b/x', "https, http", ("https", "localhost")),
    ],
)
def test_the_origin_is_the_caller_s(url: str, forwarded: str, expected: tuple[str, str]) -> None:
    assert origin(request(url, X_Forwarded_Proto=forwarded)) == expected


@pytest.mark.parametrize(
    ("public", "expected"),
    [("", "http://app.example:7071"), ("https://calls.example/pbx/", "https://calls.example/pbx")],
)
def test_answers_name_the_public_address(public: str, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PUBLIC_BASE_URL", public)
    monkeypatch.setenv("DataStorage", "UseDevelopmentStorage=true")
    settings.cache_clear()
    assert address(request("http://app.example:7071/api/x")) == expected
    definition = json.loads(_definition(request("http://app.example:7071/api/swagger.json")).get_body())
    assert f"{definition['schemes'][0]}://{definition['host']}{definition['basePath']}" == f"{expected}/api/v2"
    settings.cache_clear()


def test_every_route_that_takes_a_body_is_asked_below() -> None:
    posts = [one for one in functions() if "POST" in one.methods and not one.route.startswith("events/")]
    asked = {first_match(hosted(), "POST", path) for path in WITH_BODY if not path.startswith("/api/events/")}
    assert {one.name for one in posts} - WITHOUT_BODY == asked


@pytest.mark.parametrize("path", WITH_BODY)
def test_a_body_in_chunks_is_asked_for_with_its_length(path: str, shared_bridge: RunningApp) -> None:
    answer = shared_bridge.ask("POST", path, key=MASTER, data=iter([b'{"eventType": ', b'"CallStarted"}']))
    assert (answer.status_code, answer.headers["Content-Type"].split(";")[0]) == (411, "text/plain")
    assert "Content-Length" in answer.text
    assert not list(shared_bridge.storage.table("deadletters").list_entities())


@pytest.mark.parametrize("path", [path for path in WITH_BODY if not path.startswith("/api/ops/")])
def test_an_empty_body_is_invalid_json(path: str, shared_bridge: RunningApp) -> None:
    answer = shared_bridge.ask("POST", path, key=MASTER, data=b"")
    assert answer.status_code == 400
    kept = list(shared_bridge.storage.table("deadletters").list_entities())
    assert bool(kept) == path.startswith("/api/events/")
    for row in kept:
        shared_bridge.storage.table("deadletters").delete_entity(row)
