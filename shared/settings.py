"""Settings: a table of them, read once from the environment into one frozen object; and the schedules of timers."""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from typing import Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from shared.errors import ConfigError, redact
from shared.http import is_loopback
from shared.times import iso, parse_time

DATA_STORAGE = "DataStorage"
# The templates set this to true; the platform's own variables differ from plan to plan.
IN_AZURE = "RUNS_IN_AZURE"

_REFERENCE = re.compile(r"@microsoft\.(?:keyvault|appconfiguration)\s*\(", re.IGNORECASE)
_QUOTES = "\"'`“”„‘’«»"
# Placeholders that scripts, pipelines and examples leave.
_PLACEHOLDER = re.compile(
    r".*(?:\$\(|\$\{|#\{|\{\{).*|<.*>|\[.*\]|%\w+%|\$(?:env:)?[a-z_]\w*|__\w+__|@\{.*\}"
    r"|null|undefined|nil|changeme|change-me|todo|your[-_ ].*",
    re.IGNORECASE | re.DOTALL,
)
# 32 bytes in either alphabet of base64.
_FERNET_KEY = re.compile(r"[A-Za-z0-9_+/-]{43}=")
_HOST = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*")
# Countries near the PBX, accepted without phonenumbers: loading it takes longer than a cold start may.
_NEAR = ("LV", "LT", "EE")

# The name of each setting, its default in six fields (UTC), and the work of its timer. The host reads them.
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


