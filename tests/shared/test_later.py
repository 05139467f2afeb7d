"""Work that is loaded later is there, and does not load the rooms it lives in before."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from shared.later import later

ROOT = Path(__file__).parents[2]
PATHS = sorted(
    path
    for room in ("functions", "shared")
    for file in (ROOT / room).rglob("*.py")
    for path in re.findall(r'later\("([\w.]+)"\)', file.read_text())
)


@pytest.mark.parametrize("path", PATHS)
def test_every_path_leads_to_a_function(path: str) -> None:
    module, _, name = path.rpartition(".")
    assert callable(getattr(import_module(module), name))


def test_arguments_and_answers_pass_through() -> None:
    assert later("json.dumps")({"a": 1}, indent=None) == '{"a": 1}'
    with pytest.raises(ModuleNotFoundError):
        later("no.such.function")()


def test_the_app_loads_neither_polling_nor_processing_before_they_are_asked_for() -> None:
    code = "import sys, function_app; print('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    early = {"pydantic", "requests", "azure.core", "azure.data.tables", "cryptography", "phonenumbers"}
    rooms = ("shared.polling.", "shared.media.copy", "shared.deliveries.", "shared.webhooks.sync")
    assert not loaded & early
    assert [name for name in loaded if name.startswith(rooms)] == []
