"""Paths, links, make targets, routes and names in the documentation exist, and its commands work as they stand."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from dev.host.http import first_match
from shared.settings import Settings
from shared.storage.account import Storage
from tests.hosts import start_host
from tests.indexed import functions, hosted
from tests.waiting import until

ROOT = Path(__file__).parents[1]
PAGES = sorted(path.relative_to(ROOT).as_posix() for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")))
METHODS = ("GET", "POST", "DELETE")
TEXTS = ("", ".bicep", ".bicepparam", ".example", ".in", ".json", ".kql", ".py", ".sh", ".toml", ".ts", ".yml")
# Names in flows, GitHub and Azure.
FOREIGN = {"pbxKey", "sub_claim_prefix", "whatIf"}
_SPANS = re.compile(r"`([^`\n]+)`")
_FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_PATH = re.compile(r"(?:shared|functions|dev|infra|tests|docs|connector)/[\w./-]*")
_LINK = re.compile(r"\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)")
_ROUTE = re.compile(rf"(?:({'|'.join(METHODS)}) )?(/api/[\w{{}}/.-]*)")
# A name has a capital or an underscore inside.
_NAME = re.compile(r"(?<![\w-])(?=\w*[a-z0-9][A-Z_]|[A-Z]+_)[A-Za-z]\w*(?![\w-])")
_PLACEHOLDER = re.compile(r"\{[\w-]+\}")
_SHELL = re.compile(r"^( *)```sh\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
BLOCKS = [
    (page, re.sub(rf"(?m)^{indent}", "", block))
    for page in PAGES
    for indent, block in _SHELL.findall((ROOT / page).read_text())
]
# A command begins a line, or is inside $( ); a continued line belongs to the line before.
_COMMAND = re.compile(r"(?:^|\$\(|&& |\| )\s*([a-z.][\w./-]*)(?=\s) ?((?:\\\n|[^\n])*)", re.MULTILINE)
COMMANDS = [(name, rest) for _, block in BLOCKS for name, rest in _COMMAND.findall(block)]
# They need an account, or change this machine: tests/infra/test_docs.py has stand-ins for them.
STUBBED = {"az", "gh", "paconn", "pip"}
OF_THE_SHELL = {"basename", "curl", "do", "done", "echo", "for", "read", "while"}
every_page = pytest.mark.parametrize("page", PAGES)


def spans(page: str) -> list[str]:
    """Return the text between backticks in a page's prose and tables."""
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
        # Without a method, a path may be the beginning of routes.
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


@pytest.mark.parametrize("block", [block for _, block in BLOCKS])
def test_every_block_of_shell_parses(block: str) -> None:
    subprocess.run(["bash", "-n"], input=block, text=True, check=True)


def test_every_command_is_run_by_a_test() -> None:
    # tests/infra/test_docs.py runs the scripts.
    ours = {name for name, _ in COMMANDS if name.startswith(("infra/", ".venv/"))}
    assert {name for name, _ in COMMANDS} - ours <= STUBBED | OF_THE_SHELL
    assert {name for name in ours if name.startswith("infra/")} >= {"infra/deploy.sh", "infra/exportMonth.sh"}


@pytest.mark.parametrize("command", sorted({f"{a} {b}" for a, b in COMMANDS if a.startswith(".venv/")}))
def test_a_module_runs_as_a_page_shows_it(command: str, tmp_path: Path) -> None:
    python, flag, module, *arguments = shlex.split(command)
    assert (python, flag) == (".venv/bin/python", "-m")
    harmless = {"pytest": [*arguments, "--collect-only"], "dev.connector": [*arguments, "--to", str(tmp_path)]}
    tried = harmless.get(module, ["--help"])
    shown = subprocess.run(
        [ROOT / python, flag, module, *tried], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    options = {argument for argument in arguments if argument.startswith("--")}
    assert module in harmless or options <= set(re.findall(r"--[a-z-]+", shown))


@pytest.fixture(scope="module")
def address(new_account: Callable[[], str]) -> Iterator[str]:
    """The address of a host as `make start` starts it."""
    environment = json.loads((ROOT / "local.settings.json.example").read_text())["Values"]
    environment |= {"DataStorage": new_account(), "PBX_API_KEY": "key", "PBX_BASE_URL": "http://127.0.0.1:9/api/v2/"}
    Storage(Settings.from_env(environment).storage).ready()
    with start_host(ROOT, env=environment, functions=("OnCallStarted", "ProcessEvent", "GetEvents")) as host:
        yield host.url


def test_the_readme_s_requests_bring_the_event_that_they_post(address: str) -> None:
    post, get = [f"curl {rest}" for name, rest in COMMANDS if name == "curl"]

    def asked(command: str) -> Any:
        line = command.replace("http://127.0.0.1:7071", address).replace("curl ", "curl -sSf ")
        return json.loads(subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=True).stdout)

    first, again = asked(post), asked(post)
    assert first == again
    until(lambda: asked(get)["data"])
    assert [event["id"] for event in asked(get)["data"]] == [first["id"]]
