"""Which callback addresses are taken."""

from __future__ import annotations

import socket
import threading
import time
from typing import Any

import pytest

from shared.subscriptions import endpoints
from shared.subscriptions.endpoints import LONGEST, check_endpoint, host_of, is_workflow_host, normalised

WORKFLOW = "https://prod-01.westeurope.logic.azure.com:443/workflows/ab/triggers/t/paths/invoke?sp=%2Ft&sig=s-e_c"
LOCAL = ("http://127.0.0.1:8080/hook", "https://127.0.0.1/hook", "http://localhost:9/hook", "http://127.9.9.9/")


@pytest.mark.parametrize(
    "url", [WORKFLOW, "https://8.8.8.8/hook", "https://8.8.8.8:8443/", "https://[2001:4860:4860::8888]/a?b=c"]
)
@pytest.mark.parametrize("allow_loopback", [False, True])
def test_public_https_is_taken(url: str, allow_loopback: bool) -> None:
    check_endpoint(url, allow_loopback=allow_loopback)


@pytest.mark.parametrize("url", LOCAL)
def test_this_machine_is_taken_where_that_is_allowed_only(url: str) -> None:
    check_endpoint(url, allow_loopback=True)
    with pytest.raises(ValueError, match=r"."):
        check_endpoint(url, allow_loopback=False)


@pytest.mark.parametrize("allow_loopback", [False, True])
@pytest.mark.parametrize(
    "url",
    [
        "",
        "hook",
        "//8.8.8.8/hook",
        "http://8.8.8.8/hook",
        "ftp://8.8.8.8/hook",
        "https:///hook",
        "https://user@8.8.8.8/hook",
        "https://user:word@8.8.8.8/hook",
        "https://@8.8.8.8/hook",
        "https://8.8.8.8/hook#part",
        "https://8.8.8.8:0/hook",
        "https://8.8.8.8:99999/hook",
        "https://8.8.8.8:port/hook",
        "https://8.8.8.8/a hook",
        "https://8.8.8.8/a\nhook",
        "https://8.8.8.8\\@127.0.0.1/",
        "https://[::1/hook",
        "https://10.0.0.1/hook",
        "https://172.16.0.1/hook",
        "https://192.168.1.1/hook",
        "https://169.254.169.254/metadata",
        "https://168.63.129.16/metadata",
        "https://100.64.0.1/hook",
        "https://0.0.0.0/hook",
        "https://[::1]/hook",
        "https://[fe80::1]/hook",
        "https://[fd00::1]/hook",
        "https://[::ffff:10.0.0.1]/hook",
        "https://10.1/hook",
        "https://0x0a000001/hook",
        "https://167772161/hook",
        "https://10.0.0.1./hook",
        "https://%31%30.0.0.1/hook",
        "https://[::1%25eth0]/hook",
        "https://(10.0.0.1)/hook",
        "https://8.8.8.8/" + "a" * LONGEST,
    ],
)
def test_everything_else_is_refused(url: str, allow_loopback: bool) -> None:
    with pytest.raises(ValueError, match=r"."):
        check_endpoint(url, allow_loopback=allow_loopback)


@pytest.mark.parametrize(
    ("found", "taken"),
    [
        (["93.184.216.34"], True),
        (["93.184.216.34", "10.0.0.1"], False),
        (["127.0.0.1"], False),
        (["169.254.169.254"], False),
        (["fe80::1%eth0"], False),
    ],
)
def test_every_address_behind_a_name_has_to_be_public(
    found: list[str], taken: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: Any = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in found]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: rows)
    if taken:
        check_endpoint("https://hooks.example.com/a", allow_loopback=False)
    else:
        with pytest.raises(ValueError, match="internet"):
            check_endpoint("https://hooks.example.com/a", allow_loopback=False)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_name_for_this_machine_is_as_good_as_its_address(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rows: Any = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: rows)
    check_endpoint(f"{scheme}://hooks.example.com:8080/a", allow_loopback=True)
    with pytest.raises(ValueError, match=r"internet|https"):
        check_endpoint(f"{scheme}://hooks.example.com:8080/a", allow_loopback=False)


def test_a_silent_name_server_keeps_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    answered = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answered.wait(10) and [])
    monkeypatch.setattr(endpoints, "LOOKUP_SECONDS", 0.1)
    start = time.monotonic()
    check_endpoint(WORKFLOW, allow_loopback=False)
    answered.set()
    assert time.monotonic() - start < 2


def test_a_name_that_nobody_knows_now_is_checked_when_it_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(socket.EAI_AGAIN, "later")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    check_endpoint(WORKFLOW, allow_loopback=False)


@pytest.mark.parametrize(
    ("url", "is_one"),
    [
        (WORKFLOW, True),
        ("https://prod-2.usgovtexas.logic.azure.us/x", True),
        ("https://europe.azure-apihub.net/x", True),
        ("https://PROD-1.LOGIC.AZURE.COM/x", True),
        ("https://prod-1.logic.azure.com./x", True),
        ("https://logic.azure.com.example.com/x", False),
        ("https://example.com/logic.azure.com", False),
        ("https://example.com/x?.logic.azure.com", False),
    ],
)
def test_workflow_hosts_are_known_by_their_names(url: str, is_one: bool) -> None:
    assert is_workflow_host(url) is is_one


def test_of_an_address_the_host_alone_is_shown() -> None:
    assert host_of(WORKFLOW) == "prod-01.westeurope.logic.azure.com:443"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("https://[2001:4860:4860::808:8888]/b", "https://[2001:4860:4860::8.8.136.136]/b"),
        ("https://[2001:4860:4860::8888]/b", "HTTPS://[2001:4860:4860:0:0:0:0:8888]:443/b#"),
        ("https://8.8.8.8/b", "https://8.8.8.8.:00443/b"),
        ("https://example.org", "https://EXAMPLE.org.:/"),
        ("https://my_host.example.org/", "https://MY_HOST.example.org:443"),
    ],
)
def test_one_address_is_one_in_every_spelling_that_is_taken(
    one: str, other: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [])
    for url in (one, other):
        check_endpoint(url, allow_loopback=False)
    assert normalised(one) == normalised(other)
    assert normalised(one) != normalised(f"{other.rstrip('#')}/c")


@pytest.mark.parametrize("allow_loopback", [False, True])
@pytest.mark.parametrize("host", ["intranet", "com.", "134744072", "0x08080808", "8.8.2056", "8.8.8.08", "8.8.8.8.."])
def test_a_host_that_is_read_differently_from_place_to_place_is_refused(host: str, allow_loopback: bool) -> None:
    with pytest.raises(ValueError, match=r"usual spelling|internet"):
        check_endpoint(f"https://{host}/hook", allow_loopback=allow_loopback)
