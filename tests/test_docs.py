"""The paths and names in the documentation for maintainers exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = ("docs/architecture.md", "CONTRIBUTING.md", "README.md")
_SPANS = re.compile(r"`([^`\n]+)`")
_PATH = re.compile(r"(?:shared|functions|dev|infra|tests|docs)/[\w./-]*")
_LINK = re.compile(r"\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)")


@pytest.mark.parametrize("page", PAGES)
def test_every_path_in_a_page_exists(page: str) -> None:
    text = (ROOT / page).read_text()
    paths = [path for span in _SPANS.findall(text) if (path := span.split()[-1]) and _PATH.fullmatch(path)]
    links = [(ROOT / page).parent / link for link in _LINK.findall(text)]
    missing = [path for path in (*(ROOT / path for path in paths), *links) if not path.exists()]
    assert paths
    assert not missing


def test_every_room_has_a_line_in_the_architecture() -> None:
    text = (ROOT / "docs/architecture.md").read_text()
    rooms = [path.parent.relative_to(ROOT) for path in (ROOT / "shared").glob("*/__init__.py")]
    assert rooms
    assert [str(room) for room in rooms if f"`{room}`" not in text] == []


@pytest.mark.parametrize("page", PAGES)
def test_every_make_target_in_a_page_exists(page: str) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"`make ([a-z-]+)", (ROOT / page).read_text())) <= targets


def test_every_decision_has_a_number_of_its_own() -> None:
    numbers = [path.name[:4] for path in sorted((ROOT / "docs" / "decisions").glob("*.md"))]
    assert numbers == [f"{number:04d}" for number in range(1, len(numbers) + 1)]
