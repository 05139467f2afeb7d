"""Each alert's query, run on rows that fire it and on rows that do not, with its rule's window."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import duckdb_kql
import pytest

from functions.background import TIMERS
from tests.infra.template import EVERYTHING, INFRA, Snapshot, snapshot
from tests.infra.test_templates import python_sources

RULE = "Microsoft.Insights/scheduledQueryRules"
QUERIES = {file.stem for file in INFRA.glob("queries/*.kql")} - {"signals"}
# An hourly poll of contacts, and one of groups that no rule can see.
SLOW = (("scheduleOverrides", "{ POLL_CONTACTS_SCHEDULE: '0 7 * * * *', POLL_GROUPS_SCHEDULE: '0 0 3 * * 1' }"),)
DAY = 24 * 60
POLLS = {name: schedule for name, schedule, _ in TIMERS if name.startswith("Poll")}
OTHER_TIMERS = {name for name, _, _ in TIMERS} - POLLS.keys()
AGGREGATIONS = {
    "Total": sum,
    "Maximum": lambda values: max(values, default=0),
    "Count": len,
}


def request(
    minutes: float, name: str, *, status: int = 200, raised: bool = False, ms: float = 20, count: int = 1
) -> Any:
    """Make a row of AppRequests from some minutes ago: the function's answer, and whether it raised."""
    return ("AppRequests", minutes, (name, not raised, str(status), ms, count))


def trace(minutes: float, message: str, count: int = 1) -> Any:
    """Make a row of AppTraces from some minutes ago."""
    return ("AppTraces", minutes, (message, count))


def polled(minutes: float = 3, *, without: str = "") -> list[Any]:
    """Make a successful run of every poll."""
    return [request(minutes, name) for name in POLLS if name != without]


def rule(name: str, made: Snapshot) -> dict[str, Any]:
    found = [one["properties"] for one in made.of(RULE) if one["name"].startswith(f"{name}-")]
    properties: dict[str, Any] = found[0]
    return properties


def minutes_of(window: str) -> int:
    number, unit = int(window.lstrip("PT")[:-1]), window[-1]
    return number * {"M": 1, "H": 60, "D": DAY}[unit]


def found_by(name: str, rows: Sequence[Any], made: Snapshot | None = None) -> list[tuple[Any, ...]]:
    """Run the query of a rule on those of the rows that are in its window."""
    properties = rule(name, made or snapshot(EVERYTHING))
    connection: Any = duckdb_kql.connect()
    connection.sql(
        "CREATE TABLE AppRequests (TimeGenerated TIMESTAMP, Name VARCHAR, Success BOOLEAN, ResultCode VARCHAR,"
        " DurationMs DOUBLE, ItemCount INTEGER)"
    )
    connection.sql("CREATE TABLE AppTraces (TimeGenerated TIMESTAMP, Message VARCHAR, ItemCount INTEGER)")
    now = datetime.now(UTC).replace(tzinfo=None)
    for table, minutes, row in rows:
        if minutes <= minutes_of(properties["windowSize"]):
            places = ", ".join("?" * (len(row) + 1))
            connection.execute(f"INSERT INTO {table} VALUES ({places})", [now - timedelta(minutes=minutes), *row])
    (criterion,) = properties["criteria"]["allOf"]
    result = duckdb_kql.query(connection, criterion["query"])
    columns = list(result.columns)
    measure = criterion["metricMeasureColumn"]
    # A rule that counts rows has no column.
    assert (measure is None) == (criterion["timeAggregation"] == "Count")
    return [row if measure is None else (row[columns.index(measure)],) for row in result.fetchall()]


def fires(name: str, rows: Sequence[Any], made: Snapshot | None = None) -> bool:
    (criterion,) = rule(name, made or snapshot(EVERYTHING))["criteria"]["allOf"]
    values = [row[0] for row in found_by(name, rows, made)]
    assert criterion["operator"] == "GreaterThan"
    return bool(AGGREGATIONS[criterion["timeAggregation"]](values) > criterion["threshold"])


# Rules of the query that they have in common, each with log lines that fire it.
SIGNALS = {
    "deadLetters": ("dead_letter kind=event reason=x",),
    "webhooksSilent": ("webhook_silent event=CallStarted",),
    "deliveryFailures": (
        "delivery_failed subscription=s attempts=9",
        "subscription_disabled subscription=s",
        "subscription_unreadable subscription=s",
    ),
    "budgetExhausted": ("budget_exhausted resource=contacts",),
    "mediaWaiting": ("media_waiting kind=recording", "media_incomplete kind=recording id=7"),
    "mediaConflicts": ("media_conflict kind=recording",),
    "dialLimits": ("dial_limit limit=200",),
    "pbxForbids": ("pbx_forbidden method=GetContacts",),
}
RULES = QUERIES | SIGNALS.keys()


