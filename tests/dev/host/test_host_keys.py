"""Function keys, enforced as in Azure."""

from __future__ import annotations

import http.client
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests

from dev.processes import HostProcess
from tests.hosts import MASTER, dev_host_only, start_host, write_keys

KEYS = {"master": MASTER, "host": {"default": "h"}, "functions": {"Guarded": {"pbx": "g"}, "locked": {"default": "l"}}}


@pytest.fixture(scope="module")
def guarded(app_dir: Path, quiet: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostProcess]:
    with start_host(app_dir, env={**quiet, **write_keys(tmp_path_factory.mktemp("secrets"), KEYS)}) as host:
        yield host


@pytest.mark.parametrize(
    ("path", "key", "status"),
    [
        ("/api/text", None, 200),
        ("/api/guarded", None, 401),
        ("/api/guarded", "l", 401),
        ("/api/guarded", "g", 200),
        ("/api/guarded", "h", 200),
        ("/api/locked", "h", 401),
        ("/api/locked", MASTER, 200),
        ("/admin/host/status", None, 401),
        ("/admin/host/status", "h", 403),
        ("/admin/functions", MASTER, 200),
        ("/admin/host/ping", None, 200),
        ("/api/asleep", None, 401),
        ("/api/asleep", "h", 404),
        ("/api/asleep", MASTER, 200),
    ],
)
@pytest.mark.parametrize("place", ["header", "query"])
def test_a_key_opens_its_level_and_functions(
    guarded: HostProcess, path: str, key: str | None, status: int, place: str
) -> None:
    given = {} if key is None else {"x-functions-key": key} if place == "header" else {"code": key}
    answer = requests.get(guarded.url + path, **{"headers" if place == "header" else "params": given})
    assert answer.status_code == status
    assert status not in (401, 403) or answer.content == b""
    assert answer.headers.get("WWW-Authenticate") == ("Bearer" if status == 401 and "/admin" in path else None)


@pytest.mark.parametrize(
    ("query", "header", "status"),
    [
        ("code=g&code=wrong", None, 200),
        ("code=wrong&code=g", None, 401),
        ("CODE=g&code=wrong", None, 200),
        ("code=&code=g", None, 401),
        ("code=g", "wrong", 401),
        ("code=wrong", "g", 200),
    ],
)
def test_the_header_counts_and_then_the_first_code(
    guarded: HostProcess, query: str, header: str | None, status: int
) -> None:
    headers = {"X-Functions-Key": header} if header else {}
    assert requests.get(f"{guarded.url}/api/guarded?{query}", headers=headers).status_code == status


def test_a_run_by_hand_needs_the_master_key(guarded: HostProcess) -> None:
    url = f"{guarded.url}/admin/functions/text"
    given = [
        requests.post(url, json={}, headers={"x-functions-key": key}).status_code for key in ("h", "wrong", MASTER)
    ]
    assert given == [403, 401, 202]


def test_blanks_around_the_headers_key_are_cut(guarded: HostProcess) -> None:
    connection = http.client.HTTPConnection(urlsplit(guarded.url).netloc)
    connection.request("GET", "/api/guarded", headers={"x-functions-key": "\tg "})
    assert connection.getresponse().status == 200
    connection.close()


@pytest.mark.slow
@dev_host_only
def test_without_a_folder_of_keys_every_level_is_open(app_dir: Path, quiet: Mapping[str, str]) -> None:
    with start_host(app_dir, env={**quiet, "HOST_SECRETS": ""}) as host:
        assert requests.get(f"{host.url}/api/locked").status_code == 200
        assert requests.get(f"{host.url}/admin/functions").status_code == 200
