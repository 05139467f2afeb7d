"""docs/deploy.md against the files that it describes."""

from __future__ import annotations

import re

import pytest

from tests.infra.docs import BLOCKS, PAGE, rendered
from tests.infra.template import INFRA, built


def test_tables_are_made_from_the_templates() -> None:
    page = PAGE.read_text()
    assert rendered(page) == page, "run python -m tests.infra.docs"
    assert all(f"<!-- {name} -->" in page for name in BLOCKS)


@pytest.mark.parametrize("script", ["deploy.sh", "destroy.sh", "rotateWebhookKey.sh", "rotateSubscriptionKeys.sh"])
def test_options_in_the_page_exist(script: str) -> None:
    usage = re.search(r"<<'USAGE'\n(.*?)\nUSAGE", (INFRA / script).read_text(), re.DOTALL)
    assert usage is not None
    used = re.findall(rf"infra/{re.escape(script)}([^\n`]*)", PAGE.read_text())
    assert used
    for arguments in used:
        for option in re.findall(r"(?<![\w-])--?[a-z][a-z-]*", arguments):
            assert option in usage[1], option


_WRITTEN = (INFRA.parent / ".github" / "workflows" / "deploy.yml").read_text()
_ANCHORS = dict(re.findall(r"^      - &(\w+)\n((?:        .*\n)+)", _WRITTEN, re.MULTILINE))
# As it is once each alias is what it stands for.
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
