"""The recipe of docs/deploy.md for many companies, run as it stands there."""

from __future__ import annotations

import os
import re
import subprocess
from typing import TYPE_CHECKING

from tests.infra.conftest import PBX_KEY, STAND_IN
from tests.infra.template import INFRA, answers, compiler

if TYPE_CHECKING:
    from tests.infra.conftest import Azure

RECIPE = re.compile(r"<!-- companies -->\n```sh\n(.*?)```", re.DOTALL)


def test_one_run_goes_over_all_companies_and_one_that_fails_stops_no_other(azure: Azure) -> None:
    folder = azure.project / "companies"
    folder.mkdir()
    text = "using '../infra/main.bicep'\nparam alertEmail = 'ops@contoso.com'\n"
    for name, region in {"alfa": "LV", "beta": "UK", "gamma": "LT"}.items():
        (folder / f"{name}.bicepparam").write_text(f"{text}param defaultRegion = '{region}'\n")
    (recipe,) = RECIPE.findall((INFRA.parent / "docs" / "deploy.md").read_text())
    done = subprocess.run(
        ["bash", "-c", recipe, "recipe", "--dry-run"],
        cwd=azure.project,
        env=os.environ
        | {"PATH": f"{STAND_IN}:{os.environ['PATH']}", "AZ_STATE": str(azure.state), "PBX_API_KEY": PBX_KEY}
        | {"BICEP": compiler(), "BICEP_ANSWERS": str(answers.folder)},
        capture_output=True,
        text=True,
        check=True,
    )
    made = re.findall(r"az deployment group create --resource-group (\S+)", done.stdout)
    assert list(dict.fromkeys(made)) == ["pbx-alfa", "pbx-gamma"]
    assert "error: UK is no country code" in done.stderr
    assert done.stdout.endswith("Not deployed: beta\n")
    assert azure.calls() == []
