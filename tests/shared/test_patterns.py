"""Every regular expression of the app takes linear time on any text."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections.abc import Callable, Iterator

import pytest

import shared
from tests.growth import LINEAR, growth

# Repeated beginnings of matches, without an end.
PARTS = (
    *'a0 /?&=.-_:;,<[({"+\t',
    "a.",
    "a-",
    "/?",
    "1 ",
    "a=",
    "token",
    "0.",
    "A",
    "aB",
    "text/",
    "+json",
    "no ",
    "error: ",
    "not ",
)
BEGINS = ("", "https://a/?", "application/", "2018-04-25T")


def found() -> Iterator[tuple[str, Callable[[str], object]]]:
    """Each expression that a module of shared keeps, as it is used there."""
    for module in pkgutil.walk_packages(shared.__path__, "shared."):
        loaded = importlib.import_module(module.name)
        source = inspect.getsource(loaded)
        for name, value in vars(loaded).items():
            if (
                not isinstance(value, re.Pattern)
                or isinstance(value.pattern, bytes)
                or not re.search(rf"^{name}\b.*=", source, re.MULTILINE)
            ):
                continue
            yield f"{module.name}.{name}", value.match
            yield f"{module.name}.{name} in full", value.fullmatch
            if re.search(rf"\b{name}\.(?:search|sub|split|findall|finditer)\(", source):
                yield f"{module.name}.{name} anywhere", lambda text, value=value: value.sub("", text)  # type: ignore[misc]


FOUND = dict(found())


def test_the_expressions_are_found() -> None:
    assert len(FOUND) > 60


@pytest.mark.slow
@pytest.mark.parametrize("name", FOUND)
def test_time_grows_as_the_text_does(name: str) -> None:
    use = FOUND[name]
    for part in PARTS:
        for begin in BEGINS:
            grown = growth(lambda size, begin=begin, part=part: use(begin + part * (size // len(part)) + "\x00"))  # type: ignore[misc]
            assert grown < LINEAR, (begin, part)
