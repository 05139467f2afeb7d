"""What stands in each storage table: its kinds of rows, how to pick them, and their columns, for who reads them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rows:
    """
    A kind of row: what one is, the filter that picks them, and their columns, one a line: name, type, what it says.

    Types are those of Azure Tables: String, Int32, Int64, Double, Boolean, DateTime (UTC), Binary.
    """

    what: str
    filter: str
    text: str

    @property
    def columns(self) -> dict[str, tuple[str, str]]:
        """Type and description of each column by name."""
        lines = (line.split(maxsplit=2) for line in self.text.splitlines() if line)
        return {name: (kind, description) for name, kind, description in lines}


# Azure's own, on every row, and the app's own, on many.
KEYS = ("PartitionKey", "RowKey")
OWN = ("writer", "v")

_EVENT = """
id String ID of the event, the same as webhook-id in deliveries
type String Name of the event
origin String How the app learnt of it: webhook, poll, reconciled, backfill or bridge
received DateTime When the app learnt of it
happened DateTime When it happened, as far as it says
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

_FEED = "PartitionKey eq 'feed' and RowKey"

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
outcome String ringing, talking, answered, missed, unanswered, voicemail or unknown
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
parts Binary What the events say, for the app alone
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
    "feed": (
        Rows("An event in the order in which they came in, newest first.", f"{_FEED} lt 'n'", _EVENT),
        Rows(
            "The same again for each number and its call, for who reads one; for the app alone.",
            f"{_FEED} ge 'n'",
            _EVENT,
        ),
    ),
    "resources": (
        Rows(
            "An item that was polled; PartitionKey is the resource, such as contacts, RowKey the item's ID.",
            "kind eq 'item'",
            """
kind String Always item
item String The item as JSON
packed Binary A longer item, as zlib's JSON
payload String Name of the blob in container payloads that holds one longer still
hash String SHA-256 of what it says
revision Int32 How often it changed, went or came again
began DateTime When its call began, or when it was polled first
firstSeen DateTime When it was polled first
lastSeen DateTime When it was polled last, to within a day
removed Boolean Whether it is gone from the PBX
missed Int32 How often it was missing of late
missing DateTime Since when it is missing
""",
        ),
        Rows(
            "The state of a resource, its order of arrival, and what is still to be reconciled; for the app alone.",
            "kind ne 'item'",
            """
kind String head, arrival or pending
ids String IDs of items, as a JSON array
sequence Int64 The last arrival, in microseconds since 1970
count Int64 Items that are there
smallest Int64 Smallest ID ever
largest Int64 Largest ID ever
floor String The newest are complete from here on
newest Binary The newest items
backfill Boolean Whether they are of a first reading
since String When reconciling was first tried
""",
        ),
    ),
    "cases": (
        Rows(
            "A lost caller at a destination.",
            "PartitionKey eq 'lost'",
            """
callerid String Number that called
destination String Number that was called
open Boolean Whether the caller waits to be called back
since DateTime Since when
lastContact DateTime When the caller tried last
attempts Int32 How many times
at DateTime When its last event came in
case Binary Its events, for the app alone
""",
        ),
        Rows(
            "The handing over of a call; for the app alone.",
            "PartitionKey eq 'transfer'",
            """
at DateTime When the last one came in
case Binary Its events
""",
        ),
    ),
    "media": (
        Rows(
            "A voicemail's copy, or its deletion at the PBX; RowKey is the voicemail's ID.",
            "PartitionKey eq 'voicemail'",
            """
blob String Name of the blob
at DateTime When this was noted
deletedAtPbx DateTime When the app learnt that the PBX has deleted it
inferred Boolean Whether that was concluded from lists
""",
        ),
    ),
    "deadletters": (
        Rows(
            "What could not be used; PartitionKey is its kind.",
            "kind ne ''",
            """
kind String Where it came from: refused, event, media, delivery, polled
id String What it is
reason String Why, in a few words
first DateTime When it was first kept
last DateTime When it was kept last
attempts Int32 How many times
size Int32 Bytes of its body
body String The body
payload String Name of the blob in container payloads that holds a long one
""",
        ),
    ),
    "checkpoints": (
        Rows(
            "How far a poll is; RowKey is the resource.",
            "PartitionKey eq 'checkpoint'",
            """
started Boolean Whether the first reading is complete
begin DateTime From when on items are handed on
cursor Int64 The largest ID
offset Int32 Where a first reading goes on
left String Windows that are still to be read
partial Boolean Whether the last listing had an end
items Int64 Items that are there
unreadable Int32 Items of the last listing without an ID
digest String Hash of the last listing
sequence Int64 The last arrival
lastSuccess DateTime When it last succeeded
lastError String What went wrong last
lastErrorAt DateTime When
pausedUntil DateTime Until when it does not ask
swept DateTime When the sweep last looked
lag Double Seconds between an item and its poll
""",
        ),
    ),
    "health": (
        Rows(
            "A day's counts; RowKey is the day.",
            "PartitionKey eq 'day'",
            """
webhooks Int32 Events that came as webhooks
reconciled Int32 Events whose webhook never came
duplicates Int32 Events that came again
drift Int32 Webhooks and listed items with fields that the reference does not know, or that do not fit
lateness String How late webhooks were, as a JSON histogram
p50 Double Seconds that half of them were late at most
p99 Double Seconds that 99 of 100 were late at most
types String Silence of each event, as JSON
driftFields String Fields that are unknown or do not fit, and how often they came, as JSON
""",
        ),
    ),
    "webhooks": (
        Rows(
            "A webhook of the app at the PBX.",
            "PartitionKey eq 'webhook'",
            """
event String Name of the event
state String intended, held or maybe orphaned
id String The PBX's ID of it
host String Host that it posts to
endpoint String Hash of its address
created DateTime When it was made
renewed_for String Hash of the address that it is made again for
""",
        ),
        Rows("The end of all webhooks.", "PartitionKey eq 'ended'", "since DateTime Since when none is kept"),
    ),
}
