"""What stands in each storage table: its kinds of rows, how to pick them, and their columns, for who reads them."""

from __future__ import annotations

from dev import own_columns
from dev.described import Rows

_EVENT = """
id String ID of the event, the same as webhook-id in deliveries
type String Name of the event
origin String How the app learnt of it: webhook, poll, reconciled, backfill or bridge
received DateTime When the app learnt of it
happened DateTime When it happened, as far as it says
began DateTime When its call began, or else when the app learnt of it: the month that it goes with
direction String in or out
caller String Number that called, as sent
callerE164 String The same as E.164
destination String Number that was called, as sent
destinationE164 String The same as E.164
callID Int64 The call
contactID Int64 The employee
previous_contactID Int64 The employee who handed the call over
recordingID Int64 The recording
voicemailID Int64 The voicemail
drift String Fields that the PBX's reference does not know
misfits String Fields that do not fit what the reference says of them
body String The event as JSON
payload String Name of the blob in container payloads that holds a long body
"""

TABLES: dict[str, tuple[Rows, ...]] = {
    "calls": (
        Rows(
            "A call: who called whom, who answered, how long.",
            "PartitionKey eq 'call'",
            """
callID Int64 The PBX's ID of the call
started DateTime When it started to ring
connected DateTime When somebody answered
ended DateTime When it ended
talkSeconds Int32 How long they talked
began DateTime When it started, or else when the app heard of it first: the month that it goes with
outcome String ringing, talking, answered, missed, unanswered, voicemail, declined, busy, failed or unknown
direction String in or out
caller String Number that called, as sent
callerE164 String The same as E.164
destination String Number that was called, as sent
destinationE164 String The same as E.164
answeredBy Int64 Employee who answered
contacts String Employees whom it concerned, as a JSON array
transfers String Pairs of employees, from and to, as a JSON array
recordings String IDs of recordings, as a JSON array
recordingUrls String Addresses of their audio, as a JSON array
voicemails String IDs of voicemails, as a JSON array
voicemailUrls String Addresses of their audio, as a JSON array
revision Int32 How many events it is made of
truncated Boolean Whether some of them did not fit
over DateTime When the app first knew that it is over
parts Binary What the events say, for the app alone
""",
        ),
    ),
    "ended": (
        Rows(
            "A call that is over, in the order in which that was first known; for the app alone.",
            "PartitionKey eq 'call'",
            """
at DateTime When it was first known
""",
        ),
    ),
    "events": (
        Rows(
            "An event, once for all times that it was sent.",
            "PartitionKey eq 'event'",
            _EVENT
            + """
message String For the app alone
done String Steps that are done, for the app alone
""",
        ),
    ),
    "feed": (Rows("An event in the order in which they came in, newest first.", "PartitionKey eq 'feed'", _EVENT),),
    "resources": (
        Rows(
            "An item that was polled; PartitionKey is the resource, RowKey falls as the item's ID rises.",
            "hash ne ''",
            """
id Int64 The item's ID
item String The item as JSON
packed Binary A longer item, as zlib's JSON
payload String Name of the blob in container payloads that holds one longer still
hash String SHA-256 of its canonical form
revision Int32 How often it changed, went or came again
began DateTime When its call began, or when it was polled first
firstSeen DateTime When it was polled first
lastSeen DateTime When it was written last
removed Boolean Whether it is gone from the PBX
baseline Boolean Whether it was there before anything was handed on
waits String Origin of events that are still to be made of it
due DateTime When they are made
""",
        ),
        Rows(
            "The order in which items arrived, and the last place in it; for the app alone.",
            "RowKey ge 'a'",
            """
ids String IDs of items, as a JSON array
last Int64 The last arrival, in microseconds since 1970
""",
        ),
    ),
    "lostcallers": (
        Rows(
            "A caller whom nobody answered, and the number that was called.",
            "PartitionKey eq 'lost'",
            """
callerid String Number that called
destination String Number that was called
name String Name of the caller, where the PBX knows it
open Boolean Whether the caller waits to be called back
since DateTime Since when
attempts Int32 How many times the caller tried
first DateTime When the caller tried first
last DateTime When the caller tried last
rung String Employees who were rung, as a JSON array
openings Int32 How many times the caller has begun to wait
closed DateTime When the caller was called back, or got through
note String Who closed it by hand, and why
heard DateTime When the last try was heard of
at DateTime When anything happened last
log String Its last events, for the app alone
""",
        ),
    ),
    **own_columns.TABLES,
}
