"""Every text of the page has a Latvian translation with the same placeholders."""

from __future__ import annotations

import pathlib
import re
from typing import Any

from babel.messages.extract import extract_from_dir
from babel.messages.pofile import read_po

from shared.api.status import SENTENCES

BOARD = pathlib.Path(__file__).parents[2] / "board"
_BLANK = re.compile(r"%\(\w+\)s|%%")


def texts() -> set[Any]:
    """Every text that the page marks for translation."""
    found = extract_from_dir(
        BOARD,
        method_map=[("**/templates/**.html", "jinja2"), ("**.py", "python")],
        options_map={"**/templates/**.html": {"newstyle_gettext": "true"}},
        keywords={"_": None, "gettext": None, "ngettext": (1, 2), "lazy_gettext": None},
    )
    return {message for _, _, message, _, _ in found} | set(SENTENCES.values())


def test_every_text_is_translated_and_every_translation_is_used() -> None:
    with (BOARD / "translations" / "lv.po").open("rb") as file:
        catalogue = read_po(file, locale="lv")
    known = {message.id: message.string for message in catalogue if message.id}
    assert known.keys() == texts()
    for text, translated in known.items():
        english = text if isinstance(text, str) else text[1]
        for one in [translated] if isinstance(translated, str) else translated:
            assert one and sorted(_BLANK.findall(one)) == sorted(_BLANK.findall(english)), text
