"""Schedules of timers: the name of the setting, its default in six fields (UTC), and its purpose."""

from __future__ import annotations

import os
import re
from datetime import datetime

SCHEDULES: tuple[tuple[str, str, str], ...] = (
    ("POLL_CALL_HISTORY_SCHEDULE", "0 0/5 * * * *", "poll calls"),
    ("POLL_CALL_RECORDS_SCHEDULE", "15 1/5 * * * *", "poll recordings"),
    ("POLL_VOICEMAILS_SCHEDULE", "30 2/5 * * * *", "poll voicemails"),
    ("POLL_LOST_CALLS_SCHEDULE", "45 3/5 * * * *", "poll callers who wait to be called back"),
    ("POLL_CONTACTS_SCHEDULE", "5 0/15 * * * *", "poll contacts"),
    ("POLL_GROUPS_SCHEDULE", "5 3/15 * * * *", "poll groups"),
    ("POLL_VOICEMAIL_BOXES_SCHEDULE", "5 6/15 * * * *", "poll voicemail boxes"),
    ("POLL_AUDIO_PROMPTS_SCHEDULE", "5 9/15 * * * *", "poll audio prompts"),
    ("POLL_VOIP_ENDPOINTS_SCHEDULE", "5 12/15 * * * *", "poll VoIP endpoints"),
    (
        "LOOK_AFTER_SCHEDULE",
        "50 4/5 * * * *",
        "restore lost webhooks and messages, hourly keep our webhooks registered, daily delete old history",
    ),
)
_DEFAULTS = {name: default for name, default, _ in SCHEDULES}
_LONG_NAMES = re.compile(r"([A-Za-z]{3})[A-Za-z]+")


def polls(resource: str) -> str:
    """Return the name of the setting with the schedule that a resource is polled on."""
    return f"POLL_{resource.upper()}_SCHEDULE"


def schedule(name: str) -> str:
    """Return the schedule that a timer runs on, by the name of its setting; raise KeyError for any other name."""
    return os.environ.get(name, "").strip() or _DEFAULTS[name]


def times_due(name: str, since: datetime, moment: datetime) -> int:
    """
    Count the times a timer is due after one moment and up to another, at most two; 0 for an unreadable schedule.

    Counted by its own schedule, nights and weekends too: what is due on weekdays alone is not late on a Sunday.
    """
    from croniter import croniter

    try:
        due = croniter(_LONG_NAMES.sub(r"\1", schedule(name)), moment, second_at_beginning=True, day_or=False)
        last, last_but_one = due.get_prev(datetime), due.get_prev(datetime)
    except (ValueError, KeyError):
        return 0
    return int(last > since) + int(last_but_one > since)
