"""The table of resources agrees with operations and settings."""

from __future__ import annotations

import pytest

from shared.pbx.resources import RESOURCES, resource


def test_each_resource_has_its_own_function_and_schedule() -> None:
    assert resource("voicemail_boxes").function == "PollVoicemailBoxes"
    assert resource("voicemail_boxes").schedule == "POLL_VOICEMAIL_BOXES_SCHEDULE"
    for name in ("function", "schedule"):
        assert len({getattr(row, name) for row in RESOURCES}) == len(RESOURCES)


@pytest.mark.parametrize(
    ("name", "id_field", "cursor"),
    [
        ("audio_prompts", "id", "initial_prompt_id"),
        ("call_history", "callID", "initial_call_id"),
        ("call_records", "recordingID", "initial_record_id"),
        ("contacts", "contactID", "initial_contact_id"),
        ("groups", "groupID", "initial_group_id"),
        ("voicemail_boxes", "voicemailBoxID", "initial_box_id"),
        ("voicemails", "voicemailID", "initial_voicemail_id"),
        ("voip_endpoints", "id", "initial_endpoint_id"),
    ],
)
def test_items_differ_by_id_and_are_asked_for_by_cursor(name: str, id_field: str, cursor: str) -> None:
    row = resource(name)
    assert (row.id_field, row.cursor_parameter) == (id_field, cursor)
