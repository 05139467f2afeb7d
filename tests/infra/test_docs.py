"""docs/deploy.md against the files that it tells of."""

from __future__ import annotations

import re

import pytest

from tests.infra.docs import BLOCKS, PAGE, rendered
from tests.infra.template import INFRA, read


def test_tables_are_made_from_the_templates() -> None:
    page = PAGE.read_text()
    assert rendered(page) == page, "run python -m tests.infra.docs"
    assert all(f"<!-- {name} -->" in page for name in BLOCKS)


@pytest.mark.parametrize("script", ["deploy.sh", "destroy.sh", "rotateWebhookKey.sh"])
def test_options_in_the_page_exist(script: str) -> None:
    usage = re.search(r"<<'USAGE'\n(.*?)\nUSAGE", (INFRA / script).read_text(), re.DOTALL)
    assert usage is not None
    used = re.findall(rf"infra/{re.escape(script)}([^\n`]*)", PAGE.read_text())
    assert used
    for arguments in used:
        for option in re.findall(r"(?<![\w-])--?[a-z][a-z-]*", arguments):
            assert option in usage[1], option


def test_the_github_workflow_only_checks_where_nothing_is_set_up_and_the_page_names_what_it_needs() -> None:
    source = (INFRA.parent / ".github" / "workflows" / "deploy.yml").read_text()
    assert source.count("vars.AZURE_GROUP != ''") == source.count("uses: azure/login@") == 2
    needed = set(re.findall(r"(?:vars|secrets)\.(\w+)", source))
    assert needed <= set(re.findall(r"`(\w+)`", PAGE.read_text()))


def test_parameters_in_the_page_exist() -> None:
    params = read(INFRA / "main.bicep").of("param")
    for name in re.findall(r"^param (\w+)", PAGE.read_text(), re.MULTILINE):
        assert name in params
