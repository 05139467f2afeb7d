"""Teach schemathesis, which loads this module into its own process, how the Functions host refuses a key."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import schemathesis


@schemathesis.hook
def after_call(_: Any, case: Any, response: Any) -> None:
    """Give a refusal of the host's own a type: it has neither body nor type, and no definition can except a status."""
    if response.status_code == HTTPStatus.UNAUTHORIZED and not response.content:
        response.headers.setdefault("content-type", ["application/json"])
