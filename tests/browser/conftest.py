"""The page in Debian's Chromium: the whole app on a real host, with a simulated PBX and a scripted day behind it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import sync_playwright

from dev.simulator import Simulator
from dev.simulator.calls import Call
from shared.bridge import Bridge, assemble
from shared.pbx.resources import RESOURCES, resource
from shared.polling.poll import poll, poll_lost_calls
from shared.settings import Settings
from tests.apps import MASTER, running_app
from tests.hosts import free_port
from tests.waiting import until

if TYPE_CHECKING:
    import requests
    from playwright.sync_api import Browser, BrowserContext, Page

    from tests.apps import RunningApp

KEY, ADMIN_KEY = "the-key-of-the-page", "the-key-of-the-admin"
MAIN_LINE = "67021234"
ANSWERED, LOST, BACK, SILENT = "+37129411870", "+37122004716", "+37129330145", "+37120177453"
_CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@dataclass
class App:
    """The running app, and the day that was played."""

    running: RunningApp
    bridge: Bridge
    people: dict[str, int]
    calls: dict[str, Call]

    @property
    def pbx(self) -> Simulator:
        return self.running.pbx

    @property
    def board(self) -> str:
        return f"{self.running.url}/api/board"

    def ask(self, method: str, path: str, **options: Any) -> requests.Response:
        """A request with the master key."""
        return self.running.ask(method, f"/api{path}", MASTER, **options)


@dataclass
class Reader:
    """A signed-in browser tab, with the messages of its console."""

    page: Page
    app: App
    said: list[str] = field(default_factory=list)
    clicks: int = 0

    def open(self, path: str = "/") -> Page:
        self.page.goto(self.app.board + path)
        return self.page

    def click(self, selector: str) -> None:
        """Click as a person does; no task takes more than three clicks."""
        self.clicks += 1
        assert self.clicks <= 3
        self.page.click(selector)


@pytest.fixture(scope="session")
def app(new_account: Callable[[], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """The app after a day of six calls; its timers do not run."""
    port, account = free_port(), new_account()
    settings = {
        "AzureWebJobsStorage": account,
        "PBX_WEBHOOK_KEY": "hook-key-hook-key",
        "PUBLIC_BASE_URL": f"http://127.0.0.1:{port}/",
        "BOARD_KEY": KEY,
        "BOARD_ADMIN_KEY": ADMIN_KEY,
        "POLL_START": "all",
    }
    with running_app(account, tmp_path_factory.mktemp("host"), port=port, **settings) as running:
        people = {
            first: running.pbx.add_contact(first, last, number, current_callerid=MAIN_LINE)
            for first, last, number in (("Anna", "Bērziņa", "26550101"), ("Jānis", "Kalniņš", "26550102"))
        }
        bridge = assemble(Settings.from_env(running.environment))
        for row in RESOURCES:
            poll(bridge, row)
        poll_lost_calls(bridge)
        played = App(running, bridge, people, {})
        synced = played.ask("POST", "/ops/webhooks/sync")
        assert synced.ok, synced.text
        _play(played)
        yield played


def _play(app: App) -> None:
    """Play calls of the last hours, and wait until the app knows how each of them ended."""
    pbx, anna, janis = app.pbx, app.people["Anna"], app.people["Jānis"]
    begin = datetime.now(UTC) - timedelta(hours=2)
    pbx.clock.set(begin)

    def call(name: str, minute: int, caller: str, contact: int, **plan: Any) -> None:
        destination, plan = plan.pop("destination", MAIN_LINE), {"talks": 0} | plan
        at = begin + timedelta(minutes=minute)
        app.calls[name] = pbx.call(caller, destination, at=at, contact_id=contact, rings=7, **plan)

    call("answered", 1, ANSWERED, anna, talks=95, recorded=True)
    call("lost", 20, LOST, anna)
    call("back", 30, BACK, janis)
    call("called back", 50, "26550102", janis, talks=64, destination=BACK, direction="out")
    call("voicemail", 70, SILENT, janis, voicemail=True)
    call("withheld", 90, "", anna, talks=31)
    pbx.clock.play(0.0)
    pbx.wait_delivered()
    pbx.clock.set(None)
    until(lambda: _is_told(app), 60)
    poll(app.bridge, resource("voicemails"))


def _is_told(app: App) -> bool:
    found = app.ask("GET", "/v2/calls").json()["data"]
    over = [item for item in found if item["outcome"] not in ("ringing", "talking")]
    stored = [
        part for item in found for name in ("recordings", "voicemails") for part in item[name] if part["blobName"]
    ]
    return len(over) == len(app.calls) and len(stored) == 2


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=_CHROMIUM, args=_ARGUMENTS)
        yield chromium
        chromium.close()


@pytest.fixture
def sign_in(browser: Browser, app: App) -> Iterator[Callable[..., Reader]]:
    """Open a tab in a language, a theme and a width, and sign in; any console message is an error."""
    opened: list[tuple[BrowserContext, Reader]] = []

    def start(language: str = "en", theme: Any = "light", width: int = 1440) -> Reader:
        context = browser.new_context(
            locale={"lv": "lv-LV", "en": "en-GB"}[language],
            color_scheme=theme,
            viewport={"width": width, "height": 900},
            timezone_id="America/New_York",
        )
        reader = Reader(context.new_page(), app)
        reader.page.set_default_timeout(15_000)
        reader.page.on("pageerror", lambda error: reader.said.append(str(error)))
        reader.page.on("console", lambda message: reader.said.append(message.text) if message.type == "error" else None)
        opened.append((context, reader))
        reader.open("/")
        reader.page.fill("#key", KEY)
        reader.page.press("#key", "Enter")
        reader.page.wait_for_selector("nav")
        return reader

    yield start
    for context, reader in opened:
        context.close()
        assert reader.said == []
