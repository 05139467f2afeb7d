"""Whoever has to do with a call is found by number or employee, newest first, with few requests."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from shared.events import parties
from shared.events.parties import Entry, add, contact_party, cover, covers, entries, number_party
from shared.storage.account import Storage

if TYPE_CHECKING:
    from shared.settings import Settings

START = datetime(2026, 11, 25, 13, 54, 19, tzinfo=UTC)
ME = number_party("27771153", "LV")


def call(minutes: int) -> Entry:
    moment = START + timedelta(minutes=minutes)
    return Entry("call", str(int(moment.timestamp()) * 1_000_000), moment)


@pytest.mark.parametrize("number", ["27771153", "+37127771153", "0037127771153", "+371 27 771 153", "2777-1153"])
def test_a_number_is_one_party_however_it_is_written(number: str) -> None:
    assert number_party(number, "LV") == ME


def test_other_numbers_words_and_withheld_ones_are_other_parties() -> None:
    others = {number_party(number, "LV") for number in ("27771154", "+37227771153", "112", "", "966")}
    assert len(others | {ME, contact_party(966)}) == 7
    assert len({number_party(text, "LV") for text in (None, "", "Anonymous ", "withheld")}) == 1


def test_what_a_party_has_to_do_with_comes_newest_first(storage: Storage) -> None:
    add(storage, [(ME, call(minutes)) for minutes in (3, 1, 2)])
    add(storage, [(contact_party(966), call(9))])
    add(storage, [(ME, call(2))])
    assert entries(storage, ME, "call", limit=10) == [call(3), call(2), call(1)]
    assert entries(storage, ME, "call", limit=2) == [call(3), call(2)]
    assert entries(storage, number_party("1", "LV"), "call", limit=10) == []


def test_a_range_of_time_holds_both_ends(storage: Storage) -> None:
    add(storage, [(ME, call(minutes)) for minutes in range(5)])
    first, last = call(1).moment, call(3).moment
    assert entries(storage, ME, "call", first=first, last=last, limit=10) == [call(3), call(2), call(1)]
    assert entries(storage, ME, "call", first=first, limit=10) == [call(4), call(3), call(2), call(1)]
    assert entries(storage, ME, "call", last=first, limit=10) == [call(1), call(0)]


def test_every_kind_keeps_its_id_and_is_found_alone(storage: Storage) -> None:
    found = [
        Entry("voicemail", "171118926552", START),
        Entry("recording", "171118926552", START),
        Entry("lost caller", "a2c-x.y", START),
        call(0),
    ]
    add(storage, [(ME, entry) for entry in found])
    for entry in found:
        assert entries(storage, ME, entry.kind, limit=9) == [entry]


def test_a_list_is_covered_once_somebody_says_so(storage: Storage) -> None:
    assert not covers(storage, "voicemails")
    cover(storage, "voicemails")
    cover(storage, "voicemails")
    assert covers(storage, "voicemails")
    assert not covers(storage, "call_history")


def test_more_than_a_transaction_takes_are_all_kept(storage: Storage) -> None:
    add(storage, [(ME, call(minutes)) for minutes in range(250)])
    assert len(entries(storage, ME, "call", limit=1000)) == 250


def test_no_number_stands_in_a_key_and_every_account_has_a_key_of_its_own(storage: Storage, settings: Settings) -> None:
    add(storage, [(ME, call(0))])
    keys = [row["RowKey"] for row in storage.table(parties.TABLE).list_entities()]
    assert not [key for key in keys if "27771153" in key]
    again = Storage(settings.storage)
    assert entries(again, ME, "call", limit=9) == [call(0)]
