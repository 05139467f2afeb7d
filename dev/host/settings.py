"""The host's settings: local.settings.json, host.json and the environment."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from dev.host.errors import HostError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_OVERRIDE = "azurefunctionsjobhost__"
_TIME_SPAN = re.compile(r"(?:(?P<days>\d+)\.)?(?P<hours>\d+):(?P<minutes>\d+)(?::(?P<seconds>\d+(?:\.\d+)?))?\Z")
_INDIRECT = re.compile(r"%([^%]+)%")


@dataclass(frozen=True, kw_only=True, slots=True)
class LocalSettings:
    """The part of local.settings.json that speaks to the host itself."""

    port: int | None = None
    address: str | None = None
    cors: tuple[str, ...] = ()
    cors_credentials: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class QueueOptions:
    """`extensions.queues` of host.json, with the real host's defaults."""

    batch_size: int
    new_batch_threshold: int
    max_dequeue_count: int
    visibility_timeout: timedelta
    max_polling_interval: timedelta
    base64: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class HostConfig:
    """host.json with the overrides of the environment applied."""

    route_prefix: str
    custom_headers: Mapping[str, str] = field(default_factory=dict)
    queues: QueueOptions


def load_local_settings(path: Path) -> LocalSettings:
    """Put the file's `Values` into the environment where a name is not set there yet; no file is an empty one."""
    document = _read(path)
    if document.get("IsEncrypted"):
        raise HostError(f"{path.name} is encrypted; decrypt it with `func settings decrypt`")
    for name, value in document.get("Values", {}).items():
        if not isinstance(value, str):
            raise HostError(f"{path.name}: the value of {name} is not a string")
        os.environ.setdefault(name, value)
    host = document.get("Host", {})
    return LocalSettings(
        port=host.get("LocalHttpPort"),
        address=host.get("LocalHttpAddress"),
        cors=tuple(origin.strip() for origin in host.get("CORS", "").split(",") if origin.strip()),
        cors_credentials=bool(host.get("CORSCredentials")),
    )


def load_host_config(path: Path) -> HostConfig:
    """Read host.json; `AzureFunctionsJobHost__a__b` in the environment overrides `a.b`, in any letter case."""
    config = _lower_keys(_read(path))
    for name, value in os.environ.items():
        if name.lower().startswith(_OVERRIDE):
            _override(config, name.lower().removeprefix(_OVERRIDE).split("__"), value)
    extensions = config.get("extensions") or {}
    http = extensions.get("http") or {}
    return HostConfig(
        route_prefix=str(http.get("routeprefix", "api")).strip("/"),
        custom_headers={name: str(value) for name, value in (http.get("customheaders") or {}).items()},
        queues=_queue_options(extensions.get("queues") or {}),
    )


def resolve(text: str) -> str:
    """Replace each `%NAME%` by the setting of that name; HostError when there is none."""

    def setting(match: re.Match[str]) -> str:
        value = os.environ.get(match[1])
        if not value:
            raise HostError(f"the setting {match[1]} is missing")
        return value

    return _INDIRECT.sub(setting, text)


def disabled(function: str) -> bool:
    """Whether an app setting `AzureWebJobs.<Name>.Disabled` (or with `__`) turns the function off."""
    names = {f"azurewebjobs.{function}.disabled".lower(), f"azurewebjobs__{function}__disabled".lower()}
    return any(value.lower() in ("true", "1") for name, value in os.environ.items() if name.lower() in names)


def time_span(text: str) -> timedelta:
    """Parse a .NET TimeSpan: `hh:mm[:ss[.fff]]`, with days as `d.` in front; a bare number is days."""
    if text.isdecimal():
        return timedelta(days=int(text))
    match = _TIME_SPAN.match(text)
    if not match:
        raise ValueError(text)
    parts = {name: float(value) for name, value in match.groupdict().items() if value}
    return timedelta(**parts)


def _queue_options(queues: Mapping[str, Any]) -> QueueOptions:
    try:
        batch_size = int(queues.get("batchsize", 16))
        options = QueueOptions(
            batch_size=batch_size,
            new_batch_threshold=int(queues.get("newbatchthreshold", batch_size // 2 * (os.cpu_count() or 1))),
            max_dequeue_count=int(queues.get("maxdequeuecount", 5)),
            visibility_timeout=time_span(str(queues.get("visibilitytimeout", "00:00:00"))),
            max_polling_interval=time_span(str(queues.get("maxpollinginterval", "00:01:00"))),
            base64=str(queues.get("messageencoding", "base64")).lower() != "none",
        )
    except ValueError as error:
        raise HostError(f"host.json: extensions.queues has a value that does not fit: {error}") from error
    if not 1 <= options.batch_size <= 32 or options.new_batch_threshold < 0 or options.max_dequeue_count < 1:
        raise HostError(
            "host.json: extensions.queues needs batchSize 1 to 32, newBatchThreshold from 0, maxDequeueCount from 1"
        )
    return options


def _read(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise HostError(f"{path.name} is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise HostError(f"{path.name} is not a JSON object")
    return document


def _lower_keys(value: Any) -> Any:
    if isinstance(value, dict):
        # Header names keep their case: they are data, not names of options.
        return {
            key.lower(): item if key.lower() == "customheaders" else _lower_keys(item) for key, item in value.items()
        }
    return value


def _override(config: dict[str, Any], path: list[str], value: str) -> None:
    for name in path[:-1]:
        inner = config.get(name)
        config = config.setdefault(name, {}) if isinstance(inner, dict | None) else {}
    config[path[-1]] = value