# Readers of a setting's text; each raises ValueError with what to write instead.
def _one_of(*words: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text.lower() not in words:
            raise ValueError(f"write {', '.join(words[:-1])} or {words[-1]}")
        return text.lower()

    return read


def _flag(text: str) -> bool:
    return _one_of("true", "false")(text) == "true"


def _whole(unit: str, least: int, most: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not text.isdecimal() or not least <= int(text) <= most:
            raise ValueError(f"write {unit} from {least} to {most}")
        return int(text)

    return read


def _url(text: str) -> str:
    """Return a base URL that ends in a slash: https, or http for this machine only."""
    try:
        parts = urlsplit(text)
        is_whole = bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_whole = False
    if not is_whole or parts.username or parts.query or parts.fragment:
        raise ValueError("write an https URL without user, password or query")
    if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(parts.hostname)):
        raise ValueError("write an https URL (plain http only for this machine)")
    return text.rstrip("/") + "/"


def _public_url(text: str) -> str:
    url = _url(text) if text else ""
    if re.search(r"/api/(?:v2/|events/)?$", urlsplit(url).path, re.IGNORECASE):
        raise ValueError("write the app's address without /api, such as https://app.example.com/")
    return url


def _endpoint(text: str) -> str:
    if text and not _url(text).startswith("https://"):
        raise ValueError("write an https URL: an identity is never shown over plain http")
    return text


def _key(text: str) -> str:
    """Return an API key without the word Bearer."""
    key = re.sub(r"^bearer(\s+|$)", "", text.strip(), flags=re.IGNORECASE)
    if (text and not key) or not key.isprintable() or not key.isascii() or " " in key:
        raise ValueError("paste the key as the PBX's panel shows it")
    return key


def _names(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _fernet_keys(text: str) -> tuple[str, ...]:
    keys = _names(text)
    if not all(map(_FERNET_KEY.fullmatch, keys)):
        raise ValueError("write keys of 44 characters, URL-safe base64 of 32 random bytes, with commas between")
    return keys


def _hosts(text: str) -> tuple[str, ...]:
    found = tuple(host.lower() for host in _names(text))
    if not all(_HOST.fullmatch(host) for host in found):
        raise ValueError("write host names only, such as files.example.com")
    return found


def _connection_string(text: str) -> str:
    """Return a storage account's connection string with a key or a signature, or the emulator's short one."""
    parts = {name.strip().lower(): value for name, _, value in (part.partition("=") for part in text.split(";"))}
    if parts.get("usedevelopmentstorage", "").lower() == "true":
        return "UseDevelopmentStorage=true"
    try:
        signed = base64.b64decode(parts.get("accountkey", ""), validate=True) or parts.get("sharedaccesssignature")
    except ValueError:
        signed = None
    if not signed or not (parts.get("accountname") or parts.get("queueendpoint")):
        raise ValueError("copy the connection string from the storage account's access keys")
    return text


def _region(text: str) -> str:
    region = text.upper()
    if region not in _NEAR:
        from phonenumbers import SUPPORTED_REGIONS

        if region not in SUPPORTED_REGIONS:
            raise ValueError("write the ISO code of a country, such as LV, GB for the United Kingdom, GR for Greece")
    return region


def _countries(text: str) -> tuple[str, ...]:
    return tuple(map(_region, _names(text)))


def _zone(text: str) -> ZoneInfo:
    try:
        return ZoneInfo(text)
    except (ValueError, KeyError, OSError):
        raise ValueError("write the IANA name of a time zone, such as Europe/Riga") from None


def _start(text: str) -> str:
    if text in ("now", "all"):
        return text
    try:
        return iso(parse_time(text))
    except ValueError as error:
        raise ValueError("write now, all, or an ISO date") from error


@dataclass(frozen=True, slots=True)
class Setting:
    """A row: the name in the environment, the reader of its text, its default, and a description."""

    name: str
    parse: Callable[[str], Any]
    default: str = ""
    description: str = ""
    secret: bool = False
    read_by_host: bool = False


def _setting(parse: Callable[[str], Any], default: str, description: str, *, secret: bool = False) -> Any:
    row = {"parse": parse, "default": default, "description": description, "secret": secret}
    return field(repr=not secret, metadata=row)


@dataclass(frozen=True, slots=True)
class StorageAccount:
    """The data account: a connection string, or three endpoints and an identity's client id."""

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
        _url,
        "https://zvanuparvaldnieks.lmt.lv/api/v2/",
        "Address of the PBX's API. That of Tele2's Mobili stotele is https://mobili-stotele.tele2.lt/api/v2/.",
    )
    pbx_api_key: str = _setting(
        _key,
        "",
        "API key from the PBX's panel, with or without the word Bearer. Without a key the app receives webhooks, but "
        "sends the PBX no requests.",
        secret=True,
    )
    media_hosts: tuple[str, ...] = _setting(
        _hosts, "", "Hosts that recordings may be fetched from, comma separated. Empty allows the PBX's host only."
    )
    default_region: str = _setting(_region, "LV", "Country of numbers without a country code.")
    time_zone: ZoneInfo = _setting(  # noqa: RUF009 - a field, as the others are
        _zone, "Europe/Riga", "IANA time zone of days, and of times shown to people."
    )
    mirror_voicemail_deletes: bool = _setting(
        _flag, "false", "true deletes our copy of a voicemail that is deleted at the PBX; false marks and keeps it."
    )
    public_base_url: str = _setting(
        _public_url, "", "Public address of this app, without /api. Webhooks and links lead there."
    )
    pbx_webhook_key: str = _setting(
        str, "", "Key that webhooks carry as ?code=. Webhooks without it are refused. Required in Azure.", secret=True
    )
    pbx_webhook_key_previous: str = _setting(str, "", "Previous webhook key, accepted during rotation.", secret=True)
    subscription_keys: tuple[str, ...] = _setting(
        _fernet_keys,
        "",
        "Fernet keys that encrypt subscriptions, newest first, comma separated. Required in Azure, else generated.",
        secret=True,
    )
    pbx_events: tuple[str, ...] = _setting(
        _names, "", "Events to register webhooks for, comma separated. Empty registers all."
    )
    poll_start: str = _setting(_start, "now", "Start of the first poll: now (new items only), all, or an ISO date.")
    sweep_lookback_hours: int = _setting(
        _whole("whole hours", 1, 24 * 31), "24", "Hours that the hourly comparison with the PBX's lists looks back."
    )
    reconcile_grace_seconds: int = _setting(
        _whole("whole seconds", 1, 24 * 3600), "300", "Seconds to wait for a webhook before a polled item replaces it."
    )
    retention_months: int = _setting(
        _whole("whole months", 0, 100 * 12),
        "0",
        "Months after which events, calls and polled items are deleted. 0 keeps them.",
    )
    dial_countries: tuple[str, ...] = _setting(
        _countries, "", "Countries that may be dialled, comma separated, such as LV,LT,EE. Empty allows any."
    )
    dial_per_hour: int = _setting(
        _whole("a whole number", 0, 1_000_000),
        "200",
        "Maximum calls dialled per hour through the API. 0 disables dialling.",
    )
    board_sign_in: str = _setting(
        _one_of("key", "entra", "none"),
        "key",
        "Sign-in of the page at /api/board: key asks for BOARD_KEY, entra trusts the platform's sign-in, none serves "
        "no page. The template sets it.",
    )
    board_key: str = _setting(
        str, "", "Key that opens the page at /api/board. A new one signs everybody out.", secret=True
    )
    board_admin_key: str = _setting(
        str, "", "Key that the page asks for again before it erases, exports, discards or replays.", secret=True
    )
    allow_loopback_callbacks: bool = _setting(
        _flag, "false", "true allows subscribers at 127.0.0.0/8, for development. Refused in Azure."
    )

    @property
    def pbx_host(self) -> str:
        """Return the PBX's host name, without a port."""
        return urlsplit(self.pbx_base_url).hostname or ""

    @property
    def allowed_media_hosts(self) -> tuple[str, ...]:
        """Return the hosts that media may be fetched from."""
        return self.media_hosts or (self.pbx_host,)

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Settings:
        """
        Read and check all settings.

        Raises one ConfigError that names every missing or wrong setting, with its value unless that is a secret.
        """
        problems: list[str] = []
        found = {row.name.lower(): _read(row, environ, problems) for row in SETTINGS if not row.read_by_host}
        in_azure = environ.get(IN_AZURE, "").strip().lower() == "true"
        storage = _storage(environ, problems)
        if in_azure and found["allow_loopback_callbacks"]:
            problems.append("ALLOW_LOOPBACK_CALLBACKS: only for development; remove it in Azure")
        if in_azure and found["pbx_webhook_key"] == "":
            problems.append("PBX_WEBHOOK_KEY: missing. In Azure webhooks are accepted with this key only")
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
        _check_resolved(text)
        return row.parse(text or row.default)
    except ValueError as error:
        got = "" if row.secret or not text else f"got {redact(text)[:60]!r}; "
        problems.append(f"{row.name}: {got}{error}")
        return None


def _check_resolved(text: str) -> None:
    """Raise ValueError for a text that should have been replaced by a value."""
    if _REFERENCE.match(text.lstrip(_QUOTES)):
        raise ValueError("its reference does not resolve; check the secret's name and the app's role")
    if text.startswith(tuple(_QUOTES)) or text.endswith(tuple(_QUOTES)):
        raise ValueError("remove the quotes around it")
    if text == "None" or _PLACEHOLDER.fullmatch(text):
        raise ValueError("it is a placeholder; write the value itself")


def _storage(environ: Mapping[str, str], problems: list[str]) -> StorageAccount:
    if environ.get(DATA_STORAGE, "").strip():
        whole = Setting(DATA_STORAGE, _connection_string, secret=True)
        return StorageAccount(connection_string=_read(whole, environ, problems))
    services = ("blob", "queue", "table")
    rows = {service: Setting(f"{DATA_STORAGE}__{service}ServiceUri", _endpoint) for service in services}
    missing = [row.name for row in rows.values() if not environ.get(row.name, "").strip()]
    if missing:
        wanted = DATA_STORAGE if len(missing) == len(rows) else ", ".join(missing)
        problems.append(f"{wanted}: missing. A connection string, or the three endpoints {DATA_STORAGE}__…ServiceUri")
    rows["client_id"] = Setting(f"{DATA_STORAGE}__clientId", str)
    return StorageAccount(**{name: _read(row, environ, problems) or None for name, row in rows.items()})


@cache
def settings() -> Settings:
    """Return this process's settings, read on first use."""
    return Settings.from_env(os.environ)


def polls(resource: str) -> str:
    """Return the name of the setting with the schedule that a resource is polled on."""
    return f"POLL_{resource.upper()}_SCHEDULE"


def schedule(name: str) -> str:
    """Return the schedule of a timer by the name of its setting; raise KeyError for any other name."""
    defaults = {known: default for known, default, _ in SCHEDULES}
    return os.environ.get(name, "").strip() or defaults[name]
