"""A schemathesis hook, loaded in its own process, for the Functions host's answer to a wrong key."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import schemathesis


@schemathesis.hook
def after_call(_: Any, case: Any, response: Any) -> None:
    """Add a content type to the host's own 401, which has no body and no type; a definition cannot except a status."""
    if response.status_code == HTTPStatus.UNAUTHORIZED and not response.content:
        response.headers.setdefault("content-type", ["application/json"])
