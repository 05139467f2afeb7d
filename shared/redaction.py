"""Hides people and secrets in text that others wrote, before it reaches a log or an answer."""

from __future__ import annotations

import re

HIDDEN = "…"

# Anything that is sent ends here, so no rule may look at a run of text from each of its characters: where a name of any
# length is read, it begins where no such name can go on from before.
_RULES: tuple[tuple[re.Pattern[str], str], ...] = (
    # An address keeps its host: path and query hold keys.
    (re.compile(r"(?i)\b([a-z][a-z0-9+.-]{1,15}://)(?:[^\s/@]*@)?([^\s/?#\"'<>]*)[^\s\"'<>]*"), rf"\1\2/{HIDDEN}"),
    (re.compile(r"(?i)\b(bearer|basic)\s+[^\s\"',;<>]+"), rf"\1 {HIDDEN}"),
    (
        re.compile(
            r"(?i)(?<![\w-])([\w-]*(?:key|token)|(?:[\w-]*-)?(?:code|secret|password|sig))(\"?\s*[=:]\s*)[^\s&,;]+"
        ),
        rf"\1\2{HIDDEN}",
    ),
    # Phone numbers however they are spelled; ids look the same and go too.
    (re.compile(r"\+?\(?\d(?:[\s().\u00a0-]{0,2}\d){4,}"), HIDDEN),
)


def redact(text: str) -> str:
    """
    Return the text with secrets and numbers hidden, in time that grows as the text does.

    Masked are digit runs of five and more (also with a plus, spaces, dots, dashes or brackets inside), paths and
    queries of URLs, credentials after `Bearer`, and values after `code=`, `key=`, `token=` and the like.
    """
    for pattern, replacement in _RULES:
        text = pattern.sub(replacement, text)
    return text
