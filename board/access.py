"""Sign-in with a key or by the platform, limits on wrong keys, and addresses that sign in once."""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from itsdangerous import BadSignature, URLSafeTimedSerializer

from shared.bridge import Bridge
from shared.errors import WRONG_KEY, Answer, Refused
from shared.http import is_loopback
from shared.settings import Settings
from shared.storage import rows
from shared.storage.account import Storage
from shared.times import now

TABLE = "board"
# Wrong keys in a window, over all instances, after which every key is refused.
MOST_WRONG = 10
WINDOW_SECONDS = 60
ONCE_SECONDS = 24 * 3600
TOO_MANY_TRIES = Answer(429, "Ten wrong keys arrived within a minute", "Wait a minute")


def signing_key(settings: Settings) -> bytes:
    """Return the key that signs cookies and addresses. A new BOARD_KEY makes all of them invalid."""
    source = settings.board_key or settings.board_admin_key or settings.pbx_webhook_key
    return hmac.digest(source.encode(), f"board {settings.board_sign_in}".encode(), hashlib.sha256) if source else b""


def is_right(storage: Storage, kind: str, typed: str, key: str) -> bool:
    """
    True if the typed text is the key; `kind` is board or admin, each with its own count.

    The attempt is counted before the comparison, so that parallel requests stay within the limit. Raises Refused with
    TOO_MANY_TRIES beyond it.
    """
    moment = now().timestamp()

    def count(row: Mapping[str, Any] | None) -> Mapping[str, Any]:
        tries = [tried for tried in json.loads(row["tries"]) if tried > moment - WINDOW_SECONDS] if row else []
        if len(tries) >= MOST_WRONG:
            raise Refused(TOO_MANY_TRIES, retry_after=max(1, int(tries[0] + WINDOW_SECONDS - moment) + 1))
        return {"tries": json.dumps([*tries, moment])}

    rows.change(storage.table(TABLE), "tries", kind, count)
    right = bool(key) and hmac.compare_digest(typed.strip().encode(), key.encode())
    if right:
        rows.change(storage.table(TABLE), "tries", kind, lambda row: {"tries": "[]"})
    return right


def once_token(settings: Settings) -> str:
    """Return the token of an address, `/api/board/enter/{token}`, that signs in once within a day."""
    return str(_serializer(settings).dumps(secrets.token_hex(16)))


def enter(storage: Storage, settings: Settings, token: str) -> bool:
    """Use up the token of an address; False if it is forged, expired or already used."""
    try:
        id = _serializer(settings).loads(token, max_age=ONCE_SECONDS)
    except BadSignature:
        return False
    moment = now().timestamp()

    def use(row: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
        used = json.loads(row["used"]) if row else {}
        fresh = {other: at for other, at in used.items() if at > moment - ONCE_SECONDS}
        return None if id in fresh else {"used": json.dumps({**fresh, id: moment})}

    return rows.change(storage.table(TABLE), "once", "once", use) is not None


def _serializer(settings: Settings) -> URLSafeTimedSerializer:
    return URLSafeTimedSerializer(signing_key(settings) or secrets.token_bytes(32), salt="once")


def needs_https(host: str) -> bool:
    """True unless the host is this machine."""
    return not is_loopback(urlsplit(f"//{host}").hostname)


def check_admin(bridge: Bridge, typed: str) -> None:
    """Raise Refused unless the typed text is BOARD_ADMIN_KEY and fewer than ten wrong ones came within a minute."""
    if not is_right(bridge.storage, "admin", typed, bridge.settings.board_admin_key):
        raise Refused(WRONG_KEY)
