"""What stands in the tables that the app keeps for its own work, and shows."""

from __future__ import annotations

from dev.described import Rows

TABLES: dict[str, tuple[Rows, ...]] = {
    "board": (
        Rows(
            "Wrong keys of the last minute that the page was given; RowKey is board or admin.",
            "PartitionKey eq 'tries'",
            """
tries String Times and tokens of tries, as JSON
""",
        ),
        Rows(
            "An address that has signed somebody in; RowKey is its mark.",
            "PartitionKey eq 'once'",
            """
at DateTime When it was used
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
looked DateTime When the last thorough reading was complete
left String Days that are still to be read, as a JSON array
history DateTime Before when history is still to be read
byDay Boolean Whether it is read a day at a time
page Int32 The largest page that the PBX gave
waiting DateTime When events are due that a webhook may still bring
items Int64 Items that are there
unreadable Int32 Items of the last listing without an ID
lag Double Seconds between an item and its poll
state String What a poll remembers by itself
lastSuccess DateTime When it last succeeded
lastError String What went wrong last
lastErrorAt DateTime When
forbiddenSince DateTime Since when the PBX answers 403
pausedUntil DateTime Until when it does not ask
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
came String Webhooks that came, by type, as JSON
lost String Webhooks that never came, by type, as JSON
driftFields String Fields that are unknown or do not fit, and how often they came, as JSON
""",
        ),
        Rows(
            "A timer whose last run failed; RowKey is its name.",
            "PartitionKey eq 'timer'",
            """
at DateTime When it failed
error String What was wrong
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
""",
        ),
        Rows(
            "The last sync.",
            "PartitionKey eq 'sync'",
            """
at DateTime When it ran
problem String What stood in its way
""",
        ),
        Rows("The end of all webhooks.", "PartitionKey eq 'ended'", "since DateTime Since when none is kept"),
    ),
    "audit": (
        Rows(
            "A change that a person or a key has made, newest first.",
            "PartitionKey eq 'audit'",
            """
at DateTime When it was made
who String Person or key
what String Operation
count Int32 Number of things changed
result String Outcome in a word
note String Reason, where one was given
""",
        ),
    ),
}
