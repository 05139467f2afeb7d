"""What `make start` prints of what is stored."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from dev.demo import Demonstration, masked
from dev.simulator import Simulator
from shared.polling.poll import poll
from shared.polling.start import after_start
from tests.polls import CONTACTS, bridge_to

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from shared.settings import Settings


def test_polls_are_shown_and_the_start_whose_row_stands_among_them_is_not(
    settings: Settings, environment: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "host.log"
    log.touch()
    with Simulator("test-key") as pbx:
        pbx.add("contacts", firstname="Anna")
        bridge = bridge_to(pbx, settings)
        bridge.storage.create_all()
        poll(bridge, CONTACTS)
        after_start(bridge)
    shown = Demonstration(
        "http://127.0.0.1:1", environment, log=log, simulator=None, subscribers=None, stop=threading.Event()
    )
    assert shown._look()
    lines = [line for line in capsys.readouterr().out.splitlines() if "poll" in line.split()]
    assert lines and all("stored" in line for line in lines)
    assert not any("start" in line.split() for line in lines)


def test_screens_show_two_digits() -> None:
    assert (masked("+37127771153"), masked("12"), masked(None)) == ("…53", "…", "…")
