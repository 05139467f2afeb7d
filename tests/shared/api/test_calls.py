"""The list of calls: filters, days of TIME_ZONE, pages and lost callers; and one call with its events."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qsl

import pytest

from shared import people
from shared.api import calls
from shared.api.envelopes import Page
from shared.api.operations import GET_CALLS, GET_ENDED_CALLS, GET_LOST_CALLERS
from shared.api.parameters import Request
from shared.bridge import Bridge
from shared.calls import lost_callers
from shared.calls.store import Calls
from shared.deliveries.outbox import Outbox
from shared.errors import Invalid, NotFound, Refused
from shared.events import store
from shared.events.event import row_of
from shared.subscriptions import Subscription, subscriptions
from shared.times import iso, now
from tests.events import received
from tests.stories import add_call

ANNA, LIGA = 11, 12
CALLER = "+37129411870"


@pytest.fixture
def day(bridge: Bridge) -> dict[str, int]:
    """Five calls around the night in which clocks go forward, 2026-03-29 in Riga."""
    stories = Calls(bridge.storage, "LV")
    return {
        "before": add_call(stories, "2026-03-28T21:59:59Z", caller=CALLER, employee=ANNA, talks=60),
        "first": add_call(stories, "2026-03-28T22:00:00Z", caller=CALLER, employee=ANNA),
        "out": add_call(
            stories, "2026-03-29T12:00:00Z", caller="26550101", destination="29411870", employee=LIGA, out=True
        ),
        "last": add_call(stories, "2026-03-29T20:59:59Z", caller="", employee=LIGA, talks=5),
        "after": add_call(stories, "2026-03-29T21:00:00Z", caller="+37122004716", employee=ANNA),
    }


def listed(bridge: Bridge, **query: str) -> list[int]:
    return [item["callID"] for item in calls.read(bridge, GET_CALLS, Request(query=query))["data"]]


def over(bridge: Bridge, query: dict[str, str]) -> Page:
    return calls.read_ended(bridge, GET_ENDED_CALLS, Request(query=query, base="https://app"))


def test_a_date_is_its_whole_day_in_the_time_zone(bridge: Bridge, day: dict[str, int]) -> None:
    wanted = {"from": "2026-03-29", "to": "2026-03-29"}
    assert listed(bridge, **wanted) == [day["last"], day["out"], day["first"]]
    instants = {"from": "2026-03-28T21:59:59Z", "to": "2026-03-29T12:00:00Z"}
    assert listed(bridge, **instants) == [day["first"], day["before"]]


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ({"number": "29411870"}, ["out", "first", "before"]),
        ({"number": "00371 29 411 870", "direction": "in"}, ["first", "before"]),
        ({"employee": str(ANNA)}, ["after", "first", "before"]),
        ({"employee": str(ANNA), "number": CALLER, "lost": "false"}, ["before"]),
        ({"lost": "true"}, ["after", "first"]),
        ({"lost": "false"}, ["last", "out", "before"]),
        ({"outcome": "answered"}, ["last", "before"]),
        ({"outcome": "unanswered", "direction": "out"}, ["out"]),
        ({"number": CALLER, "from": "2026-03-29", "to": "2026-03-29"}, ["out", "first"]),
    ],
)
def test_filters(bridge: Bridge, day: dict[str, int], query: dict[str, str], names: list[str]) -> None:
    assert listed(bridge, **query) == [day[name] for name in names]


@pytest.mark.parametrize("filters", [{}, {"employee": str(ANNA)}])
def test_parts_follow_each_other(bridge: Bridge, day: dict[str, int], filters: dict[str, str]) -> None:
    whole, found, query = listed(bridge, **filters), list[int](), filters | {"limit": "2"}
    for _ in range(9):
        answer = calls.read(bridge, GET_CALLS, Request(query=query))
        found += [item["callID"] for item in answer["data"]]
        if answer["continuation"] is None:
            break
        query["continuation"] = answer["continuation"]
    assert found == whole


def test_invalid_parameters_are_named(bridge: Bridge, day: dict[str, int]) -> None:
    with pytest.raises(Invalid) as refused:
        calls.read(bridge, GET_CALLS, Request(query={"outcome": "lost", "from": "yesterday"}))
    assert refused.value.fields.keys() == {"outcome", "from"}
    with pytest.raises(Refused, match="continuation"):
        calls.read(bridge, GET_CALLS, Request(query={"continuation": "Zm9v"}))


def test_a_call_has_its_words_and_times(bridge: Bridge, day: dict[str, int]) -> None:
    item: dict[str, Any] = calls.whole_call(bridge, day["before"])
    assert (item["outcome"], item["lost"], item["talkSeconds"]) == ("answered", False, 60)
    assert (item["caller"], item["callerE164"]) == (CALLER, CALLER)
    assert item["contacts"] == [{"contactID": ANNA}]
    assert item["started"] == "2026-03-28T21:59:59Z"
    with pytest.raises(NotFound):
        calls.whole_call(bridge, 1)


def test_each_ended_call_is_listed_once_when_its_story_is_complete(
    bridge: Bridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    stories, begin = Calls(bridge.storage, "LV"), now()
    first = over(bridge, {"state": "now"}).body
    assert first["data"] == []
    one = add_call(stories, iso(begin - timedelta(hours=2)), caller=CALLER, employee=ANNA)
    # Another process ends it too.
    add_call(Calls(bridge.storage, "LV"), iso(begin - timedelta(hours=2)), caller=CALLER, employee=LIGA)
    other = add_call(stories, iso(begin - timedelta(hours=3)), caller="26550101", employee=LIGA, talks=9)
    assert over(bridge, {"state": first["state"]}).body["data"] == []
    monkeypatch.setattr(calls, "now", lambda: now() + calls.DELAY)
    query = {"state": first["state"], "limit": "1"}
    found = []
    for _ in range(4):
        body = over(bridge, query).body
        found += [item["callID"] for item in body["data"]]
        query["state"] = body["state"]
    assert found == [one, other]
    lost = over(bridge, {"state": first["state"], "lost": "true"}).body
    assert [item["callID"] for item in lost["data"]] == [one]
    again = over(bridge, {}).body
    assert [item["callID"] for item in again["data"]] == [one, other]


def test_logic_apps_follow_the_location(bridge: Bridge, monkeypatch: pytest.MonkeyPatch) -> None:
    page = over(bridge, {"triggerState": "now", "lost": "true"})
    assert (page.status, page.headers["Retry-After"]) == (202, "30")
    call = add_call(Calls(bridge.storage, "LV"), iso(now() - timedelta(hours=2)), caller=CALLER, employee=ANNA)
    monkeypatch.setattr(calls, "now", lambda: now() + calls.DELAY)
    location = page.headers["Location"]
    for data in ([call], []):
        address, _, query = location.partition("?")
        assert address == "https://app/api/v2/trigger/calls"
        page = over(bridge, dict(parse_qsl(query)))
        assert [item["callID"] for item in page.body["data"]] == data
        location = page.headers["Location"]
    assert page.status == 202


def test_a_call_shows_its_deliveries_to_subscribers(bridge: Bridge, day: dict[str, int]) -> None:
    known, event = subscriptions(bridge), received("CallCompleted", callID=day["before"])
    people.add(bridge.storage, store.pointers(event, "LV"))
    store.publish(bridge, replace(event, row=row_of(bridge.storage, event)))
    one = known.make(Subscription.new(event="CallCompleted", endpoint="https://flow.example/hook", name="CRM"))
    known.make(Subscription.new(event="ContactAdded", endpoint="https://flow.example/hook"))
    outbox = Outbox(bridge.storage, one.id)
    outbox.put([(event.received, event.id)])
    (sent,) = calls.whole_call(bridge, day["before"])["deliveries"]
    assert sent["time"]
    wanted = {"event": event.id, "type": "CallCompleted", "subscription": one.id, "name": "CRM"}
    assert wanted.items() <= sent.items() and (sent["result"], sent["attempts"]) == (None, None)
    state, (place,) = outbox.due(now(), 9)
    assert outbox.take(state)
    assert outbox.complete(state, [(replace(place, tries=2), "200")])
    outbox.put([(event.received, event.id)], replay="r1")
    sent, again = calls.whole_call(bridge, day["before"])["deliveries"]
    assert (sent["result"], sent["attempts"], again["result"]) == ("200", 2, None)


def lost(bridge: Bridge, caller: str) -> str:
    """Have a caller reach nobody; the id of its row."""
    data = {"callerid": caller, "destination": "67021234", "attempts": 2, "last_contact": iso(now())}
    lost_callers.identified(bridge, received("LostCallerAdded", at=now(), **data))
    return lost_callers.key(bridge.storage, caller, "67021234", "LV")


def test_lost_callers_who_wait_come_first(bridge: Bridge) -> None:
    def read(**query: str) -> Any:
        return calls.read_lost(bridge, GET_LOST_CALLERS, Request(query=query))

    closed, waits = lost(bridge, "29411870"), lost(bridge, "22004716")
    lost_callers.close(bridge.storage, closed, now(), "key: wrote a mail")
    for query, expected in (({}, [waits, closed]), ({"open": "true"}, [waits]), ({"offset": "1"}, [closed])):
        assert [item["id"] for item in read(**query)["data"]] == expected
    (item,) = read(number="+371 29 411 870", open="false")["data"]
    assert (item["note"], item["attempts"], item["open"]) == ("key: wrote a mail", 2, False)
    assert item["closed"]
    # The number that was called is none of the caller's.
    assert read(number="67021234")["data"] == []
    file = read(format="csv")
    assert file.name == "lost_callers.csv"
    assert "+37122004716" in file.content.decode("utf-8-sig")
