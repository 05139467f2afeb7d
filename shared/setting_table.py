"""The settings: one table, with how the text of each is read and what it is for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shared import setting_values
from shared.schedules import SCHEDULES

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """A row: the name in the environment, how its text is read, its default, and what it is for."""

    name: str
    description: str
    parse: Callable[[str], Any] = str
    default: str | None = None
    required: bool = False
    secret: bool = False
    read_by_host: bool = False

    @property
    def attribute(self) -> str:
        """The name of the value in Settings."""
        return self.name.lower()


SETTINGS: tuple[Setting, ...] = (
    Setting(
        name="PBX_BASE_URL",
        parse=setting_values.url,
        default="https://zvanuparvaldnieks.lmt.lv/api/v2/",
        description="The PBX's API. Tele2's Mobili stotele is https://mobili-stotele.tele2.lt/api/v2/.",
    ),
    Setting(
        name="PBX_API_KEY",
        parse=setting_values.key,
        required=True,
        secret=True,
        description="The key from the PBX's panel, with or without the word Bearer.",
    ),
    Setting(
        name="MEDIA_HOSTS",
        parse=setting_values.hosts,
        default="",
        description="Hosts that recordings may be fetched from, comma separated. Empty: the PBX's host.",
    ),
    Setting(
        name="DEFAULT_REGION",
        parse=setting_values.region,
        default="LV",
        description="Country that national numbers belong to.",
    ),
    Setting(
        name="MIRROR_VOICEMAIL_DELETES",
        parse=setting_values.flag,
        default="false",
        description="true deletes our copy when a voicemail is deleted at the PBX; false marks it and keeps it.",
    ),
    Setting(
        name="PUBLIC_BASE_URL",
        parse=setting_values.url,
        default="",
        description="This app's own address, where the PBX and subscribers reach it.",
    ),
    Setting(
        name="PBX_WEBHOOK_KEY",
        default="",
        secret=True,
        description="The key that the PBX sends as ?code= with its webhooks; they take no other. Required in Azure.",
    ),
    Setting(
        name="PBX_WEBHOOK_KEY_PREVIOUS",
        default="",
        secret=True,
        description="The key before it, which webhooks may bring too while it is being rotated.",
    ),
    Setting(
        name="SUBSCRIPTION_KEYS",
        parse=setting_values.fernet_keys,
        default="",
        secret=True,
        description="Fernet keys that seal subscriptions, newest first, commas between. Required in Azure, else made.",
    ),
    Setting(
        name="PBX_EVENTS",
        parse=setting_values.names,
        default="",
        description="Events to register webhooks for, comma separated. Empty: all of them.",
    ),
    Setting(
        name="POLL_START",
        parse=setting_values.start,
        default="now",
        description="What the first poll brings: now (only what is new), all, or an ISO date.",
    ),
    Setting(
        name="SWEEP_LOOKBACK_HOURS",
        parse=setting_values.hours,
        default="24",
        description="How far back the hourly sweep compares the PBX's lists with ours.",
    ),
    Setting(
        name="RECONCILE_GRACE_SECONDS",
        parse=setting_values.seconds,
        default="300",
        description="How long a webhook may be late before what was polled takes its place.",
    ),
    Setting(
        name="RETENTION_MONTHS",
        parse=setting_values.months,
        default="0",
        description="Months after which history is deleted: events, calls, what was polled of them. 0: nothing is.",
    ),
    Setting(
        name="DIAL_COUNTRIES",
        parse=setting_values.countries,
        default="",
        description="Countries that may be dialled, comma separated, such as LV,LT,EE. Empty: any.",
    ),
    Setting(
        name="DIAL_PER_HOUR",
        parse=setting_values.count,
        default="200",
        description="How many calls an hour may have that are dialled through the API. 0: none.",
    ),
    Setting(
        name="ALLOW_LOOPBACK_CALLBACKS",
        parse=setting_values.flag,
        default="false",
        description="For a laptop: subscribers may live at 127.0.0.0/8. Refused in Azure.",
    ),
    *(Setting(name=one, default=text, description=what, read_by_host=True) for one, text, what in SCHEDULES),
)
