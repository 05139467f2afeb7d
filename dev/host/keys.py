"""Function keys: which key opens which function, as in Azure."""

from __future__ import annotations

import hmac
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dev.host.answers import Answer
from dev.host.errors import HostError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

ANONYMOUS, FUNCTION = "ANONYMOUS", "FUNCTION"
_NO_KEY = Answer(status=401, headers=((b"www-authenticate", b"Bearer"),))
_WRONG_LEVEL = Answer(status=403)


@dataclass(frozen=True, kw_only=True, slots=True)
class Keys:
    """The master key, the host keys and each function's own keys (function names in lower case)."""

    master: str = ""
    host: tuple[str, ...] = ()
    functions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def opens(self, function: str, level: str, given: str | None) -> bool:
        """Whether the key that came with a request opens a function of that auth level."""
        if level == ANONYMOUS:
            return True
        if level == FUNCTION:
            return _any_equal(given, (self.master, *self.host, *self.functions.get(function.lower(), ())))
        return self.is_master(given)

    def is_master(self, given: str | None) -> bool:
        """Whether the key is the master key."""
        return _any_equal(given, (self.master,))

    def refused_admin(self, given: str | None) -> Answer | None:
        """The answer to a request below /admin with that key, or None where it may pass."""
        if self.is_master(given):
            return None
        return _WRONG_LEVEL if _any_equal(given, self.host) else _NO_KEY


def load_keys(path: Path) -> Keys:
    """Read `{"master": "…", "host": {"default": "…"}, "functions": {"Name": {"default": "…"}}}`."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        return Keys(
            master=document.get("master", ""),
            host=tuple(document.get("host", {}).values()),
            functions={name.lower(): tuple(keys.values()) for name, keys in document.get("functions", {}).items()},
        )
    except (OSError, ValueError, AttributeError) as error:
        raise HostError(f"the keys file {path} cannot be read: {type(error).__name__}") from error


def _any_equal(given: str | None, keys: Iterable[str]) -> bool:
    if not given:
        return False
    # Every key is compared, so that the time taken says nothing.
    equal = [hmac.compare_digest(given.encode(), key.encode()) for key in keys if key]
    return any(equal)
