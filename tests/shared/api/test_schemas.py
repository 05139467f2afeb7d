"""Names of fields in words, and of schemas: each name for one shape."""

from __future__ import annotations

import pytest

from shared.api import schemas
from shared.api.schemas import named, title


@pytest.mark.parametrize(
    ("name", "described"),
    [
        ("callStarted", "Call Started"),
        ("recordingURL", "Recording URL"),
        ("previous_contactID", "Previous Contact ID"),
        ("callerid", "Caller ID"),
    ],
)
def test_a_field_s_title_is_its_name_in_words(name: str, described: str) -> None:
    assert title(name) == described


def test_a_name_is_of_one_schema(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schemas, "DEFINITIONS", {})
    for _ in range(2):
        assert named("Member", {"type": "object"}) == {"$ref": "#/definitions/Member"}
    with pytest.raises(ValueError, match="Member"):
        named("Member", {"type": "string"})
    assert schemas.DEFINITIONS == {"Member": {"type": "object"}}
