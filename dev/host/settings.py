"""The host's settings: host.json, the environment, and the folder of keys."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

_OVERRIDE = "azurefunctionsjobhost__"
_INDIRECT = re.compile(r"%([^%]+)%")
_DOCUMENT = TypeAdapter(dict[str, Any])


class HostError(Exception):
    """The host cannot run as it is set up; the text is the one line that it prints."""


class QueueOptions(BaseModel):
    """`extensions.queues` of host.json, with the real host's defaults."""

    model_config = ConfigDict(alias_generator=lambda name: name.replace("_", ""))

    batch_size: int = Field(16, ge=1, le=32)
    new_batch_threshold: int = Field(8 * (os.cpu_count() or 1), ge=0)
    max_dequeue_count: int = Field(5, ge=1)
    visibility_timeout: timedelta = timedelta()
    max_polling_interval: timedelta = timedelta(minutes=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class HostConfig:
    """host.json with the overrides of the environment applied; without `functions` all are loaded."""

    route_prefix: str
    functions: tuple[str, ...]
    queues: QueueOptions


@dataclass(frozen=True, kw_only=True, slots=True)
class Keys:
    """The master key, the host keys, and each function's own keys by its name in lower case."""

    master: str
    host: Collection[str]
    functions: Mapping[str, Collection[str]]

    def level(self, key: str | None, function: str = "") -> str:
        """Return the level of a key: master, host, function, or an empty text for an unknown key."""
        held = {"master": (self.master,), "host": self.host, "function": self.functions.get(function.lower(), ())}
        return next((level for level, keys in held.items() if key and key in keys), "")


def load_keys(folder: Path) -> Keys:
    """Read a secrets folder in the real host's format: host.json, and one file for each function."""

    def values(keys: Iterable[Mapping[str, str]]) -> tuple[str, ...]:
        return tuple(key["value"] for key in keys)

    try:
        documents = {path.stem.lower(): json.loads(path.read_text()) for path in folder.glob("*.json")}
        host = documents.pop("host")
        functions = {name: values(document["keys"]) for name, document in documents.items()}
        return Keys(master=host["masterKey"]["value"], host=values(host["functionKeys"]), functions=functions)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise HostError(f"the keys in {folder} cannot be read: {type(error).__name__}") from error


def load_host_config(path: Path) -> HostConfig:
    """Read host.json; `AzureFunctionsJobHost__a__b` in the environment overrides `a.b`, in any letter case."""
    config: dict[str, Any] = {"version": "2.0"}
    try:
        if path.exists():
            config = _lower_keys(_DOCUMENT.validate_json(path.read_bytes()))
        for name, value in os.environ.items():
            if name.lower().startswith(_OVERRIDE):
                *parents, last = name.lower().removeprefix(_OVERRIDE).split("__")
                place = config
                for parent in parents:
                    place = place.setdefault(parent, {})
                place[last] = value
        extensions, functions = config.get("extensions", {}), config.get("functions", ())
        queues = QueueOptions.model_validate(extensions.get("queues", {}))
    except ValidationError as error:
        wrong = "; ".join(": ".join(map(str, (*detail["loc"], detail["msg"]))) for detail in error.errors())
        raise HostError(f"host.json cannot be read: {wrong}") from error
    if config.get("version") != "2.0":
        raise HostError('host.json needs "version": "2.0"')
    return HostConfig(
        route_prefix=str(extensions.get("http", {}).get("routeprefix", "api")).strip("/"),
        functions=tuple(functions.values() if isinstance(functions, dict) else functions),
        queues=queues,
    )


def resolve(text: str) -> str:
    """Replace each `%NAME%` by the setting of that name; HostError if it is missing."""
    return _INDIRECT.sub(lambda found: setting(found[1]), text)


def setting(name: str) -> str:
    """Return a setting; HostError if it is missing."""
    value = os.environ.get(name)
    if not value:
        raise HostError(f"the setting {name} is missing")
    return value


def disabled(function: str) -> bool:
    """True if `AzureWebJobs.<Name>.Disabled` or `AzureWebJobs_<Name>_Disabled` turns the function off."""
    names = {f"azurewebjobs{dot}{function}{dot}disabled".lower() for dot in "._"}
    return any(value.lower() in ("true", "1") for name, value in os.environ.items() if name.lower() in names)


def _lower_keys(value: Any) -> Any:
    return {key.lower(): _lower_keys(item) for key, item in value.items()} if isinstance(value, dict) else value
