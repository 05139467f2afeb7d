"""The callback addresses that are accepted, and how they are shown."""

from __future__ import annotations

import pytest

from shared.api.subscribe import LONGEST_ENDPOINT, LOOPBACK, SubscribeRequest
from shared.subscriptions import host_of, is_workflow_host

WORKFLOW = "https://prod-01.westeurope.logic.azure.com:443/workflows/ab/triggers/t/paths/invoke?sp=%2Ft&sig=s-e_c"


def check_endpoint(url: str, *, allow_loopback: bool) -> None:
    SubscribeRequest.model_validate({"endpoint": url}, context={LOOPBACK: allow_loopback})


@pytest.mark.parametrize("url", [WORKFLOW, "https://8.8.8.8:8443/hook", "https://[2001:4860:4860::8888]/a?b=c"])
@pytest.mark.parametrize("allow_loopback", [False, True])
def test_https_is_accepted(url: str, allow_loopback: bool) -> None:
    check_endpoint(url, allow_loopback=allow_loopback)


@pytest.mark.parametrize("url", ["http://127.0.0.1:8080/hook", "https://127.0.0.1/hook", "http://localhost:9/hook"])
def test_this_machine_is_accepted_where_that_is_allowed_only(url: str) -> None:
    check_endpoint(url, allow_loopback=True)
    with pytest.raises(ValueError, match=r"https|internet"):
        check_endpoint(url, allow_loopback=False)


@pytest.mark.parametrize("allow_loopback", [False, True])
@pytest.mark.parametrize(
    "url",
    [
        "",
        "http://8.8.8.8/hook",
        "https:///hook",
        "https://user:word@8.8.8.8/hook",
        "https://8.8.8.8:99999/hook",
        "https://8.8.8.8/a hook",
        "https://[::1/hook",
        "https://10.0.0.1/hook",
        "https://169.254.169.254/metadata",
        "https://[::1]/hook",
        "https://[fd00::1]/hook",
        "https://[::ffff:10.0.0.1]/hook",
        "https://8.8.8.8/" + "a" * LONGEST_ENDPOINT,
    ],
)
def test_everything_else_is_refused(url: str, allow_loopback: bool) -> None:
    with pytest.raises(ValueError, match=r"https|internet"):
        check_endpoint(url, allow_loopback=allow_loopback)


@pytest.mark.parametrize(
    ("url", "is_one"),
    [
        (WORKFLOW, True),
        ("https://PROD-1.LOGIC.AZURE.COM./x", True),
        ("https://europe.azure-apihub.net/x", True),
        ("https://logic.azure.com.example.com/x", False),
        ("https://example.com/x?.logic.azure.com", False),
    ],
)
def test_workflow_hosts_are_known_by_their_names(url: str, is_one: bool) -> None:
    assert is_workflow_host(url) is is_one


def test_of_an_address_the_host_alone_is_shown() -> None:
    assert host_of(WORKFLOW) == "prod-01.westeurope.logic.azure.com:443"
