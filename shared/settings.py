"""Settings: a table of what there is, read once from the environment into one frozen object."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from shared import setting_values as values
from shared.errors import ConfigError
from shared.once import once
from shared.schedules import SCHEDULES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from zoneinfo import ZoneInfo

DATA_STORAGE = "DataStorage"
_UNRESOLVED = "@Microsoft.KeyVault("
# The templates set this to true; what the platform sets differs from plan to plan.
IN_AZURE = "RUNS_IN_AZURE"


@dataclass(frozen=True, slots=True)
class Setting:
    """A row: the name in the environment, how its text is read, its default, and what it is for."""

    name: str
    parse: Callable[[str], Any]
    default: str = ""
    description: str = ""
    required: bool = False
    secret: bool = False
    read_by_host: bool = False


def _setting(parse: Callable[[str], Any], default: str, description: str, **flags: bool) -> Any:
    """An attribute that is a row of SETTINGS."""
    row = {"parse": parse, "default": default, "description": description, **flags}
    return field(repr=not flags.get("secret"), metadata=row)


@dataclass(frozen=True, slots=True)
class StorageAccount:
    """Where events and media live: a connection string, or the three endpoints and an identity's client id."""

    connection_string: str | None = field(default=None, repr=False)
    blob: str | None = None
    queue: str | None = None
    table: str | None = None
    client_id: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """All settings, read and checked; one attribute a row of SETTINGS, and the storage account."""

    storage: StorageAccount
    in_azure: bool
    pbx_base_url: str = _setting(
        values.url,
        "https://zvanuparvaldnieks.lmt.lv/api/v2/",
        "The PBX's API. Tele2's Mobili stotele is https://mobili-stotele.tele2.lt/api/v2/.",
    )
    pbx_api_key: str = _setting(
        values.key, "", "The key from the PBX's panel, with or without the word Bearer.", required=True, secret=True
    )
    media_hosts: tuple[str, ...] = _setting(
        values.hosts, "", "Hosts that recordings may be fetched from, comma separated. Empty: the PBX's host."
    )
    default_region: str = _setting(values.region, "LV", "Country that national numbers belong to.")
    time_zone: ZoneInfo = _setting(  # noqa: RUF009 - a field, as the others are
        values.zone, "Europe/Riga", "Time zone of days and of times shown to people, an IANA name."
    )
    mirror_voicemail_deletes: bool = _setting(
        values.flag,
        "false",
        "true deletes our copy when a voicemail is deleted at the PBX; false marks it and keeps it.",
    )
    public_base_url: str = _setting(values.url, "", "This app's own address, where the PBX and subscribers reach it.")
    pbx_webhook_key: str = _setting(
        str,
        "",
        "The key that the PBX sends as ?code= with its webhooks; they take no other. Required in Azure.",
        secret=True,
    )
    pbx_webhook_key_previous: str = _setting(
        str, "", "The key before it, which webhooks may bring too while it is being rotated.", secret=True
    )
    subscription_keys: tuple[str, ...] = _setting(
        values.fernet_keys,
        "",
        "Fernet keys that seal subscriptions, newest first, commas between. Required in Azure, else made.",
        secret=True,
    )
    pbx_events: tuple[str, ...] = _setting(
        values.names, "", "Events to register webhooks for, comma separated. Empty: all of them."
    )
    poll_start: str = _setting(
        values.start, "now", "What the first poll brings: now (only what is new), all, or an ISO date."
    )
    sweep_lookback_hours: int = _setting(
        values.hours, "24", "How far back the hourly sweep compares the PBX's lists with ours."
    )
    reconcile_grace_seconds: int = _setting(
        values.seconds, "300", "How long a webhook may be late before what was polled takes its place."
    )
    retention_months: int = _setting(
        values.months,
        "0",
        "Months after which history is deleted: events, calls, what was polled of them. 0: nothing is.",
    )
    dial_countries: tuple[str, ...] = _setting(
        values.countries, "", "Countries that may be dialled, comma separated, such as LV,LT,EE. Empty: any."
    )
    dial_per_hour: int = _setting(
        values.count, "200", "How many calls an hour may have that are dialled through the API. 0: none."
    )
    board_sign_in: str = _setting(
        values.one_of("key", "entra", "none"),
        "key",
        "Sign-in of the page at /api/board: key asks for BOARD_KEY, entra trusts the platform's sign-in, none serves "
        "no page. The template writes it.",
    )
    board_key: str = _setting(
        str, "", "Key that opens the page at /api/board. A new one signs everybody out.", secret=True
    )
    board_admin_key: str = _setting(
        str, "", "Key that the page asks for again before it erases, exports, discards or replays.", secret=True
    )
    allow_loopback_callbacks: bool = _setting(
        values.flag, "false", "For a laptop: subscribers may live at 127.0.0.0/8. Refused in Azure."
    )

    @property
    def pbx_host(self) -> str:
        """The PBX's host name, without a port."""
        return urlsplit(self.pbx_base_url).hostname or ""

    @property
    def allowed_media_hosts(self) -> tuple[str, ...]:
        """Hosts that media may be fetched from."""
        return self.media_hosts or (self.pbx_host,)

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Settings:
        """
        Read and check all settings.

        Raises one ConfigError that names every missing or wrong setting and never a value.
        """
        problems: list[str] = []
        found = {row.name.lower(): _read(row, environ, problems) for row in SETTINGS if not row.read_by_host}
        in_azure = environ.get(IN_AZURE, "").strip().lower() == "true"
        storage = _storage(environ, problems)
        if in_azure and found["allow_loopback_callbacks"]:
            problems.append("ALLOW_LOOPBACK_CALLBACKS: only for a laptop, remove it in Azure")
        if in_azure and found["pbx_webhook_key"] == "":
            problems.append("PBX_WEBHOOK_KEY: missing. In Azure webhooks are taken with this key only")
        if in_azure and found["subscription_keys"] == ():
            problems.append("SUBSCRIPTION_KEYS: missing. Write a Fernet key into Key Vault; deploy.sh does")
        if in_azure and str(found["pbx_base_url"]).startswith("http://"):
            problems.append("PBX_BASE_URL: write an https URL")
        if problems:
            raise ConfigError("Invalid settings: " + "; ".join(problems))
        return cls(storage=storage, in_azure=in_azure, **found)


