"""What the documentation names exists: paths, links, make targets, routes, and names in the code."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

from dev.host.routes import first_match
from tests.indexed import functions, hosted

ROOT = Path(__file__).parents[1]
PAGES = sorted(path.relative_to(ROOT).as_posix() for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")))
METHODS = ("GET", "POST", "DELETE")
TEXTS = ("", ".bicep", ".bicepparam", ".example", ".in", ".json", ".kql", ".py", ".sh", ".toml", ".ts", ".yml")
# Of flows, GitHub and Azure.
FOREIGN = {"pbxKey", "sub_claim_prefix", "whatIf"}
_SPANS = re.compile(r"`([^`\n]+)`")
_FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_PATH = re.compile(r"(?:shared|functions|dev|infra|tests|docs|connector)/[\w./-]*")
_LINK = re.compile(r"\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)")
_ROUTE = re.compile(rf"(?:({'|'.join(METHODS)}) )?(/api/[\w{{}}/.-]*)")
# No plain word: with a capital or an underscore inside.
_NAME = re.compile(r"(?<![\w-])(?=\w*[a-z0-9][A-Z_]|[A-Z]+_)[A-Za-z]\w*(?![\w-])")
_PLACEHOLDER = re.compile(r"\{[\w-]+\}")
every_page = pytest.mark.parametrize("page", PAGES)


def spans(page: str) -> list[str]:
    """What stands between backticks in a page's prose and tables."""
    return _SPANS.findall(_FENCED.sub("", (ROOT / page).read_text()))


@cache
def words_of_the_code() -> frozenset[str]:
    rooms = ("shared", "functions", "dev", "infra", "connector", ".github", "tests")
    files = [path for room in rooms for path in (ROOT / room).rglob("*") if path.is_file()]
    files += [path for path in ROOT.iterdir() if path.is_file()]
    texts = (path.read_text() for path in files if path.suffix in TEXTS and path != Path(__file__))
    return frozenset(word for text in texts for word in re.findall(r"\w+", text))


@every_page
def test_every_path_in_a_page_exists(page: str) -> None:
    paths = [path for span in spans(page) if _PATH.fullmatch(path := span.split()[-1])]
    links = [(ROOT / page).parent / link for link in _LINK.findall((ROOT / page).read_text())]
    assert [str(path) for path in (*(ROOT / path for path in paths), *links) if not path.exists()] == []


@every_page
def test_every_make_target_in_a_page_exists(page: str) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"`make ([a-z-]+)", (ROOT / page).read_text())) <= targets


@every_page
def test_every_route_in_a_page_is_served(page: str) -> None:
    begins = {f"/api/{one.route}" for one in functions() if one.route}
    for span in spans(page):
        if not (found := _ROUTE.match(span)):
            continue
        method, path = found.groups()
        asked = _PLACEHOLDER.sub("0", path.replace("{Event}", "CallStarted"))
        served = any(first_match(hosted(), one, asked) for one in ([method] if method else METHODS))
        # What no method stands before may be where several routes begin.
        assert served or (not method and any(route.startswith(f"{path.rstrip('/')}/") for route in begins)), span


@every_page
def test_every_name_in_a_page_stands_in_the_code(page: str) -> None:
    names = {name for span in spans(page) if not _PATH.match(span) for name in _NAME.findall(span)}
    assert names - words_of_the_code() - FOREIGN == set()


def test_pages_are_looked_at() -> None:
    assert {"README.md", "CONTRIBUTING.md", "docs/architecture.md", "docs/deploy.md"} <= set(PAGES)
    assert sum(len(spans(page)) for page in PAGES) > 300
    assert {name for page in PAGES for span in spans(page) for name in _NAME.findall(span)} >= FOREIGN


def test_every_room_has_a_line_in_the_architecture() -> None:
    text = (ROOT / "docs/architecture.md").read_text()
    rooms = [path.parent.relative_to(ROOT) for path in (ROOT / "shared").glob("*/__init__.py")]
    assert rooms
    assert [str(room) for room in rooms if f"`{room}`" not in text] == []


def test_every_decision_has_a_number_of_its_own() -> None:
    numbers = [path.name[:4] for path in sorted((ROOT / "docs" / "decisions").glob("*.md"))]
    assert numbers == [f"{number:04d}" for number in range(1, len(numbers) + 1)]
