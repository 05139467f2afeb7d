"""Pictures of the page for README, made by `make pictures`: invented people, real pages."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from dev.processes import ROOT
from tests.waiting import until

if TYPE_CHECKING:
    from tests.browser.conftest import App, Reader

PICTURES = ROOT / "docs" / "images"
PAGES = {
    "today": "/",
    "callbacks": "/callbacks/",
    "calls": "/calls",
    "call": "/calls/{call}",
    "voicemails": "/voicemails",
    "workings": "/workings/",
    "person": "/person/",
}


LOOKS = [(name, "en", "light", 1200) for name in PAGES] + [
    ("today", "lv", "dark", 360),
    ("callbacks", "lv", "light", 360),
]


@pytest.mark.parametrize("look", LOOKS)
def test_take(sign_in: Callable[..., Reader], app: App, look: tuple[str, str, str, int]) -> None:
    name, *of_tab = look
    if name == "workings":
        flow = {"endpoint": "http://127.0.0.1:9/hook", "name": "CRM"}
        assert app.ask("POST", "/v2/webhooks/CallCompleted", json=flow).ok
        until(lambda: app.ask("GET", "/ops/status").json()["health"]["webhooks"], 60)
    page = sign_in(*of_tab).open(PAGES[name].format(call=app.calls["answered"].id))
    if name == "workings":
        page.wait_for_selector("#subscription-list >> text='CRM'")
        page.wait_for_selector("#queues >> text=/Nothing waits|Messages/i")
    if name == "person":
        page.fill("#number", "+371 29 411 870")
        page.press("#number", "Enter")
        page.wait_for_selector("h2")
    PICTURES.mkdir(exist_ok=True)
    suffix = "" if of_tab == ["en", "light", 1200] else "-phone"
    page.screenshot(path=PICTURES / f"{name}{suffix}.png", full_page=True)
