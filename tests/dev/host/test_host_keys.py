"""Function keys, enforced as in Azure."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import requests

from dev.host.process import HostProcess

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

KEYS = {"master": "m", "host": {"default": "h"}, "functions": {"Guarded": {"pbx": "g"}, "locked": {"default": "l"}}}


@pytest.fixture(scope="module")
def guarded(app_dir: Path, quiet: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostProcess]:
    file = tmp_path_factory.mktemp("keys") / "keys.json"
    file.write_text(json.dumps(KEYS))
    with HostProcess(app_dir, env=quiet, arguments=("--enable-auth", "--keys", str(file))) as host:
        yield host


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "key", "status"),
    [
        ("/api/text", None, 200),
        ("/api/text", "wrong", 200),
        ("/api/guarded", None, 401),
        ("/api/guarded", "", 401),
        ("/api/guarded", "wrong", 401),
        ("/api/guarded", "l", 401),
        ("/api/guarded", "g", 200),
        ("/api/guarded", "h", 200),
        ("/api/guarded", "m", 200),
        ("/api/locked", "l", 401),
        ("/api/locked", "h", 401),
        ("/api/locked", "m", 200),
        ("/admin/host/status", None, 401),
        ("/admin/host/status", "wrong", 401),
        ("/admin/host/status", "g", 401),
        ("/admin/host/status", "h", 403),
        ("/admin/functions", "h", 403),
        ("/admin/functions", "m", 200),
        ("/admin/functions/text", "h", 403),
        ("/admin/host/ping", None, 200),
        ("/admin/nowhere", None, 404),
        ("/api/asleep", None, 401),
        ("/api/asleep", "h", 404),
        ("/api/asleep", "m", 200),
        ("/api/nowhere", None, 404),
        ("/", None, 200),
    ],
)
@pytest.mark.parametrize("place", ["header", "query"])
def test_a_key_opens_what_it_is_for(guarded: HostProcess, path: str, key: str | None, status: int, place: str) -> None:
    given = {} if key is None else {"x-functions-key": key} if place == "header" else {"code": key}
    answer = requests.get(guarded.url + path, **{"headers" if place == "header" else "params": given})
    assert answer.status_code == status
    assert status not in (401, 403) or answer.content == b""
    assert answer.headers.get("WWW-Authenticate") == ("Bearer" if status == 401 and "/admin" in path else None)


@pytest.mark.parametrize(
    ("query", "status"),
    [("code=g&code=wrong", 200), ("code=wrong&code=g", 401), ("CODE=g&code=wrong", 200), ("code=&code=g", 401)],
)
def test_of_two_codes_the_first_counts(guarded: HostProcess, query: str, status: int) -> None:
    assert requests.get(f"{guarded.url}/api/guarded?{query}").status_code == status


def test_a_run_by_hand_needs_the_master_key(guarded: HostProcess) -> None:
    url = f"{guarded.url}/admin/functions/text"
    given = [requests.post(url, json={}, headers={"x-functions-key": key}).status_code for key in ("h", "wrong", "m")]
    assert given == [403, 401, 202]


@pytest.mark.parametrize(("header", "status"), [("wrong", 401), ("g", 200)])
def test_the_header_goes_before_the_query(guarded: HostProcess, header: str, status: int) -> None:
    code = "g" if header == "wrong" else "wrong"
    answer = requests.get(f"{guarded.url}/api/guarded?code={code}", headers={"X-Functions-Key": header})
    assert answer.status_code == status


def test_without_enable_auth_no_key_is_asked(plain: HostProcess) -> None:
    assert requests.get(f"{plain.url}/api/locked").status_code == 200
    assert requests.get(f"{plain.url}/admin/functions").status_code == 200
