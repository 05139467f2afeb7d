"""Receivers open to the PBX's own key, the current or the previous one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from functions.webhooks import check_key
from shared.errors import Refused
from shared.settings import Settings


@pytest.mark.parametrize(
    ("current", "previous", "sent", "opens"),
    [
        *(("new", "old", ("new",), True), ("new", "old", ("old",), True), ("new", "old", ("other", "new"), True)),
        *(("", "old", ("old",), True), ("", "", (), True), ("", "", ("any",), True)),
        *(("new", "old", (), False), ("new", "old", ("newold",), False), ("new", "", ("",), False)),
        *(("", "old", ("",), False), ("new", "old", ("NEW", "nēw", "\udc80"), False)),
    ],
)
def test_either_key_opens_and_nothing_else(
    current: str, previous: str, sent: tuple[str, ...], opens: bool, settings: Settings
) -> None:
    settings = replace(settings, pbx_webhook_key=current, pbx_webhook_key_previous=previous)
    if opens:
        check_key(settings, sent)
    else:
        with pytest.raises(Refused, match="key"):
            check_key(settings, sent)
