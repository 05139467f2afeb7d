"""Each workflow's requests for deliveries of the app, with any field missing or malformed."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from shared.events.event import check_envelope
from shared.events.table import event_named
from tests.infra.expressions import ExpressionError, evaluate
from tests.infra.template import INFRA
from tests.infra.workflow_run import FAILED, SKIPPED, SUCCEEDED, Answer, Run

FIXTURES = INFRA.parent / "tests" / "fixtures" / "events"
PARAMETERS = {
    "apiUrl": "https://func.example/api/v2",
    "apiKey": "key",
    "timeZone": "FLE Standard Time",
    "mailTo": "reception@example.com",
    "teamsGroupId": "team",
    "teamsChannelId": "channel",
    "excelSource": "sites/example",
    "excelDriveId": "b!drive/1",
    "excelFileId": "file",
    "excelTable": "Calls",
    "crmUrl": "https://crm.example.com/contacts",
    "crmAuthorization": "Bearer crm",
    "$connections": {name: {"connectionId": f"/{name}"} for name in ("office365", "teams", "excelonlinebusiness")},
}
# A stored voicemail; its other fields are the PBX's.
VOICEMAIL = {
    "voicemailID": 171118926552,
    "sender": "+37127771153",
    "callStarted": "2018-01-25T13:54:19+0000",
    "blobUrl": "https://account.blob.example/voicemails/2018/01/25/171118926552.mp3",
    "container": "voicemails",
    "blobName": "2018/01/25/171118926552.mp3",
    "sha256": "0" * 64,
    "size": 3,
    "contentType": "audio/mpeg",
    "storedAt": "2018-01-25T13:55:00Z",
}
CONTACT = {"contactID": 966, "firstname": "Anna", "lastname": "Bērziņa"}
OURS = {"ContactCreated": CONTACT, "VoicemailStored": VOICEMAIL}
HTML = "<html><body>502 Bad Gateway</body></html>"
AUDIO = {"$content-type": "audio/mpeg", "$content": "SUQz"}
HOSTILE = '<a href="https://evil.example">Bank</a> & co'
# Beginnings that a spreadsheet reads as a formula, some after characters that it may ignore.
BEGINNINGS = ("=", "+", "-", "@", "\t=", "\r=", "\n=", " =", "\u00a0=", "\uff1d", "\uff0b", "\uff0d", "\uff20")
ABSENT = object()


def delivery(event: str, **changes: Any) -> dict[str, Any]:
    """Make a delivery as the app posts it; ABSENT removes a field."""
    file = FIXTURES / f"{event}.json"
    body = json.loads(file.read_text()) if file.exists() else {"eventType": event, "data": OURS[event]}
    data = {name: value for name, value in (body["data"] | changes).items() if value is not ABSENT}
    envelope, _ = check_envelope(event_named(event), {**body, "data": data})
    posted: dict[str, Any] = json.loads(json.dumps(envelope))
    return posted


def run(name: str, event: str, answers: dict[str, Answer] | None = None, **changes: Any) -> Run:
    """Run a workflow; answers are by action."""
    return run_on(name, delivery(event, **changes), answers)


def run_on(name: str, body: dict[str, Any], answers: dict[str, Answer] | None = None) -> Run:
    """Run a workflow on any body: its callback address accepts all."""
    definition = json.loads((INFRA / "workflows" / f"{name}.json").read_text())
    given = answers or {}
    return Run(
        definition,
        {each: PARAMETERS[each] for each in definition["parameters"]},
        body,
        headers={"webhook-id": "msg_1"},
        answers=lambda action, _: given.get(action, (200, {})),
    ).go()


def with_all(event: str, value: Any) -> dict[str, Any]:
    return {"eventType": event, "data": {field.name: value for field in event_named(event).model.fields}}


def texts(calls: Any) -> str:
    """Join the texts of the messages among calls."""
    bodies = (inputs["body"] for inputs in calls.values() if "body" in inputs)
    return "".join(body.get("Body") or body["messageBody"] for body in bodies)


def message(name: str, **changes: Any) -> str:
    """Return the text that a workflow about missed calls sends."""
    done = run(name, "LostCallerAdded", **changes)
    assert FAILED not in done.statuses.values()
    (sent,) = done.calls.values()
    text: str = sent["body"].get("Body") or sent["body"]["messageBody"]
    return text


# Missed calls

missed = pytest.mark.parametrize("name", ["missedCallMail", "missedCallTeams"])


@missed
def test_a_missed_call_has_caller_destination_and_local_time(name: str) -> None:
    text = message(name, callerid="+37127771153", attempts=2, last_contact="2018-04-25T14:10:02+0000")
    assert "+37127771153 rang +37167000123 2 time(s), last at 2018-04-25 17:10." in text
    assert '<a href="tel:+37127771153">Call back</a>' in text
    assert "26123456" in message(name)


@missed
def test_times_of_every_form_are_read(name: str) -> None:
    for sent in ("2018-01-25T14:10:02+0000", "2018-01-25T14:10:02.123Z", "2018-01-25T11:10:02-0300"):
        assert "last at 2018-01-25 16:10." in message(name, last_contact=sent)


@missed
def test_digits_become_a_link_and_nothing_else_does(name: str) -> None:
    for caller in ("+37127771153", 27771153):
        assert f'<a href="tel:{caller}">' in message(name, callerid=caller)
    for other in ("", None, "anonymous", "+", "+371x", '27771153";x="', "112;phone-context=x"):
        text = message(name, callerid=other)
        assert "tel:" not in text
        assert ("A withheld number rang" in text) == (not other)


@missed
def test_markup_of_a_caller_stays_text(name: str) -> None:
    text = message(name, callerid=HOSTILE, destination=HOSTILE)
    escaped = "&lt;a href=&quot;https://evil.example&quot;&gt;Bank&lt;/a&gt; &amp; co"
    assert text == f"<p>{escaped} rang {escaped} 1 time(s), last at 2018-04-25 17:10.</p>"


@missed
@pytest.mark.parametrize("nothing", [ABSENT, None, ""])
def test_missing_fields_of_a_missed_call_are_left_out(name: str, nothing: Any) -> None:
    attempts = ABSENT if nothing == "" else nothing
    text = message(name, destination="", attempts=attempts, last_contact=nothing, contact_name=nothing)
    assert text.startswith("<p>26123456 rang you 1 time(s).</p>")


@missed
def test_attempts_are_digits_or_count_as_one(name: str) -> None:
    for attempts in (3, "3", 12):
        assert f" {attempts} time(s)" in message(name, attempts=attempts)
    for odd in ("", "many", "-2", "2.5", [2], {"n": 2}, True, "٣"):
        assert " rang +37167000123 1 time(s), last" in message(name, destination="+37167000123", attempts=odd)


@pytest.mark.parametrize("answer", [(200, AUDIO), (404, "")])
@pytest.mark.parametrize("sent", [HOSTILE, [HOSTILE], {HOSTILE: HOSTILE}, '"><b>'], ids=repr)
@pytest.mark.parametrize(
    ("name", "event"),
    [
        ("missedCallMail", "LostCallerAdded"),
        ("missedCallTeams", "LostCallerAdded"),
        ("voicemailMail", "VoicemailStored"),
    ],
)
def test_markup_in_any_field_stays_text(name: str, event: str, sent: Any, answer: Answer) -> None:
    written = texts(run_on(name, with_all(event, sent), {"Get_audio": answer}).calls)
    assert written
    assert re.findall(r"<[^>]*>?", written.replace("<p>", "").replace("</p>", "")) == []
    assert '"' not in written


# The log of calls


def row(answers: dict[str, Answer] | None = None, **changes: Any) -> dict[str, Any]:
    """Return the row of an answered call."""
    done = run("callLogExcel", "CallCompleted", answers, **changes)
    assert done.statuses["Add_row"] == SUCCEEDED
    body: dict[str, Any] = done.calls["Add_row"]["body"]
    return body


def named(first: Any, last: Any) -> dict[str, Answer]:
    return {"Get_contact": (200, {"status": "OK", "data": {"firstname": first, "lastname": last}})}


CALL = {
    "callID": 1524664459097344,
    "caller": "+37127771153",
    "destination": "67000123",
    "direction": "in",
    "callStarted": "2018-04-25T13:54:19+0000",
    "callConnected": "2018-04-25T13:54:25+0000",
    "connectionTime": 61,
    "contactID": 966,
}


def test_an_answered_call_becomes_a_row() -> None:
    assert row(named("Anna", "Bērziņa"), **CALL) == {
        "CallID": "'1524664459097344",
        "Started": "2018-04-25 16:54:19",
        "Caller": "'+37127771153",
        "Destination": "'67000123",
        "Direction": "in",
        "Seconds": 61,
        "AnsweredBy": "Anna Bērziņa",
    }


@pytest.mark.parametrize("contact", [966, None])
def test_no_cell_is_a_formula_wherever_it_comes_from(contact: int | None) -> None:
    for begin in BEGINNINGS:
        formula = f'{begin}HYPERLINK("https://evil.example","x")'
        fields = {field.name: formula for field in event_named("CallCompleted").model.fields}
        body = {"eventType": "CallCompleted", "data": fields | {"contactID": contact or formula}}
        made = run_on("callLogExcel", body, named(formula, formula)).calls["Add_row"]["body"]
        assert made.pop("Seconds") == ""
        assert made.pop("AnsweredBy").startswith("'" if contact else "")
        assert set(made.values()) == {f"'{formula}"}


def test_odd_starts_are_defused_and_seconds_are_digits_or_nothing() -> None:
    for time, cell in (("=1+1", "'=1+1"), ("yesterday", "yesterday"), ("27", "'27"), ("\n=1", "'\n=1")):
        assert row(**CALL | {"callStarted": time})["Started"] == cell
    for sent, seconds in ((61, 61), ("61", "61"), ("+61", ""), (" 61", ""), ("6e1", ""), ([61], "")):
        assert row(**CALL | {"connectionTime": sent})["Seconds"] == seconds


def test_words_stay_as_they_are() -> None:
    made = row(named("O'Neil", "=x"), **CALL | {"caller": "anonymous", "destination": ""})
    assert (made["Caller"], made["Destination"], made["AnsweredBy"]) == ("anonymous", "", "O'Neil =x")


def test_an_unanswered_call_adds_no_row() -> None:
    nothing = (ABSENT, None, "")
    never = ("0000-00-00 00:00:00", "0001-01-01T00:00:00Z", "1999-11-30T00:00:00+0000", "2038-01-19T03:14:07Z")
    changes = [{"callConnected": time} for time in nothing]
    changes += [{"connectionTime": seconds} for seconds in (0, "0", 0.0)]
    for seconds in (*nothing, 0, "00", "00:00:00"):
        changes += [{"callConnected": time, "connectionTime": seconds} for time in never]
    for change in changes:
        done = run("callLogExcel", "CallCompleted", **CALL | change)
        assert not done.calls, change
        assert done.statuses["Add_row"] == SKIPPED


def test_a_call_that_was_talked_in_is_a_row() -> None:
    for connected, seconds in (
        ("2018-04-25T13:54:25+0000", 1),
        ("2018-04-25 13:54:25", "10"),
        ("2038-01-18T03:14:07Z", ABSENT),
        ("2018-04-25T13:54:25+0000", "a while"),
        ("0000-00-00 00:00:00", 61),
    ):
        made = row(**CALL | {"callConnected": connected, "connectionTime": seconds})
        assert made["CallID"] == "'1524664459097344"


def test_a_contact_is_asked_for_by_its_id_and_by_nothing_else() -> None:
    for contact in (1, "966", 2**63 - 1):
        done = run("callLogExcel", "CallCompleted", named("Anna", ""), **CALL | {"contactID": contact})
        assert done.calls["Get_contact"]["uri"] == f"https://func.example/api/v2/contacts/{contact}"
    paths = ("966/../../subscriptions", "..%2fsubscriptions", "966?x=1", "966#x", "966;x", "966@evil.example", "\\966")
    for odd in (ABSENT, None, "", *paths, "-966", "9 6", "٩٦٦", ["966"], {"966": "966"}, True):
        done = run("callLogExcel", "CallCompleted", named("Anna", ""), **CALL | {"contactID": odd})
        assert list(done.calls) == ["Add_row"], odd
        assert done.calls["Add_row"]["body"]["AnsweredBy"] == ""


def test_a_name_comes_from_a_good_answer_only_and_the_row_comes_anyway() -> None:
    none = {"status": "Not Found", "statusCode": 404, "data": None}
    for answer in ((404, none), (503, ""), (200, HTML), (202, {"data": {"firstname": "Nobody"}}), None):
        made = row({"Get_contact": answer}, **CALL)
        assert (made["AnsweredBy"], made["CallID"]) == ("", "'1524664459097344")
    # Half a name is a name.
    for contact in ({}, {"firstname": None, "lastname": "Bērziņa"}, {"firstname": "Anna"}):
        made = row({"Get_contact": (200, {"data": contact})}, **CALL)
        assert made["AnsweredBy"] == " ".join(filter(None, contact.values()))


@pytest.mark.parametrize("nothing", [ABSENT, None, ""])
def test_a_call_with_few_fields_adds_a_row(nothing: Any) -> None:
    silent = dict.fromkeys(("caller", "destination", "direction", "callStarted"), nothing)
    seconds = ABSENT if nothing == "" else nothing
    made = row(**CALL | silent | {"connectionTime": seconds})
    assert {made[name] for name in ("Started", "Caller", "Destination", "Direction", "Seconds")} == {""}


def test_calls_are_written_one_at_a_time_once_and_where_one_says() -> None:
    done = run("callLogExcel", "CallCompleted", **CALL)
    inputs = done.calls["Add_row"]
    assert inputs["retryPolicy"] == {"type": "none"}
    assert inputs["queries"]["source"] == "sites/example"
    assert "/drives/b!drive%2F1/" in inputs["path"]
    trigger = done.definition["triggers"]["CallCompleted"]
    assert trigger["runtimeConfiguration"]["concurrency"]["runs"] == 1


def test_a_row_that_is_not_written_fails_the_run() -> None:
    assert run("callLogExcel", "CallCompleted", {"Add_row": (500, "")}, **CALL).statuses["When_answered"] == FAILED


# Voicemails


def test_a_voicemail_is_mailed_with_its_audio() -> None:
    done = run("voicemailMail", "VoicemailStored", {"Get_audio": (200, AUDIO)})
    assert done.calls["Get_audio"]["uri"] == "https://func.example/api/v2/media/voicemails/2018/01/25/171118926552.mp3"
    assert done.calls["Get_audio"]["headers"] == {"x-functions-key": "key"}
    mail = done.calls["Send_mail"]["body"]
    assert mail["Attachments"] == [{"Name": "voicemail-171118926552.mp3", "ContentBytes": "SUQz"}]
    assert "+37127771153 left a voicemail at 2018-01-25 15:54." in mail["Body"]
    assert "blob" not in mail["Body"]
    assert "Send_mail_without_audio" not in done.calls


def test_a_voicemail_without_audio_is_mailed_all_the_same() -> None:
    for answer in ((404, {"data": None}), (413, {"data": None}), (502, HTML), None):
        done = run("voicemailMail", "VoicemailStored", {"Get_audio": answer})
        assert "Send_mail" not in done.calls
        assert "it is voicemail 171118926552" in done.calls["Send_mail_without_audio"]["body"]["Body"]


def test_a_blob_s_name_cannot_address_anything_else() -> None:
    body = delivery("VoicemailStored")
    paths = ("../../subscriptions", "2018/../../../subscriptions", "....//....//subscriptions", "..", "%2e%2e/x")
    for name in (*paths, "1.mp3?x=1", "1.mp3#x", "", None, ["x"]):
        body["data"] |= {"blobName": name, "container": "../subscriptions"}
        uri = run_on("voicemailMail", body).calls["Get_audio"]["uri"]
        assert uri.startswith("https://func.example/api/v2/media/voicemails/")
        assert not re.search(r"[?#\\]|\.\.|%2[Ee]", uri)


def test_a_voicemail_of_anybody_is_mailed() -> None:
    for sender in (ABSENT, None, "", HOSTILE, "anonymous"):
        done = run("voicemailMail", "VoicemailStored", {"Get_audio": (200, AUDIO)}, sender=sender, callStarted=ABSENT)
        body = done.calls["Send_mail"]["body"]["Body"]
        assert "tel:" not in body
        assert "<a" not in body
        assert re.match("<p>(A withheld number|anonymous|&lt;a .*&gt; &amp; co) left a voicemail[.]</p>", body)


# Contacts


def test_a_new_contact_is_posted_once() -> None:
    done = run("newContactCrm", "ContactCreated")
    inputs = done.calls["Post_contact"]
    assert (inputs["uri"], inputs["body"]) == (PARAMETERS["crmUrl"], CONTACT)
    assert inputs["headers"]["Idempotency-Key"] == "msg_1"
    assert inputs["headers"]["Authorization"] == "Bearer crm"


# The evaluator is as strict as the service


@pytest.mark.parametrize(
    "expression",
    [
        "@substring('ab', 1, 2)",
        "@substring('ab', -1, 1)",
        "@empty(5)",
        "@if(true, 1, substring('', 0, 1))",
        "@convertFromUtc('2018-04-25T14:10:02+0000', 'UTC')",
        "@convertFromUtc('', 'UTC')",
        "@replace(null, 'a', 'b')",
        "@body('x')",
        "@unknown()",
        "@concat('a'",
        "@{concat('a')",
    ],
)
def test_a_refusal_of_the_service_fails_the_run(expression: str) -> None:
    with pytest.raises(ExpressionError):
        evaluate(expression, {})


def test_members_of_text_fail_and_of_nothing_are_nothing() -> None:
    scope = {"text": lambda: HTML, "nothing": lambda: None, "some": lambda: {"a": {"b": 1}}}
    with pytest.raises(ExpressionError):
        evaluate("@text()?['data']", scope)
    assert evaluate("@nothing()?['a']?['b']", scope) is None
    assert evaluate("b is @{some()['a']['b']}, c is @{some()?['c']}.", scope) == "b is 1, c is ."
    assert evaluate("@@text", scope) == "@text"
