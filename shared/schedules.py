"""When each timer runs: the name of the setting, its default in six fields (UTC), and what for."""

from __future__ import annotations

import os
import re
from datetime import datetime

SCHEDULES: tuple[tuple[str, str, str], ...] = (
    ("POLL_CALL_HISTORY_SCHEDULE", "0 * * * * *", "poll calls"),
    ("POLL_CALL_RECORDS_SCHEDULE", "15 * * * * *", "poll recordings"),
    ("POLL_VOICEMAILS_SCHEDULE", "30 * * * * *", "poll voicemails"),
    ("POLL_LOST_CALLS_SCHEDULE", "35 2/5 * * * *", "poll callers who wait to be called back"),
    ("POLL_CONTACTS_SCHEDULE", "5 0/5 * * * *", "poll contacts"),
    ("POLL_GROUPS_SCHEDULE", "5 1/5 * * * *", "poll groups"),
    ("POLL_VOICEMAIL_BOXES_SCHEDULE", "5 2/5 * * * *", "poll voicemail boxes"),
    ("POLL_AUDIO_PROMPTS_SCHEDULE", "5 3/5 * * * *", "poll audio prompts"),
    ("POLL_VOIP_ENDPOINTS_SCHEDULE", "5 4/5 * * * *", "poll VoIP endpoints"),
    ("SWEEP_SCHEDULE", "45 20 * * * *", "compare a day of the PBX's lists with ours"),
    ("RECONCILE_SCHEDULE", "40 * * * * *", "restore webhooks that never came"),
    ("SYNC_WEBHOOKS_SCHEDULE", "20 10 * * * *", "keep our webhooks registered"),
    ("RETENTION_SCHEDULE", "25 40 2 * * *", "delete history that is older than RETENTION_MONTHS"),
    ("WAKE_DRAINERS_SCHEDULE", "50 2/5 * * * *", "look for deliveries whose message got lost"),
)
_DEFAULTS = {name: default for name, default, _ in SCHEDULES}
_LONG_NAMES = re.compile(r"([A-Za-z]{3})[A-Za-z]+")


def polls(resource: str) -> str:
    """The name of the setting with the schedule that a resource is polled on."""
    return f"POLL_{resource.upper()}_SCHEDULE"


def schedule(name: str) -> str:
    """The schedule that a timer runs on, by the name of its setting; KeyError for any other name."""
    return os.environ.get(name, "").strip() or _DEFAULTS[name]


def times_due(name: str, since: datetime, moment: datetime) -> int:
    """
    How often a timer is due after one moment and up to another, two at most; 0 for a schedule that cannot be read.

    Counted by its own schedule, nights and weekends too: what is due on weekdays alone is not late on a Sunday.
    """
    from croniter import croniter

    try:
        due = croniter(_LONG_NAMES.sub(r"\1", schedule(name)), moment, second_at_beginning=True, day_or=False)
        last, last_but_one = due.get_prev(datetime), due.get_prev(datetime)
    except (ValueError, KeyError):
        return 0
    return int(last > since) + int(last_but_one > since)