@pytest.mark.parametrize("name", SIGNALS)
def test_the_signals_of_a_rule_fire_it_and_no_other_line_does(name: str) -> None:
    lines = [trace(2, f"signal {line}") for line in SIGNALS[name]]
    assert sum(row[0] for row in found_by(name, lines)) == len(lines)
    assert fires(name, lines[:1])
    assert not fires(name, [])
    others = [trace(2, f"signal {one}") for other, lines in SIGNALS.items() if other != name for one in lines]
    quoted = [trace(2, f"an answer said: signal {line}") for line in SIGNALS[name]]
    assert not fires(name, [*others, *quoted, *(trace(3 * DAY, f"signal {line}") for line in SIGNALS[name])])


def test_answers_of_500_fire_and_refusals_do_not() -> None:
    assert fires("serverErrors", [request(2, "Dial", status=503)])
    assert not fires("serverErrors", [request(2, "Dial", status=status) for status in (200, 202, 404, 422, 429)])
    # A timer has no status.
    assert not fires("serverErrors", [request(2, "LookAfter", status=0)])


def test_slow_receivers_fire_when_there_are_twenty_of_them() -> None:
    assert fires("receiverLatency", [request(2, "OnCallStarted", ms=1500, count=20)])
    assert not fires("receiverLatency", [request(2, "OnCallStarted", ms=1500, count=19)])
    assert not fires("receiverLatency", [request(2, "OnCallStarted", ms=90, count=500)])
    assert not fires("receiverLatency", [request(2, "Dial", ms=9000, count=100)])


def test_a_timer_that_fails_fires() -> None:
    assert fires("timersFailing", [request(2, "LookAfter", raised=True)])
    assert not fires("timersFailing", [request(2, "LookAfter"), request(2, "PollContacts", raised=True)])
    query = (INFRA / "queries" / "timersFailing.kql").read_text()
    assert set(re.findall(r'"(\w+)"', query)) == OTHER_TIMERS


def test_silence_fires_and_one_run_is_no_silence() -> None:
    assert fires("appSilent", [])
    assert fires("appSilent", [request(20, "LookAfter")])
    assert not fires("appSilent", [request(14, "LookAfter")])


# Webhooks lost


def lost(minutes: float, events: int) -> Any:
    """Webhooks that never came."""
    return trace(minutes, f"signal webhook_loss resource=call_history events={events}")


def test_loss_is_of_a_rolling_day_and_not_of_a_calendar_one() -> None:
    # A thousand before, and twenty with two lost after any midnight: 0.2 % of a day, wherever midnight is.
    for minutes in (1, 7 * 60, 23 * 60):
        rows = [request(minutes + 5, "OnCallStarted", count=1000), request(minutes, "OnCallStarted", count=20)]
        ((share,),) = found_by("webhookLoss", [*rows, lost(minutes, 2)])
        assert share == pytest.approx(100 * 2 / 1022)
    assert not fires("webhookLoss", [*rows, lost(1, 2)])


def test_a_refused_webhook_did_not_come() -> None:
    refused = [request(3, "OnCallStarted", status=status, count=100) for status in (400, 401, 411, 413, 503)]
    assert fires("webhookLoss", [*refused, request(3, "OnCallStarted", status=202, count=19), lost(3, 1 + 1)])
    ((share,),) = found_by("webhookLoss", [*refused, request(3, "OnCallStarted", count=18), lost(3, 2)])
    assert share == pytest.approx(10)


def test_loss_needs_twenty_events_and_more_than_five_percent() -> None:
    assert not fires("webhookLoss", [request(3, "OnCallStarted", count=10), lost(3, 9)])
    assert not fires("webhookLoss", [request(3, "OnCallStarted", count=95), lost(3, 5)])
    assert fires("webhookLoss", [request(3, "OnCallStarted", count=94), lost(3, 6)])
    assert fires("webhookLoss", [lost(3, 20)])
    assert not fires("webhookLoss", [])
    # Other functions are no webhooks.
    assert fires("webhookLoss", [request(3, "Dial", count=1000), lost(3, 20)])


# Polls


def test_all_polls_that_ran_are_well() -> None:
    assert not fires("pollsStale", polled())


