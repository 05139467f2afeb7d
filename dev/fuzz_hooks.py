"""What schemathesis has to know of the Functions host: it loads this module into its own process."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import schemathesis


@schemathesis.hook
def after_call(_: Any, case: Any, response: Any) -> None:
    """The host's own refusal of a key has neither body nor type, and no definition can except a status from those."""
    if response.status_code == HTTPStatus.UNAUTHORIZED and not response.content:
        response.headers.setdefault("content-type", ["application/json"])
