"""The pages against the files that they describe, and their commands run as they stand, with stand-ins for Azure."""

from __future__ import annotations

import os
import re
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests import test_docs
from tests.infra.conftest import CRM_HEADER, PBX_KEY, STAND_IN
from tests.infra.docs import BLOCKS as TABLES
from tests.infra.docs import PAGE, rendered
from tests.infra.template import INFRA, answers, built, compiler

if TYPE_CHECKING:
    from tests.infra.conftest import Azure

# The curl lines of the README, and modules of Python, are run by the tests beside this folder.
_ELSEWHERE = re.compile(r"^(?:\.venv/|curl ).*\n", re.MULTILINE)
BLOCKS = [block for _, shown in test_docs.BLOCKS if (block := _ELSEWHERE.sub("", shown))]
SPANS = sorted(
    {span for page in test_docs.PAGES for span in test_docs.spans(page) if re.match(r"infra/\w+\.sh ", span)}
)
# Commands that need an account or change this machine: a stand-in accepts any call; `make infra-az` parses those of az.
_STUB = """#!/usr/bin/env bash
[[ $0 != */az ]] || printf '%s\\0' "$@" $'\\n' >>"$AZ_STATE/stubbed"
printf 'answer\\tversion\\n'
"""


def run_block(azure: Azure, block: str) -> subprocess.CompletedProcess[str]:
    """Run commands of a page; scripts print the calls that they would make."""
    tools = azure.project.parent / "stubs"
    tools.mkdir()
    for name in test_docs.STUBBED:
        (tools / name).write_text(_STUB)
        (tools / name).chmod(0o755)
    environment = {
        "PATH": f"{tools}:{STAND_IN}:{os.environ['PATH']}",
        "AZ_STATE": str(azure.state),
        "BICEP": compiler(),
        "BICEP_ANSWERS": str(answers.folder),
        "PBX_API_KEY": PBX_KEY,
        "CRM_AUTHORIZATION": CRM_HEADER,
    }
    dry = re.sub(r"(infra/\w+\.sh)", r"\1 --dry-run", block)
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", dry], cwd=azure.project, env=os.environ | environment,
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("block", [block for block in (*BLOCKS, *SPANS) if "companies/" not in block])
def test_the_commands_of_a_page_work_as_they_stand(azure: Azure, block: str) -> None:
    done = run_block(azure, block)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("The calls above would be made.") == block.count("infra/")


def test_one_run_goes_over_all_companies_and_one_that_fails_stops_no_other(azure: Azure) -> None:
    folder = azure.project / "companies"
    folder.mkdir()
    text = "using '../infra/main.bicep'\nparam alertEmail = 'ops@contoso.com'\n"
    for name, region in {"alfa": "LV", "beta": "UK", "gamma": "LT"}.items():
        (folder / f"{name}.bicepparam").write_text(f"{text}param defaultRegion = '{region}'\n")
    (recipe,) = [block for block in BLOCKS if "companies/" in block]
    done = run_block(azure, recipe)
    made = re.findall(r"az deployment group create --resource-group (\S+)", done.stdout)
    assert list(dict.fromkeys(made)) == ["pbx-alfa", "pbx-gamma"]
    assert "error: companies/beta.bicepparam: UK is no country code" in done.stderr
    assert done.stdout.endswith("Not deployed: beta\n")


def test_tables_are_made_from_the_templates() -> None:
    page = PAGE.read_text()
    assert rendered(page) == page, "run python -m tests.infra.docs"
    assert all(f"<!-- {name} -->" in page for name in TABLES)


_WRITTEN = (INFRA.parent / ".github" / "workflows" / "deploy.yml").read_text()
_ANCHORS = dict(re.findall(r"^      - &(\w+)\n((?:        .*\n)+)", _WRITTEN, re.MULTILINE))
# The YAML with its aliases replaced.
WORKFLOW = re.sub(r"^      - \*(\w+)\n", lambda alias: f"      -\n{_ANCHORS[alias[1]]}", _WRITTEN, flags=re.MULTILINE)
JOBS = dict(re.findall(r"^  ([\w-]+):\n((?:    .*\n|\n)+)", WORKFLOW.partition("\njobs:\n")[2], re.MULTILINE))


def test_the_page_names_what_the_github_workflow_needs() -> None:
    needed = set(re.findall(r"(?:vars|secrets)\.(\w+)", WORKFLOW))
    assert needed <= set(re.findall(r"`(\w+)`", PAGE.read_text()))


def test_a_pull_request_is_checked_without_a_sign_in_and_without_a_secret() -> None:
    assert set(JOBS) == {"check", "core-tools", "snapshot", "what-if", "deploy"}
    for name, job in JOBS.items():
        pushed = "github.event_name == 'push' && vars.AZURE_GROUP != ''" in job
        trusted = "id-token" in job or "azure/login" in job or "secrets." in job
        assert pushed == trusted, name
    assert "pull_request_target" not in WORKFLOW


def test_actions_are_pinned_by_commit() -> None:
    used = re.findall(r"uses: (.*)", WORKFLOW)
    assert used
    assert [use for use in used if not re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", use)] == []


def test_the_workflow_has_the_compiler_and_signs_in_again_before_secrets() -> None:
    assert [name for name, job in JOBS.items() if "az bicep install" not in job] == ["core-tools"]
    assert "skip" not in WORKFLOW.replace("--skip-infrastructure", "")
    assert "*" not in WORKFLOW
    halves = re.findall(r"azure/login@|--infrastructure-only|--skip-infrastructure", JOBS["deploy"])
    assert halves == ["azure/login@", "--infrastructure-only", "azure/login@", "--skip-infrastructure"]
    assert JOBS["deploy"].index("azure/login@") < JOBS["deploy"].index("secrets.")


def test_the_subjects_of_the_page_are_those_of_the_jobs() -> None:
    for name, subject in (("what-if", "ref:refs/heads/main"), ("deploy", "environment:production")):
        environment = re.search(r"^    environment: (\w+)$", JOBS[name], re.MULTILINE)
        assert subject == (f"environment:{environment[1]}" if environment else "ref:refs/heads/main")
        # The page makes a credential of each, behind the prefix that GitHub gives.
        assert re.search(rf"for job in .*\b{name}:{subject}\b", PAGE.read_text())


def test_no_post_without_a_length_is_shown() -> None:
    for page in (*PAGE.parent.rglob("*.md"), INFRA.parent / "README.md"):
        posts = re.findall(r"curl[^\n`]*(?:-X|--request) POST[^\n`]*", page.read_text())
        assert [post for post in posts if not re.search(r"Content-Length|--data|-d |--json|-F ", post)] == []


def test_parameters_in_the_page_exist() -> None:
    params = built(INFRA / "main.bicep")["parameters"]
    for name in re.findall(r"^param (\w+)", PAGE.read_text(), re.MULTILINE):
        assert name in params


def test_the_workflow_runs_the_tests_of_infra_once_and_all_others() -> None:
    runs = [run.split() for run in re.findall(r"run: make (.*)\n", JOBS["check"])]
    assert [run for run in runs if "infra" in run] == [["infra", "infra-az"]]
    assert [run for run in runs if "test" in run or "test-all" in run] == [["lint", "test-all"]]
    assert "--ignore=tests/infra" in (INFRA.parent / "Makefile").read_text()
