"""The table of resources agrees with operations and settings."""

from __future__ import annotations

from shared.pbx.resources import RESOURCES, resource


def test_each_resource_has_its_own_function_and_schedule() -> None:
    assert resource("voicemail_boxes").function == "PollVoicemailBoxes"
    assert resource("voicemail_boxes").schedule == "POLL_VOICEMAIL_BOXES_SCHEDULE"
    for name in ("function", "schedule"):
        assert len({getattr(row, name) for row in RESOURCES}) == len(RESOURCES)
