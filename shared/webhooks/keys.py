"""The key that the PBX sends with its webhooks: the one that receivers ask for beyond the host's own."""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING

from shared.errors import Unauthorized

if TYPE_CHECKING:
    from collections.abc import Iterable

    from shared.settings import Settings


def check_key(settings: Settings, sent: Iterable[str]) -> None:
    """
    Raise Unauthorized unless one of the keys that were sent is PBX_WEBHOOK_KEY, or PBX_WEBHOOK_KEY_PREVIOUS.

    The host opens the receivers to every host key; those belong to flows and other programs, which may not say what
    happened at the PBX. While the key is being rotated the PBX sends either, and does not send again what was refused.
    Where neither is set anybody may: on a laptop only, in Azure the settings are invalid then. It takes the same time
    for every key that is wrong.
    """
    wanted = [key.encode() for key in (settings.pbx_webhook_key, settings.pbx_webhook_key_previous) if key]
    right = [hmac.compare_digest(key, one.encode(errors="replace")) for one in sent for key in wanted]
    if wanted and not any(right):
        raise Unauthorized("no key of the PBX's")
