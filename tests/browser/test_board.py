"""The page as a person uses it: in two languages, two themes and two widths, with a mouse and without."""

from __future__ import annotations

import random
import zipfile
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from dev.processes import ROOT
from shared.privacy import jobs
from shared.times import local_day, now
from tests.browser.conftest import ADMIN_KEY, BACK, MAIN_LINE, App, Reader
from tests.waiting import until

if TYPE_CHECKING:
    from playwright.sync_api import Page

PAGES = ("/", "/callbacks/", "/calls", "/voicemails", "/workings/", "/workings/subscriptions", "/person/")
AXE = (ROOT / "node_modules" / "axe-core" / "axe.min.js").read_text()
HOSTILE = "<script>document.title='stolen'</script>\u202e\u2066" + "ģ" * 10_000


def serious(reader: Reader) -> list[str]:
    """Return the serious findings of axe in the open page."""
    found: dict[str, Any] = reader.page.evaluate(f"{AXE}; axe.run()")
    return [
        f"{one['id']}: {node['html'][:120]}"
        for one in found["violations"]
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"]
    ]


def lose(app: App, caller: str, **more: Any) -> None:
    """Have a caller reach nobody, and wait until the app knows."""
    data = {"callerid": caller, "destination": MAIN_LINE, "attempts": 1, "last_contact": now(), **more}
    app.pbx.hooks.emit("LostCallerAdded", data)
    path = f"/v2/lost_callers?open=true&number={caller.removeprefix('+371')}"
    until(lambda: app.ask("GET", path).json()["data"])


@pytest.mark.parametrize("width", [360, 1440])
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("language", ["lv", "en"])
def test_every_page_is_accessible(
    sign_in: Callable[..., Reader], app: App, language: str, theme: str, width: int
) -> None:
    reader = sign_in(language, theme, width)
    for path in (*PAGES, f"/calls/{app.calls['answered'].id}", "/workings/dead-letters", "/nowhere"):
        page = reader.open(path)
        assert page.get_attribute("html", "lang") == language
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path
        assert serious(reader) == [], path
    # The browser itself says of a 404 that it is one.
    reader.said[:] = [text for text in reader.said if "404" not in text]


def test_figures_and_charts_match_the_days_calls(sign_in: Callable[..., Reader], app: App) -> None:
    zone = app.bridge.settings.time_zone
    today = {name: call for name, call in app.calls.items() if local_day(call.started, zone) == local_day(now(), zone)}
    page = sign_in().open("/")
    assert page.inner_text("#calls").split()[0] == str(len(today))
    lost = [name for name in ("lost", "back", "voicemail") if name in today]
    assert page.inner_text("#missed").split()[0] == str(len(lost))
    if "back" in today:
        assert page.inner_text("#called-back").split()[0] == "1"
        assert page.inner_text("#median").split("\n")[0] == "20 min"
    assert page.inner_text("#waiting").split()[0] == "2"
    hours = Counter(f"{call.started.astimezone(zone):%H}" for call in today.values())
    rows = page.eval_on_selector_all(
        "#hours tr:not(:first-child)", "rows => rows.map(row => row.innerText.split('\t'))"
    )
    shown = {label: sum(map(int, counts)) for label, *counts in rows}
    assert len(shown) in (23, 24, 25)
    assert {label: count for label, count in shown.items() if count} == dict(hours)
    drawn = page.eval_on_selector_all(
        "svg[aria-labelledby~=hours-title] rect", "bars => bars.map(bar => bar.classList[0])"
    )
    assert set(drawn) <= {"answered", "missed", "other"}
    assert len(drawn) >= len(hours)


def test_a_double_click_calls_back_once(sign_in: Callable[..., Reader], app: App) -> None:
    reader, before = sign_in(), app.running.rings()
    page = reader.open("/callbacks/")
    page.select_option("[data-item] select >> nth=0", label="Jānis Kalniņš")
    page.dblclick("text='Call back' >> nth=0")
    page.wait_for_selector(".notice.good")
    assert "Jānis Kalniņš" in page.inner_text(".notice.good")
    # The same form once more, as a browser without scripts would send it.
    form = page.eval_on_selector("form[action$=dial]", "form => Object.fromEntries(new FormData(form))")
    statuses = [page.request.post(f"{app.board}/callbacks/dial", form=form, max_redirects=0).status for _ in range(2)]
    assert statuses == [303, 303]
    assert app.running.rings() == before + 2


def test_the_list_refreshes_and_keeps_typed_text(sign_in: Callable[..., Reader], app: App) -> None:
    reader = sign_in()
    page = reader.open("/callbacks/")
    page.evaluate("document.querySelector('[data-refresh]').dataset.refresh = '30'")
    page.clock.install()
    page.reload()
    first = page.locator("[data-item]").first
    first.locator("input[name=note]").fill("wrote an e-m")
    lose(app, "+37127771153")
    page.clock.run_for(31_000)
    page.wait_for_selector("text=+371 27 771 153")
    assert first.locator("input[name=note]").input_value() == "wrote an e-m"
    first.locator("input[name=note]").fill("wrote an e-mail")
    first.locator("text='Close'").click()
    page.wait_for_selector(".notice.good")
    closed = app.ask("GET", "/v2/lost_callers?open=false").json()["data"]
    assert "key: wrote an e-mail" in [item["note"] for item in closed]