def test_each_stale_poll_is_named_once() -> None:
    assert {row[0] for row in found_by("pollsStale", [])} == POLLS.keys()
    name = "PollVoicemailBoxes"
    rows = [*polled(without=name), request(2, name, raised=True)]
    assert found_by("pollsStale", rows) == [(name,)]
    reported = trace(2, "signal poll_stale resource=voicemail_boxes seconds=3000")
    assert found_by("pollsStale", [*rows, reported]) == [(name,)]
    assert found_by("pollsStale", [*polled(), reported]) == [(name,)]


def test_a_slow_schedule_has_as_long_as_it_takes() -> None:
    made = snapshot(EVERYTHING, *SLOW)
    assert minutes_of(rule("pollsStale", made)["windowSize"]) >= 125
    others = polled(without="PollContacts")
    assert not fires("pollsStale", [*others, request(100, "PollContacts")], made)
    # The app says so from 25 minutes on, at each run.
    report = trace(2, "signal poll_stale resource=contacts seconds=3700")
    assert not fires("pollsStale", [*others, request(2, "PollContacts"), report], made)
    assert found_by("pollsStale", [*others, request(130, "PollContacts")], made) == [("PollContacts",)]
    assert found_by("pollsStale", [*others, trace(2, report[2][0].replace("3700", "8000"))], made) == [
        ("PollContacts",)
    ]


def test_a_poll_that_runs_less_than_daily_is_not_watched() -> None:
    made = snapshot(EVERYTHING, *SLOW)
    assert not fires("pollsStale", polled(without="PollGroups"), made)
    assert fires("pollsStale", polled(without="PollVoicemails"), made)


def expanded(field: str, values: int) -> list[int]:
    """Return the values of a field of an NCRONTAB schedule."""
    found: set[int] = set()
    for part in field.split(","):
        span, _, step = part.partition("/")
        first, _, last = ("0", "", str(values - 1)) if span == "*" else span.partition("-")
        end = int(last or (values - 1 if step else first))
        found |= set(range(int(first), end + 1, int(step or 1)))
    return sorted(found)


def longest_pause(schedule: str) -> int:
    """Return the most minutes between two runs of a daily schedule."""
    minutes, hours = schedule.split()[1:3]
    runs = [hour * 60 + minute for hour in expanded(hours, 24) for minute in expanded(minutes, 60)]
    return max(later - run for run, later in zip(runs, [*runs[1:], runs[0] + DAY], strict=True))


# For some the template knows the pause, for others that it is no longer than that.
SCHEDULES = {
    "0 * * * * *": True,
    "0 */7 * * * *": True,
    "0 40/15 * * * *": True,
    "0 5 * * * *": True,
    "0 0 20/3 * * *": True,
    "0 0 4 * * *": True,
    "0 */15,7 * * * *": False,
    "0 0/5 8-18 * * *": False,
    "0 3,7 2/4 * * *": False,
}


def test_a_legal_schedule_deploys_and_is_stale_after_two_of_its_longest_pauses() -> None:
    given = dict(zip(sorted(set(POLLS.values())), SCHEDULES, strict=True))
    rows = "\n".join(f"  {name}: '{text}'" for name, text in given.items())
    made = snapshot(EVERYTHING, ("scheduleOverrides", f"{{\n{rows}\n}}"))
    (criterion,) = rule("pollsStale", made)["criteria"]["allOf"]
    written = re.search(r"dynamic\((\[.*?\])\)", criterion["query"])
    assert written is not None
    limits = {row["resource"]: row["minutes"] for row in json.loads(written[1])}
    for name, text in given.items():
        limit = limits[name.removeprefix("POLL_").removesuffix("_SCHEDULE").lower()]
        # A rule looks back two days at most.
        needed = min(2 * DAY, max(15, 2 * longest_pause(text) + 5))
        assert limit == needed if SCHEDULES[text] else needed <= limit <= 2 * DAY, text
    assert minutes_of(rule("pollsStale", made)["windowSize"]) >= max(limits.values())


# All of them


