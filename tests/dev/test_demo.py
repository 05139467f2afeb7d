"""What `make start` prints of what is stored."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from dev.demo import Demonstration
from shared.polling import checkpoints
from shared.polling.start import after_start

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from shared.bridge import Bridge


def test_a_poll_is_shown_and_the_row_of_the_start_beside_it_is_none(
    bridge: Bridge, environment: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "host.log"
    log.touch()
    bridge.storage.create_all()
    after_start(bridge)
    checkpoints.create(bridge.storage, checkpoints.Checkpoint(resource="contacts", items=3))
    shown = Demonstration(
        "http://127.0.0.1:1", environment, log=log, simulator=None, subscribers=None, stop=threading.Event()
    )
    assert shown._look()
    (line,) = capsys.readouterr().out.splitlines()
    assert "contacts" in line and "3 stored" in line
    assert shown._unread() >= {"PollContacts"}
