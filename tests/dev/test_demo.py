"""The day that `make start` prints, and the checks before it."""

from __future__ import annotations

import os
import socket
import threading
from typing import Any

import pytest

from dev.demo import App, Day, is_public, masked
from dev.machine import CannotStart, check

NUMBER = "+37127771153"


class Scripted(App):
    """An app whose feed is a list that a test grows."""

    def __init__(self) -> None:
        super().__init__("http://127.0.0.1:1")
        self.feed: list[dict[str, Any]] = []

    def events(self) -> Any:
        """Yield the feed."""
        yield from self.feed

    def problems(self) -> list[str]:
        """There are none."""
        return []

    def add(self, type: str, origin: str = "webhook", **data: Any) -> None:
        """Let something happen."""
        number = len(self.feed)
        row = {"id": str(number), "type": type, "origin": origin, "callID": data.get("callID"), "data": data}
        self.feed.append(row)


@pytest.fixture
def app() -> Scripted:
    return Scripted()


@pytest.fixture
def day(app: Scripted) -> Day:
    return Day(app, pbx=None, subscribers=None, stop=threading.Event())


def lines(day: Day, capsys: pytest.CaptureFixture[str]) -> list[str]:
    day._look()
    return [line[10:] for line in capsys.readouterr().out.splitlines()]


def test_each_call_is_printed_once_and_numbers_of_a_real_pbx_are_masked(
    app: Scripted, day: Day, capsys: pytest.CaptureFixture[str]
) -> None:
    for contact in (1, 2):
        app.add("CallCompleted", callID=7, caller=NUMBER, contactID=contact)
    app.add("LostCallerAdded", callerid=NUMBER)
    app.add("CallRecorded", callID=7)
    assert lines(day, capsys) == [
        "…53 called An employee, who did not answer",
        "…53 reached nobody and waits to be called back",
    ]
    assert lines(day, capsys) == []
    assert masked("12") == masked(None) == "…"


def test_a_call_whose_webhook_never_came_is_printed_as_restored(
    app: Scripted, day: Day, capsys: pytest.CaptureFixture[str]
) -> None:
    app.add("CallCompleted", origin="reconciled", callID=7, caller=NUMBER, connectionTime=3700)
    (line,) = lines(day, capsys)
    assert line == "An employee answered …53: talked 1 h 1 min 40 s  (no webhook came: restored by a poll)"


def test_the_count_closes_the_day(app: Scripted, day: Day, capsys: pytest.CaptureFixture[str]) -> None:
    app.add("CallCompleted", callID=1, connectionTime=5)
    app.add("CallCompleted", callID=2, origin="poll")
    app.add("VoicemailCreated", sender=NUMBER, length=9)
    lines(day, capsys)
    day._count(3)
    (line,) = capsys.readouterr().out.splitlines()[1:]
    assert line == "The day: 2 calls, 1 answered, 1 missed, 1 voicemail, 1 restored, 1 lost."


def test_a_day_goes_on_while_the_app_has_no_storage(
    app: Scripted, day: Day, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Unavailable:
        def json(self) -> dict[str, Any]:
            return {"status": "error", "statusCode": 503, "data": None}

    with monkeypatch.context() as gone:
        gone.setattr(app, "ask", lambda *_, **__: Unavailable())
        gone.setattr(app, "events", lambda: App.events(app))
        assert lines(day, capsys) == []
    app.add("LostCallerRemoved", callerid=NUMBER)
    assert lines(day, capsys) == ["…53 was called back"]


def test_an_address_of_this_machine_or_a_private_network_is_not_public() -> None:
    assert all(map(is_public, ("https://bridge.example.com/", "https://8.8.8.8/")))
    for host in ("127.0.0.1:7071", "localhost:7071", "10.0.0.4", "[::1]", "laptop.local", ""):
        assert not is_public(f"http://{host}/")


def test_a_busy_port_is_named_with_its_process() -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        with pytest.raises(CannotStart, match=rf"port {port} is busy \(process {os.getpid()}.*\): end that first"):
            check((port,))
