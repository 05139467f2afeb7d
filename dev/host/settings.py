"""The host's settings: local.settings.json, host.json, the environment, and the folder of keys."""

from __future__ import annotations

import hmac
import json
import os
import re
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

SECRETS_SETTING = "HOST_SECRETS"
STORAGE = "AzureWebJobsStorage"
_OVERRIDE = "azurefunctionsjobhost__"
_TIME_SPAN = re.compile(r"(?:(?P<days>\d+)\.)?(?P<hours>\d+):(?P<minutes>\d+)(?::(?P<seconds>\d+(?:\.\d+)?))?\Z")
_INDIRECT = re.compile(r"%([^%]+)%")


class HostError(Exception):
    """Something the person at the keyboard has to put right; the text is the one line they read."""


@dataclass(frozen=True, kw_only=True, slots=True)
class QueueOptions:
    """`extensions.queues` of host.json, with the real host's defaults."""

    batch_size: int
    new_batch_threshold: int
    max_dequeue_count: int
    visibility_timeout: timedelta
    max_polling_interval: timedelta


@dataclass(frozen=True, kw_only=True, slots=True)
class HostConfig:
    """host.json with the overrides of the environment applied."""

    route_prefix: str
    functions: tuple[str, ...]
    queues: QueueOptions


@dataclass(frozen=True, kw_only=True, slots=True)
class Keys:
    """The master key, the host keys, and each function's own keys by its name in lower case."""

    master: str = ""
    host: tuple[str, ...] = ()
    functions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def is_master(self, given: str | None) -> bool:
        """True if it is the master key."""
        return _any_equal(given, (self.master,))

    def is_host(self, given: str | None) -> bool:
        """True if it is one of the host keys."""
        return _any_equal(given, self.host)

    def opens(self, function: str, level: str, given: str | None) -> bool:
        """True if the key of a request opens a function of that auth level."""
        if level == "ANONYMOUS" or self.is_master(given):
            return True
        return level == "FUNCTION" and _any_equal(given, (*self.host, *self.functions.get(function.lower(), ())))


def load_keys(folder: Path) -> Keys:
    """Read a secrets folder in the real host's format: host.json, and a file a function."""
    try:
        documents = {path.stem.lower(): json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("*.json")}
        host = documents.pop("host")
        return Keys(
            master=host["masterKey"]["value"],
            host=_values(host["functionKeys"]),
            functions={name: _values(document["keys"]) for name, document in documents.items()},
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise HostError(f"the keys in {folder} cannot be read: {type(error).__name__}") from error


def load_local_settings(path: Path) -> None:
    """Put the file's `Values` into the environment where a name is not set there yet."""
    document = _read(path) or {}
    if document.get("IsEncrypted"):
        raise HostError(f"{path.name} is encrypted; decrypt it with `func settings decrypt`")
    for name, value in document.get("Values", {}).items():
        if not isinstance(value, str):
            raise HostError(f"{path.name}: the value of {name} is not a string")
        os.environ.setdefault(name, value)


def load_host_config(path: Path) -> HostConfig:
    """Read host.json; `AzureFunctionsJobHost__a__b` in the environment overrides `a.b`, in any letter case."""
    document = _read(path)
    config = _lower_keys(document or {})
    if document is not None and config.get("version") != "2.0":
        raise HostError('host.json needs "version": "2.0"')
    for name, value in os.environ.items():
        if name.lower().startswith(_OVERRIDE):
            _override(config, name.lower().removeprefix(_OVERRIDE).split("__"), value)
    extensions, functions = config.get("extensions") or {}, config.get("functions") or ()
    return HostConfig(
        route_prefix=str((extensions.get("http") or {}).get("routeprefix", "api")).strip("/"),
        functions=tuple(functions.values() if isinstance(functions, dict) else functions),
        queues=_queue_options(extensions.get("queues") or {}),
    )


def resolve(text: str) -> str:
    """Replace each `%NAME%` by the setting of that name; HostError where it is missing."""

    def setting(match: re.Match[str]) -> str:
        value = os.environ.get(match[1])
        if not value:
            raise HostError(f"the setting {match[1]} is missing")
        return value

    return _INDIRECT.sub(setting, text)


def connection_string(connection: str) -> str:
    """Return the setting that a trigger's `connection` names; AzureWebJobsStorage without a name."""
    names = (f"AzureWebJobs{connection}", connection) if connection else (STORAGE,)
    for name in names:
        if text := os.environ.get(name):
            return text
    raise HostError(f"the setting {names[-1]} is missing")


def disabled(function: str) -> bool:
    """True if `AzureWebJobs.<Name>.Disabled` or `AzureWebJobs_<Name>_Disabled` turns the function off."""
    names = {f"azurewebjobs{dot}{function}{dot}disabled".lower() for dot in "._"}
    return any(value.lower() in ("true", "1") for name, value in os.environ.items() if name.lower() in names)


def time_span(text: str) -> timedelta:
    """Parse a .NET TimeSpan: `hh:mm[:ss[.fff]]`, with days as `d.` in front; a bare number is days."""
    if text.isdecimal():
        return timedelta(days=int(text))
    match = _TIME_SPAN.match(text)
    if not match:
        raise ValueError(text)
    return timedelta(**{name: float(value) for name, value in match.groupdict().items() if value})


def _queue_options(queues: Mapping[str, Any]) -> QueueOptions:
    try:
        batch_size = int(queues.get("batchsize", 16))
        options = QueueOptions(
            batch_size=batch_size,
            new_batch_threshold=int(queues.get("newbatchthreshold", batch_size // 2 * (os.cpu_count() or 1))),
            max_dequeue_count=int(queues.get("maxdequeuecount", 5)),
            visibility_timeout=time_span(str(queues.get("visibilitytimeout", "00:00:00"))),
            max_polling_interval=time_span(str(queues.get("maxpollinginterval", "00:01:00"))),
        )
    except ValueError as error:
        raise HostError(f"host.json: extensions.queues has a value that does not fit: {error}") from error
    if not 1 <= options.batch_size <= 32 or options.new_batch_threshold < 0 or options.max_dequeue_count < 1:
        raise HostError(
            "host.json: extensions.queues needs batchSize 1 to 32, newBatchThreshold from 0, maxDequeueCount from 1"
        )
    return options


def _read(path: Path) -> dict[str, Any] | None:
    try:
        document = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise HostError(f"{path.name} is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise HostError(f"{path.name} is not a JSON object")
    return document


def _lower_keys(value: Any) -> Any:
    return {key.lower(): _lower_keys(item) for key, item in value.items()} if isinstance(value, dict) else value


def _override(config: dict[str, Any], path: list[str], value: str) -> None:
    for name in path[:-1]:
        if not isinstance(config.get(name), dict):
            config[name] = {}
        config = config[name]
    config[path[-1]] = value


def _values(keys: Iterable[Mapping[str, str]]) -> tuple[str, ...]:
    return tuple(key["value"] for key in keys)


def _any_equal(given: str | None, keys: Iterable[str]) -> bool:
    return any(hmac.compare_digest((given or "").encode(), key.encode()) for key in keys if key)
