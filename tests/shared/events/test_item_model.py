"""Items of lists are read field by field, as their rows and the events say; what does not fit is named."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.events.item_model import item_drift, item_model
from shared.pbx.fields import CALL, CONTACT, GROUP, LOST_CALL, RECORDING, VOICEMAIL, VOIP_ENDPOINT, Shape
from shared.pbx.operations import OPERATIONS, operation
from shared.pbx.resources import RESOURCES

RESOURCE_FIXTURES = pathlib.Path(__file__).parents[2] / "fixtures" / "resources"
SHAPES = {row.id: row.item for row in OPERATIONS if row.lists}
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=4,
)


@pytest.mark.parametrize(
    ("shape", "item", "names"),
    [
        (CONTACT, {"contactID": 1, "firstname": {"a": 1}, "archived": "maybe", "created": "1970-01-01"}, None),
        (CONTACT, {"contactID": 1, "lastname": ["x"], "avatar": True, "number": {}, "pets": 2}, None),
        (CONTACT, {"contactID": 1, "group_membership": "none", "created": 17, "archived": []}, None),
        (CALL, {"callID": 7, "status": "rang", "connectionTime": 10**12, "contactID": "x", "recordingID": -1}, None),
        (CALL, {"callID": 7, "callStarted": "2024-05-31T10:00:00Z", "callEnded": "2024-05-30T10:00:00Z"}, "callEnded"),
        (CALL, {"callID": 1717149600000000, "callConnected": "2001-01-01T00:00:00+0000"}, "callConnected"),
        (CALL, {"callID": 7, "caller": "x" * 2000, "direction": False}, None),
        (
            RECORDING,
            {"recordingID": 7, "callID": "x", "recordingURL": 1.5, "callConnected": "soon"},
            "callConnected,callID",
        ),
        (VOICEMAIL, {"voicemailID": 7, "length": "2:05", "voicemailBoxID": 1.5, "callStarted": "0000-00-00"}, None),
        (VOIP_ENDPOINT, {"id": 7, "employee_id": "nobody", "name": []}, None),
        (LOST_CALL, {"callerid": "1", "destination": "2", "attempts": "many", "last_contact": 5}, None),
        (GROUP, {"groupID": 1, "members": [{"contactID": "x", "role": 1}]}, "members.contactID,members.role"),
        (GROUP, {"groupID": 1, "members": {"0": {"contactID": 4}, "1": {"contactID": []}}}, "members.contactID"),
        (GROUP, {"groupID": 1, "members": [5], "type": "1e400"}, None),
        (GROUP, {"groupID": 1, "name": "Gon\ufffdalves"}, "encoding"),
    ],
    ids=lambda value: None if isinstance(value, tuple) else str(value)[:60],
)
def test_what_does_not_fit_is_named(shape: Shape, item: dict[str, Any], names: str | None) -> None:
    """All fields but identifiers and numbers of phones, where no names are given."""
    expected = item.keys() - {"contactID", "callID", "voicemailID", "id", "groupID", "callerid", "destination"}
    if names is None and shape is CALL and "status" in item:
        expected |= {"contactID"}
    assert item_drift(shape, item) == (set(names.split(",")) if names else expected)


@pytest.mark.parametrize(
    ("shape", "item"),
    [
        (
            CONTACT,
            {"contactID": "0001", "firstname": "", "lastname": None, "archived": "1", "created": "2019-04-01T08:00:00"},
        ),
        (CONTACT, {"contactID": 1, "number": 26550103, "archived": 0.0, "group_membership": []}),
        (CALL, {"callID": 7, "status": "2", "callConnected": "", "connectionTime": "30", "contactID": " 5 "}),
        (CALL, {"callID": 7, "callStarted": "2024-05-31T10:00:00Z", "callConnected": "2024-05-31T09:59:58Z"}),
        (GROUP, {"groupID": 1, "members": {"0": {"contactID": "4"}}, "created": "2019-04-01T08:00:00+0000"}),
        (GROUP, {"groupID": 1, "members": {}, "type": 1}),
    ],
    ids=lambda value: None if isinstance(value, tuple) else str(value)[:60],
)
def test_another_spelling_is_no_drift(shape: Shape, item: dict[str, Any]) -> None:
    assert item_drift(shape, item) == set()


@pytest.mark.parametrize("resource", RESOURCES, ids=lambda resource: resource.name)
def test_what_the_reference_shows_has_no_drift(resource: Any) -> None:
    shape = operation(resource.read_operation).item
    for page in sorted((RESOURCE_FIXTURES / resource.name).glob("*.json")):
        for item in json.loads(page.read_text())["data"]:
            assert item_drift(shape, item) == set()


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@given(data=st.data())
def test_any_item_is_read_and_only_what_it_says_is_named(shape: Shape, data: st.DataObject) -> None:
    names = st.sampled_from([field.name for field in shape]) | st.text("abcXYZ_", min_size=1, max_size=4)
    item = data.draw(st.dictionaries(names, ANYTHING, max_size=6))
    said = {name for name, value in item.items() if value is not None and str(value).strip()}
    assert {name.split(".")[0] for name in item_drift(shape, item) - {"encoding"}} <= said
    assert "pets" in item_drift(shape, {**item, "pets": 2})


def test_an_item_of_an_event_needs_its_id() -> None:
    model = item_model("Group", GROUP, "groupID")
    assert [name for name, field in model.model_fields.items() if field.is_required()] == ["groupID"]