SETTINGS: tuple[Setting, ...] = (
    *(Setting(part.name.upper(), **part.metadata) for part in fields(Settings) if part.metadata),
    *(
        Setting(name, str, default, f"NCRONTAB schedule (six fields, UTC): {what}.", read_by_host=True)
        for name, default, what in SCHEDULES
    ),
)


def _read(row: Setting, environ: Mapping[str, str], problems: list[str]) -> Any:
    text = environ.get(row.name, "").strip()
    try:
        if text.startswith(_UNRESOLVED):
            raise ValueError("its Key Vault reference does not resolve; check the secret and the app's role")
        if not text and row.required:
            raise ValueError(f"missing. {row.description}")
        return row.parse(text or row.default)
    except ValueError as error:
        problems.append(f"{row.name}: {error}")
        return None


def _storage(environ: Mapping[str, str], problems: list[str]) -> StorageAccount:
    if environ.get(DATA_STORAGE, "").strip():
        whole = Setting(DATA_STORAGE, values.connection_string)
        return StorageAccount(connection_string=_read(whole, environ, problems))
    names = {service: f"{DATA_STORAGE}__{service}ServiceUri" for service in ("blob", "queue", "table")}
    missing = [name for name in names.values() if not environ.get(name, "").strip()]
    if missing:
        wanted = DATA_STORAGE if len(missing) == len(names) else ", ".join(missing)
        problems.append(f"{wanted}: missing. A connection string, or the three endpoints {DATA_STORAGE}__…ServiceUri")
    rows = {service: Setting(name, values.endpoint) for service, name in names.items() if name not in missing}
    endpoints = {service: _read(row, environ, problems) for service, row in rows.items()}
    client_id = environ.get(f"{DATA_STORAGE}__clientId", "").strip() or None
    return StorageAccount(**endpoints, client_id=client_id)


@once
def settings() -> Settings:
    """This process's settings, read on first use."""
    return Settings.from_env(os.environ)
