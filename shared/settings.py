"""Settings: the rows of their table, read once from the environment into one frozen object."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from shared import setting_values
from shared.errors import ConfigError
from shared.once import once
from shared.setting_table import SETTINGS, Setting
from shared.setting_values import StorageAccount as StorageAccount  # noqa: PLC0414 - for those who ask here

if TYPE_CHECKING:
    from collections.abc import Mapping

DATA_STORAGE = "DataStorage"
_UNRESOLVED = "@Microsoft.KeyVault("
# The templates set this to true; what the platform sets differs from plan to plan.
IN_AZURE = "RUNS_IN_AZURE"


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """All settings, read and checked; one attribute a row of SETTINGS, and the storage account."""

    storage: StorageAccount
    in_azure: bool
    pbx_base_url: str
    pbx_api_key: str = field(repr=False)
    media_hosts: tuple[str, ...]
    default_region: str
    mirror_voicemail_deletes: bool
    public_base_url: str
    pbx_webhook_key: str = field(repr=False)
    pbx_webhook_key_previous: str = field(repr=False)
    subscription_keys: tuple[str, ...] = field(repr=False)
    pbx_events: tuple[str, ...]
    poll_start: str
    sweep_lookback_hours: int
    reconcile_grace_seconds: int
    retention_months: int
    dial_countries: tuple[str, ...]
    dial_per_hour: int
    allow_loopback_callbacks: bool

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
        values: dict[str, Any] = {}
        for row in SETTINGS:
            if not row.read_by_host:
                values[row.attribute] = _read(row, environ, problems)
        in_azure = environ.get(IN_AZURE, "").strip().lower() == "true"
        storage = _storage(environ, problems)
        if in_azure and values["allow_loopback_callbacks"]:
            problems.append("ALLOW_LOOPBACK_CALLBACKS: only for a laptop, remove it in Azure")
        if in_azure and values["pbx_webhook_key"] == "":
            problems.append("PBX_WEBHOOK_KEY: missing. In Azure webhooks are taken with this key only")
        if in_azure and values["subscription_keys"] == ():
            problems.append("SUBSCRIPTION_KEYS: missing. Write a Fernet key into Key Vault; deploy.sh does")
        if in_azure and str(values["pbx_base_url"]).startswith("http://"):
            problems.append("PBX_BASE_URL: write an https URL")
        if problems:
            raise ConfigError("Invalid settings: " + "; ".join(problems))
        return cls(storage=storage, in_azure=in_azure, **values)


def _read(row: Setting, environ: Mapping[str, str], problems: list[str]) -> Any:
    text = environ.get(row.name, "").strip()
    if text.startswith(_UNRESOLVED):
        problems.append(f"{row.name}: its Key Vault reference does not resolve; check the secret and the app's role")
        return None
    if not text and row.required:
        problems.append(f"{row.name}: missing. {row.description}")
        return None
    text = text or row.default or ""
    if not text and row.parse in (str, setting_values.url):
        return ""
    try:
        return row.parse(text)
    except ValueError as error:
        problems.append(f"{row.name}: {error}")
        return None


def _storage(environ: Mapping[str, str], problems: list[str]) -> StorageAccount:
    whole = Setting(name=DATA_STORAGE, parse=setting_values.connection_string, default="", description="")
    if environ.get(DATA_STORAGE, "").strip():
        return StorageAccount(connection_string=_read(whole, environ, problems))
    names = {service: f"{DATA_STORAGE}__{service}ServiceUri" for service in ("blob", "queue", "table")}
    missing = [name for name in names.values() if not environ.get(name, "").strip()]
    if missing:
        wanted = DATA_STORAGE if len(missing) == len(names) else ", ".join(missing)
        problems.append(f"{wanted}: missing. A connection string, or the three endpoints {DATA_STORAGE}__…ServiceUri")
    rows = {service: replace(whole, name=name, parse=setting_values.endpoint) for service, name in names.items()}
    usable = {service: row for service, row in rows.items() if row.name not in missing}
    endpoints = {service: _read(row, environ, problems) for service, row in usable.items()}
    client_id = environ.get(f"{DATA_STORAGE}__clientId", "").strip() or None
    return StorageAccount(**endpoints, client_id=client_id)


@once
def settings() -> Settings:
    """This process's settings, read on first use."""
    return Settings.from_env(os.environ)
