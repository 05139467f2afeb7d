"""A removal needs proof: listings that lack an item for long enough, and a PBX that does not know it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import PbxError
from shared.items.reader import Known
from shared.polling.poll import poll
from shared.polling.removals import judge
from shared.times import now
from tests.polls import CONTACTS, stored_ids, submitted

if TYPE_CHECKING:
    from dev.simulator import Simulator
    from shared.bridge import Bridge

MINUTES = (0, 1, 2, 5, 30, 59)
BEGIN = datetime(2026, 6, 1, 12, tzinfo=UTC)


def polled(bridge: Bridge, *minutes: float) -> list[tuple[str, int]]:
    """What polls at so many minutes from now submit; a poll may fail."""
    begin = now() + timedelta(seconds=5)
    for minute in minutes:
        try:
            poll(bridge, CONTACTS, at=begin + timedelta(minutes=minute))
        except PbxError:
            continue
    return submitted(bridge.storage)


LIES: list[dict[str, Any]] = [
    {"kind": "wrapper", "value": {"data": []}},
    {"kind": "status", "status": 404},
    {"kind": "body-status", "status": 404},
    {"kind": "wrapper", "value": {"status": "error", "data": []}},
    {"kind": "wrapper", "value": {"success": False, "data": []}},
    {"kind": "wrapper", "value": {"data": None}},
    {"kind": "wrapper", "value": {"status": "server error", "message": "database gone", "data": []}},
    {"kind": "wrapper", "value": {"status": ["error"], "data": []}},
    {"kind": "wrapper", "value": {"status": "nezināms", "data": []}},
]


@pytest.mark.slow
@pytest.mark.parametrize("lie", LIES, ids=str)
@pytest.mark.parametrize("by_id", [404, 403], ids=["unknown by id", "not allowed by id"])
def test_an_empty_or_wrong_answer_alone_removes_nobody(
    lie: dict[str, Any], by_id: int, pbx: Simulator, bridge: Bridge
) -> None:
    people = list(pbx.bulk("contacts", 25))
    poll(bridge, CONTACTS)
    pbx.faults.add(**lie, match="GetContacts")
    pbx.faults.add("status", match="GetContactsByID", status=by_id)
    assert polled(bridge, *MINUTES) == []
    pbx.faults.clear()
    assert polled(bridge, 60, 61) == []
    assert stored_ids(bridge.storage, CONTACTS.name) == people


@pytest.mark.slow
@pytest.mark.parametrize(
    "value",
    [
        {"status": "server error", "message": "database gone", "data": []},
        {"status": "maintenance", "data": []},
        {"status": "nezināms", "data": []},
        {"data": None},
        {"data": {}},
        {"statusCode": "E500", "data": []},
        {"errorMessage": "busy", "data": []},
    ],
    ids=str,
)
def test_a_pbx_that_gives_the_same_answer_to_everything_removes_nobody(
    value: dict[str, Any], pbx: Simulator, bridge: Bridge
) -> None:
    people = list(pbx.bulk("contacts", 8))
    poll(bridge, CONTACTS)
    pbx.faults.add("wrapper", value=value)
    assert polled(bridge, 0, 2, 3, 61, 66, 130, 200) == []
    pbx.faults.clear()
    assert polled(bridge, 201, 202) == []
    assert stored_ids(bridge.storage, CONTACTS.name) == people


def test_one_that_is_missing_once_is_not_gone_and_one_of_two_listings_a_minute_apart_is(
    pbx: Simulator, bridge: Bridge
) -> None:
    *_, gone = pbx.bulk("contacts", 5)
    poll(bridge, CONTACTS)
    item = pbx.item("contacts", gone)
    pbx.remove("contacts", gone)
    assert polled(bridge, 0, 0.5) == []
    pbx.rows["contacts"].put(gone, item)
    assert polled(bridge, 1.5) == []
    pbx.remove("contacts", gone)
    assert polled(bridge, 2, 2.9) == []
    assert polled(bridge, 3.1) == [("ContactRemoved", gone)]
    assert polled(bridge, 4, 5) == []


@pytest.mark.parametrize("left", [0, 1], ids=["all", "most"])
def test_a_genuine_removal_of_many_is_reported_after_an_hour(left: int, pbx: Simulator, bridge: Bridge) -> None:
    people = list(pbx.bulk("contacts", 25))
    poll(bridge, CONTACTS)
    for number in people[left:]:
        pbx.remove("contacts", number)
    assert polled(bridge, *MINUTES) == []
    assert polled(bridge, 60.2) == [("ContactRemoved", number) for number in people[left:]]
    assert polled(bridge, 62, 70) == []


def test_where_the_key_may_not_ask_by_id_the_lists_decide(pbx: Simulator, bridge: Bridge) -> None:
    *_, gone = pbx.bulk("contacts", 5)
    poll(bridge, CONTACTS)
    pbx.options.refused = {"GetContactsByID"}
    pbx.remove("contacts", gone)
    assert polled(bridge, 0, 2) == [("ContactRemoved", gone)]


@pytest.mark.parametrize(("allowed", "gone"), [(True, 1), (False, 0)], ids=["asked by id", "not allowed by id"])
def test_an_item_whose_id_cannot_be_read_may_be_the_one_that_is_missing(
    allowed: bool, gone: int, pbx: Simulator, bridge: Bridge
) -> None:
    *people, last = pbx.bulk("contacts", 5)
    poll(bridge, CONTACTS)
    pbx.remove("contacts", last)
    pbx.options.refused = set() if allowed else {"GetContactsByID"}
    listed = [{"contactID": f"c-{last}"}, *({"contactID": number} for number in people)]
    pbx.faults.add("wrapper", match="GetContacts", value={"data": listed})
    events = polled(bridge, 0, 2)
    assert [event for event in events if event[0] == "ContactRemoved"] == [("ContactRemoved", last)] * gone


def test_one_that_the_pbx_fails_at_keeps_no_other_from_being_removed(pbx: Simulator, bridge: Bridge) -> None:
    *_, first, second = pbx.bulk("contacts", 6)
    poll(bridge, CONTACTS)
    pbx.faults.add("status", match="GetContactsByID", path=f"*{first}", status=500)
    for number in (first, second):
        pbx.remove("contacts", number)
    assert polled(bridge, 0, 2) == [("ContactRemoved", second)]
    pbx.faults.clear()
    poll(bridge, CONTACTS, at=now() + timedelta(minutes=65), whole=True)
    assert submitted(bridge.storage) == [("ContactRemoved", first)]


@pytest.mark.slow
@pytest.mark.parametrize(
    "answer",
    [
        {"kind": "status", "status": 500},
        {"kind": "wrapper", "value": {"status": "error", "data": None}},
        {"kind": "wrapper", "value": {"data": None}},
        {"kind": "wrapper", "value": {"data": []}},
        {"kind": "wrapper", "value": {"data": {}}},
        {"kind": "wrapper", "value": {"status": "not found", "data": None}},
        {"kind": "html"},
        {"kind": "reset"},
    ],
    ids=lambda answer: answer["kind"],
)
def test_no_good_answer_by_id_is_no_proof(answer: dict[str, Any], pbx: Simulator, bridge: Bridge) -> None:
    *_, gone = pbx.bulk("contacts", 5)
    poll(bridge, CONTACTS)
    pbx.remove("contacts", gone)
    pbx.faults.add(**answer, match="GetContactsByID")
    assert polled(bridge, 0, 2, 3, 4) == []
    pbx.faults.clear()
    assert polled(bridge, 10) in ([], [("ContactRemoved", gone)])
    begin = now() + timedelta(hours=2)
    poll(bridge, CONTACTS, at=begin, whole=True)
    poll(bridge, CONTACTS, at=begin + timedelta(minutes=2), whole=True)
    assert gone not in stored_ids(bridge.storage, CONTACTS.name)


KNOWN = st.builds(
    Known,
    hash=st.just("x"),
    removed=st.booleans(),
    missed=st.integers(0, 3),
    missing=st.integers(0, 120).map(lambda minutes: BEGIN - timedelta(minutes=minutes)),
    asked=st.none() | st.integers(0, 120).map(lambda minutes: BEGIN - timedelta(minutes=minutes)),
).map(lambda row: row if row.missed else Known(hash="x", removed=row.removed))


@given(st.dictionaries(st.integers(0, 40), KNOWN), st.sets(st.integers(0, 40)))
def test_nothing_is_asked_for_that_is_listed_gone_or_missing_for_a_moment(
    known: dict[int, Known], listed: set[int]
) -> None:
    verdict = judge(known, listed, BEGIN)
    live = {number for number, row in known.items() if not row.removed}
    assert set(verdict.due) <= live - listed
    for number in verdict.due:
        row = known[number]
        assert row.asked or (row.missed and row.missing and BEGIN - row.missing >= timedelta(minutes=1))
    assert all(columns["missed"] == 0 for number, columns in verdict.changes.items() if number in listed)
    if not listed and not any(row.asked for row in known.values()):
        assert all((known[number].missing or BEGIN) <= BEGIN - timedelta(hours=1) for number in verdict.due)


@given(st.lists(st.sets(st.integers(0, 9)), min_size=1, max_size=12), st.integers(20, 600))
def test_of_any_lists_only_what_stays_away_is_asked_for(lists: list[set[int]], seconds: int) -> None:
    known = {number: Known(hash="x") for number in range(10)}
    absent: dict[int, datetime] = {}
    for place, listed in enumerate(lists):
        moment = BEGIN + timedelta(seconds=seconds * place)
        absent = {number: absent.get(number, moment) for number in known.keys() - listed}
        verdict = judge(known, listed, moment)
        assert all(moment - absent[number] >= timedelta(minutes=1) for number in verdict.due)
        for number, columns in verdict.changes.items():
            known[number] = Known(hash="x", missed=columns["missed"], missing=columns.get("missing"))
