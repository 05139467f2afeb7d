"""The connector's files match the app, and the documentation's code for deliveries works."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import pathlib
import re
import struct
import time
import zlib
from collections.abc import Callable
from typing import Any

import pytest

from dev.connector import BRAND, DIRECTORY, HOST, properties_text
from shared.api.definition import KEY, definition, served
from shared.api.operations import GET_ENDED_CALLS, LISTS
from shared.pbx.operations import operation
from shared.pbx.resources import RESOURCES
from tests.indexed import functions

DOCUMENT = (pathlib.Path(__file__).parents[1] / "docs" / "logic-apps.md").read_text()
SECRET = "whsec_" + base64.b64encode(b"a secret of thirty-two bytes....").decode()


def test_the_connector_s_definition_is_what_the_app_serves() -> None:
    committed = json.loads((DIRECTORY / "apiDefinition.swagger.json").read_text())
    assert committed == json.loads(served("https", HOST)[0]) == definition("https", HOST)


def test_every_list_polls_by_the_state_that_its_last_answer_gave() -> None:
    properties = json.loads(properties_text())["properties"]
    assert list(properties["connectionParameters"]) == [KEY]
    policies = {
        row["parameters"]["x-ms-apimTemplate-operationName"][0]: row for row in properties["policyTemplateInstances"]
    }
    assert policies.keys() == {row.id for row in (*LISTS, GET_ENDED_CALLS)}
    assert len({row["title"] for row in policies.values()}) == len(policies)
    for row in RESOURCES:
        config = policies[row.list_operation]["parameters"]["x-ms-apimTemplateParameter.triggerConfig"]
        assert config == {"state": "@{triggerBody().state}"}
        schema = definition("https", HOST)["paths"][f"/{operation(row.list_operation).path}"]["get"]
        (given,) = (one for one in schema["parameters"] if one["name"] == "state")
        assert (given["x-ms-visibility"], given["required"], given["default"]) == ("internal", False, "now")


def test_the_icon_is_a_png_on_a_colour_of_its_own() -> None:
    body = (DIRECTORY / "icon.png").read_bytes()
    assert body.startswith(b"\x89PNG\r\n\x1a\n")
    width, height, depth, kind = struct.unpack(">IIBB", body[16:26])
    assert 100 <= width == height <= 230
    assert (depth, kind) == (8, 2)
    start = body.index(b"IDAT")
    (length,) = struct.unpack(">I", body[start - 4 : start])
    pixels = zlib.decompress(body[start + 4 : start + 4 + length])
    assert len(pixels) == height * (3 * width + 1)
    assert pixels[1:4] == bytes.fromhex(BRAND[1:])
    assert BRAND not in ("#007ee5", "#ffffff")


@pytest.fixture(scope="module")
def is_genuine() -> Callable[..., bool]:
    """Return the documentation's function for subscribers."""
    (source,) = re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL)
    names: dict[str, Any] = {}
    exec(source, names)
    function: Callable[..., bool] = names["is_genuine"]
    return function


def signed(body: bytes, *, secret: str = SECRET, sent: int | None = None, id: str = "evt") -> dict[str, str]:
    stamp = int(time.time()) if sent is None else sent
    key = base64.b64decode(secret.removeprefix("whsec_"))
    digest = hmac.new(key, f"{id}.{stamp}.".encode() + body, hashlib.sha256).digest()
    signature = "v1," + base64.b64encode(digest).decode()
    return {"webhook-id": id, "webhook-timestamp": str(stamp), "webhook-signature": signature}


def test_the_documented_verification_accepts_our_signatures(is_genuine: Callable[..., bool]) -> None:
    headers = signed(b'{"type":"Event"}')
    assert is_genuine(headers, b'{"type":"Event"}', SECRET)
    rotating = headers | {"webhook-signature": "v1,b3RoZXI= " + headers["webhook-signature"]}
    assert is_genuine(rotating, b'{"type":"Event"}', SECRET)


@pytest.mark.parametrize(
    "change",
    [
        {"webhook-id": "other"},
        {"webhook-timestamp": "1"},
        {"webhook-timestamp": "soon"},
        {"webhook-signature": "v1,"},
        {"webhook-signature": "garbage"},
        {"webhook-signature": ""},
        {"webhook-signature": "v1,é"},
    ],
    ids=str,
)
def test_the_documented_verification_refuses_the_rest(change: dict[str, str], is_genuine: Callable[..., bool]) -> None:
    assert not is_genuine(signed(b"{}") | change, b"{}", SECRET)
    assert not is_genuine(signed(b"{}"), b"{} ", SECRET)
    assert not is_genuine(signed(b"{}", sent=int(time.time()) - 301), b"{}", SECRET)
    assert not is_genuine(signed(b"{}", sent=int(time.time()) + 302), b"{}", SECRET)
    assert not is_genuine({}, b"{}", SECRET)


def test_every_block_of_json_in_the_documentation_is_json() -> None:
    blocks = re.findall(r"```json\n(.*?)```", DOCUMENT, re.DOTALL)
    assert blocks
    for block in blocks:
        json.loads("{" + block + "}")


def test_the_documentation_s_paths_are_the_app_s() -> None:
    paths = set(definition("https", HOST)["paths"])
    # Placeholders are cut off, and audio has no definition.
    others = [one.route.removeprefix("v2") for one in functions() if one.route.startswith("v2/")]
    for path in re.findall(r"https://<app>/api/v2(/[\w/]+)", DOCUMENT):
        known = path in paths or re.sub(r"/\w+$", "/{webhook_id}", path) in paths
        assert known or (path.endswith("/") and any(route.startswith(path) for route in others)), path