def test_audio_plays_and_seeks(sign_in: Callable[..., Reader], app: App) -> None:
    page = sign_in().open(f"/calls/{app.calls['answered'].id}")
    page.wait_for_selector("audio")
    seconds = page.evaluate(
        """async () => {
            const audio = document.querySelector("audio");
            audio.muted = true;
            await audio.play();
            audio.currentTime = audio.duration / 2;
            await new Promise((seeked) => audio.addEventListener("seeked", seeked, { once: true }));
            return [audio.currentTime, audio.duration];
        }"""
    )
    assert seconds[0] >= seconds[1] / 2 > 0
    address = page.get_attribute("audio", "src")
    part = page.request.get(f"{app.running.url}{address}", headers={"Range": "bytes=0-1"})
    assert (part.status, len(part.body()), part.headers["content-length"]) == (206, 2, "2")
    assert part.headers["content-range"].startswith("bytes 0-1/")


def test_a_hostile_name_does_no_harm(sign_in: Callable[..., Reader], app: App) -> None:
    from shared.pbx.resources import resource
    from shared.polling.poll import poll

    app.pbx.add_contact(HOSTILE, HOSTILE, "26550199")
    poll(app.bridge, resource("contacts"))
    lose(app, "+37127771154", contact_name=HOSTILE)
    for width in (360, 1440):
        reader = sign_in(width=width)
        for path in (*PAGES, f"/calls?q={HOSTILE[:500]}"):
            page = reader.open(path)
            assert "stolen" not in page.title()
            assert page.evaluate("document.documentElement.scrollWidth") <= width, path


def test_a_keyboard_is_enough(sign_in: Callable[..., Reader]) -> None:
    page = sign_in().open("/calls")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "q":
            break
    page.keyboard.type(BACK)
    page.keyboard.press("Enter")
    page.wait_for_url("**/calls?q=*")
    assert page.locator("#list tbody tr").count() == 2
    # The focused element is marked.
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"


# The tasks that the page is for: each begins at one address and takes three clicks at most, which `Reader` counts.


def test_todays_missed_calls(sign_in: Callable[..., Reader], app: App) -> None:
    lose(app, "+37127771155")
    reader = sign_in()
    page = reader.open("/")
    reader.click("nav >> text='To call back'")
    page.wait_for_selector("text=+371 27 771 155")


def test_last_month_in_excel(sign_in: Callable[..., Reader]) -> None:
    reader, today = sign_in(), now().date()
    page = reader.open("/calls")
    last = today.replace(day=1) - timedelta(days=1)
    page.fill("#from", str(last.replace(day=1)))
    page.fill("#to", str(today))
    reader.click("text='Search'")
    page.wait_for_url("**from=*")
    with page.expect_download() as download:
        reader.click("text='Download for Excel'")
    assert download.value.suggested_filename == "calls.xlsx"


def test_does_it_work(sign_in: Callable[..., Reader]) -> None:
    reader = sign_in()
    assert reader.open("/").locator("#state").inner_text().strip()
    reader.click("nav >> text='Workings'")
    reader.page.wait_for_selector("#queues >> text=/Nothing waits|Messages/i")


def look_up(reader: Reader) -> Page:
    page = reader.open("/person/")
    page.fill("#number", "20 177 453")
    reader.click("text='Look'")
    return page


def test_a_number_is_exported(sign_in: Callable[..., Reader]) -> None:
    reader = sign_in()
    page = look_up(reader)
    page.fill("#export-key", ADMIN_KEY)
    reader.click("main >> text='Export'")
    page.wait_for_selector("text='Download the zip'", timeout=60_000)
    with page.expect_download() as download:
        reader.click("text='Download the zip'")
    assert download.value.suggested_filename.endswith(".zip")
    assert zipfile.is_zipfile(download.value.path())


def test_an_export_of_any_size_is_downloaded(sign_in: Callable[..., Reader], app: App) -> None:
    id = jobs.ask(app.bridge, "export", b'{"number": "20177453"}')
    until(lambda: jobs.state(app.bridge.storage, id)["state"] == "done")
    large = random.randbytes(33 * 1024 * 1024)
    app.bridge.storage.container("exports").upload_blob(f"{id}.zip", large, overwrite=True)
    reader = sign_in()
    page = reader.open(f"/person/jobs/{id}")
    with page.expect_download() as download:
        reader.click("text='Download the zip'")
    assert download.value.path().read_bytes() == large


def test_a_number_is_erased_once_the_admin_key_is_right(sign_in: Callable[..., Reader]) -> None:
    for key, notice in (("not the key", ".notice.bad"), (ADMIN_KEY, "#job >> text='Done'")):
        reader = sign_in()
        page = look_up(reader)
        page.fill("#erase-key", key)
        reader.click("text='Erase'")
        page.wait_for_selector(notice, timeout=90_000)


def test_missed_events_are_sent_to_a_flow_again(sign_in: Callable[..., Reader], app: App) -> None:
    body = {"endpoint": "http://127.0.0.1:9/hook", "name": "CRM"}
    assert app.ask("POST", "/v2/webhooks/CallCompleted", json=body).status_code == 201
    reader = sign_in()
    page = reader.open("/workings/")
    reader.click("#subscriptions tr:has-text('CRM') >> text='Send again …'")
    page.wait_for_selector("text=would be sent again")
    page.fill("#key", ADMIN_KEY)
    reader.click("main >> form[method=post] >> button")
    page.wait_for_selector(".notice.good")
    page.wait_for_selector("#subscriptions >> text='CRM'")