COMMON = {
    "AppRoleInstance": "string", "AppRoleName": "string", "AppVersion": "string", "ClientBrowser": "string",
    "ClientCity": "string", "ClientCountryOrRegion": "string", "ClientIP": "string", "ClientModel": "string",
    "ClientOS": "string", "ClientStateOrProvince": "string", "ClientType": "string", "IKey": "string",
    "ItemCount": "int", "Measurements": "dynamic", "OperationId": "string", "OperationName": "string",
    "ParentId": "string", "Properties": "dynamic", "ResourceGUID": "string", "SDKVersion": "string",
    "SessionId": "string", "SourceSystem": "string", "SyntheticSource": "string", "TenantId": "string",
    "TimeGenerated": "datetime", "Type": "string", "UserAccountId": "string", "UserAuthenticatedId": "string",
    "UserId": "string", "_BilledSize": "real", "_IsBillable": "string", "_ResourceId": "string",
    "_SubscriptionId": "string",
}  # fmt: skip
# Azure Monitor's reference of tables.
TABLES = {
    "AppRequests": COMMON
    | {"DurationMs": "real", "Id": "string", "Name": "string", "PerformanceBucket": "string", "ResultCode": "string"}
    | {"Source": "string", "Success": "bool", "Url": "string"},
    "AppTraces": COMMON
    | {"Message": "string", "ReferencedItemId": "string", "ReferencedType": "string", "SeverityLevel": "int"},
}
NUMBERS = ("int", "long", "real", "decimal")


def parsed(queries: dict[str, str]) -> dict[str, dict[str, Any]]:
    """Return the problems and columns that Microsoft's own parser finds in each query."""
    node = shutil.which("node")
    if node is None or not (INFRA.parent / "node_modules" / "@kusto").is_dir():
        pytest.fail("the parser of queries is not here: make install brings @kusto/language-service-next, for node")
    schemas = {
        name: f"({', '.join(f'{column}: {kind}' for column, kind in columns.items())})"
        for name, columns in TABLES.items()
    }
    text = json.dumps({"tables": schemas, "queries": queries})
    script = INFRA.parent / "tests" / "infra" / "kql.js"
    done = subprocess.run([node, script], input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, dict[str, Any]] = json.loads(done.stdout)
    return found


def test_microsoft_s_parser_has_nothing_to_say_of_any_query() -> None:
    criteria = {
        one["name"].split("-")[0]: one["properties"]["criteria"]["allOf"][0]
        for file in (EVERYTHING, INFRA / "production.bicepparam")
        for one in snapshot(file).of(RULE)
    }
    assert criteria.keys() == RULES
    found = parsed({name: criterion["query"] for name, criterion in criteria.items()})
    assert {name: one["problems"] for name, one in found.items() if one["problems"]} == {}
    for name, criterion in criteria.items():
        measure = criterion["metricMeasureColumn"]
        assert measure is None or found[name]["columns"][measure] in NUMBERS, name
        assert found[name]["columns"], name


def test_a_wrong_query_is_found() -> None:
    wrong = {
        "AppRequests | where Nam == 'Dial'": "'Nam' does not refer",
        "AppRequest | take 1": "'AppRequest' does not refer",
        "AppTraces | summarize Value = sum(Message)": "must be summable",
        "AppRequests | where ResultCode >= 500": "not defined for the operand types",
        "AppTraces | sumarize count()": "Error",
    }
    found = parsed({query: query for query in wrong})
    assert [query for query, problem in wrong.items() if problem not in "".join(found[query]["problems"])] == []


def test_every_query_has_a_rule_with_a_window_that_azure_knows() -> None:
    windows = {*(f"PT{minutes}M" for minutes in (5, 10, 15, 30, 45)), *(f"PT{hours}H" for hours in range(1, 7))}
    made = snapshot(EVERYTHING)
    assert {one["name"].split("-")[0] for one in made.of(RULE)} == RULES
    for one in made.of(RULE):
        properties = one["properties"]
        assert properties["windowSize"] in windows | {"P1D", "P2D"}
        (criterion,) = properties["criteria"]["allOf"]
        # With more periods the query would see more than the window.
        assert set(criterion["failingPeriods"].values()) == {1}
        assert properties["actions"]["actionGroups"]


def test_every_signal_that_the_code_logs_is_watched() -> None:
    logged = set(re.findall(r"[\"']signal (\w+) \w+=%", python_sources()))
    queries = [one["properties"]["criteria"]["allOf"][0]["query"] for one in snapshot(EVERYTHING).of(RULE)]
    assert logged <= set(re.findall(r'"signal (\w+) "', "".join(queries)))


def test_the_workbook_draws_what_the_rules_watch() -> None:
    made = snapshot(EVERYTHING)
    drawn = made.one("Microsoft.Insights/workbooks")["properties"]["serializedData"]
    drawn_queries = {item["name"]: item["content"]["query"] for item in json.loads(drawn)["items"]}
    rules = {one["name"].split("-")[0]: one["properties"]["criteria"]["allOf"][0] for one in made.of(RULE)}
    assert drawn_queries == {name: criterion["query"] for name, criterion in rules.items()}
