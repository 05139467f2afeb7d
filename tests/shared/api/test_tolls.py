"""What is not dialled: costly numbers, countries that nobody named, and more calls than an hour may have."""

from __future__ import annotations

import json
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import phonenumbers
import pytest

from shared.api import tolls
from shared.api.tolls import ABROAD, COUNTRY_UNKNOWN, EMERGENCY, KEY, PARTITION, PREMIUM, TollRules, refused
from shared.errors import DialLimit, Invalid
from shared.pbx.operations import operation

if TYPE_CHECKING:
    from azure.data.tables import TableClient

    from shared.settings import Settings
    from shared.storage.account import Storage

DIAL = operation("Dial")


@pytest.mark.parametrize("region", ["LV", "LT", "EE", "GB", "DE", "US", "FR", "PL"])
def test_premium_rate_numbers_are_not_dialled_however_they_are_written(region: str) -> None:
    example = phonenumbers.example_number_for_type(region, phonenumbers.PhoneNumberType.PREMIUM_RATE)
    full = phonenumbers.format_number(example, phonenumbers.PhoneNumberFormat.E164)
    for number in (full, "00" + full[1:], "+00" + full[1:], full[1:], full + "1"):
        assert refused(number, "LV", ()) == PREMIUM, number


@pytest.mark.parametrize("number", ["90000000", "900000001", "+979123456789"])
def test_premium_rate_numbers_of_the_region_and_of_no_country_are_not_dialled(number: str) -> None:
    assert refused(number, "LV", ()) == PREMIUM


@pytest.mark.parametrize(
    "number",
    ["27771153", "+37127771153", "67000123", "80000000", "+442071838750", "0046812345678", "101", "1188"],
)
def test_other_numbers_are(number: str) -> None:
    assert refused(number, "LV", ()) is None


@pytest.mark.parametrize(("number", "region"), [("112", "LV"), ("110", "LV"), ("911", "US"), ("999", "GB")])
def test_emergency_numbers_are_for_people(number: str, region: str) -> None:
    assert refused(number, region, ()) == EMERGENCY


@pytest.mark.parametrize(
    ("number", "countries", "reason"),
    [
        ("27771153", ("LV",), None),
        ("+37127771153", ("LV", "LT"), None),
        ("0037127771153", ("LV",), None),
        ("+37061234567", ("LV", "LT"), None),
        ("+37061234567", ("LV",), ABROAD),
        ("0037061234567", ("LV",), ABROAD),
        ("37061234567", ("LV",), ABROAD),
        ("27771153", ("LT",), ABROAD),
        ("+12015550123", ("US",), None),
        ("+12423456789", ("US",), ABROAD),
        ("+447624123456", ("GB",), ABROAD),
        ("+77012345678", ("RU",), ABROAD),
        ("+881612345678", ("LV",), ABROAD),
        ("101", ("LV",), None),
        ("101", ("LT",), ABROAD),
        ("+3712777115345", ("LV",), COUNTRY_UNKNOWN),
        ("2777115300000", ("LV",), COUNTRY_UNKNOWN),
        ("+999123456", ("LV",), COUNTRY_UNKNOWN),
        ("00999123", ("LV",), COUNTRY_UNKNOWN),
    ],
)
def test_where_countries_are_named_only_they_are_dialled(
    number: str, countries: tuple[str, ...], reason: str | None
) -> None:
    assert refused(number, "LV", countries) == reason


def test_a_refusal_names_the_field_and_is_a_signal(
    storage: Storage, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    rules = TollRules(storage.table("dials"), settings, keep=timedelta(hours=1))
    with caplog.at_level(logging.WARNING), pytest.raises(Invalid) as wrong:
        rules.check(DIAL, {"destination": "+37190000000", "contactID": 966})
    assert [(field.path, field.reason) for field in wrong.value.fields] == [("destination", PREMIUM)]
    assert "signal dial_limit" in caplog.text
    assert "9000" not in caplog.text + str(wrong.value)


@pytest.fixture
def table(storage: Storage) -> TableClient:
    return storage.table("dials")


def rules(table: TableClient, settings: Settings, limit: int) -> TollRules:
    return TollRules(table, replace(settings, dial_per_hour=limit), keep=timedelta(hours=1))


def counted(table: TableClient) -> int:
    return sum(json.loads(table.get_entity(PARTITION, KEY)["minutes"]).values())


def test_many_instances_at_once_never_make_more_calls_than_an_hour_may_have(
    table: TableClient, settings: Settings, storage: Storage
) -> None:
    def ring(_: int) -> bool:
        try:
            rules(table, settings, 10).count()
        except DialLimit:
            return False
        return True

    storage.create_all()
    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(ring, range(24))) == 10
    assert counted(table) == 10


def test_the_hour_goes_along(
    table: TableClient, settings: Settings, storage: Storage, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    storage.create_all()
    start = time.time()
    at = [start]
    monkeypatch.setattr(tolls, "_minute", lambda: int(at[0] // 60))
    for minutes in (0, 30):
        at[0] = start + minutes * 60
        rules(table, settings, 2).count()
    with pytest.raises(DialLimit) as full:
        rules(table, settings, 2).count()
    assert 0 < full.value.retry_after <= 3600
    assert "signal dial_limit" in caplog.text
    at[0] = start + 60 * 60
    rules(table, settings, 2).count()
    with pytest.raises(DialLimit):
        rules(table, settings, 2).count()
    assert counted(table) == 2


def test_what_did_not_ring_does_not_count(table: TableClient, settings: Settings, storage: Storage) -> None:
    storage.create_all()
    one = rules(table, settings, 1)
    one.count()
    for _ in range(2):
        one.give_back()
        assert counted(table) == 0
    rules(table, settings, 1).count()
    refused_one = rules(table, settings, 1)
    with pytest.raises(DialLimit):
        refused_one.count()
    refused_one.give_back()
    assert counted(table) == 1


def test_none_at_all(table: TableClient, settings: Settings, storage: Storage) -> None:
    storage.create_all()
    with pytest.raises(DialLimit):
        rules(table, settings, 0).count()
