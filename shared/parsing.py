"""JSON from outside: whole characters and finite numbers only, so that it can be stored and sent on."""

from __future__ import annotations

import json
from typing import Any, NoReturn

from shared.errors import NotJson
from shared.messages import encode


def parse_body(body: bytes) -> Any:
    """
    The JSON of a request's or an answer's body, of which half characters are replaced.

    Raises NotJson for anything else: NaN, numbers beyond all bounds and bottomless nesting included.
    """
    try:
        value = json.loads(body, parse_constant=_no_constant)
        try:
            encode(value)
        except UnicodeEncodeError:
            text = _well_formed(json.dumps(value, ensure_ascii=False))
            value = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise NotJson("the body is not JSON") from error
    return value


def _well_formed(text: str) -> str:
    """The text without half of a pair of surrogates, which JSON can spell and UTF-8 cannot."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
