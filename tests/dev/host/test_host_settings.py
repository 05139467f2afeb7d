"""host.json and the environment."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest

from dev.host.settings import HostError, disabled, load_host_config


def test_the_environment_overrides_host_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bare = load_host_config(tmp_path / "host.json").queues
    assert (bare.batch_size, bare.max_dequeue_count, bare.max_polling_interval) == (16, 5, timedelta(minutes=1))
    path = tmp_path / "host.json"
    options = {"batchSize": 8, "maxDequeueCount": 7, "visibilityTimeout": "00:01:00.5"}
    path.write_text(json.dumps({"version": "2.0", "extensions": {"queues": options}}))
    monkeypatch.setenv("AzureFunctionsJobHost__extensions__queues__batchSize", "2")
    monkeypatch.setenv("AzureFunctionsJobHost__Extensions__Queues__NewBatchThreshold", "1")
    queues = load_host_config(path).queues
    assert (queues.batch_size, queues.max_dequeue_count, queues.new_batch_threshold) == (2, 7, 1)
    assert queues.visibility_timeout == timedelta(seconds=60.5)


@pytest.mark.parametrize(
    ("content", "wrong"),
    [
        ('{"version": "2.0", "extensions": {"queues": {"batchSize": 33}}}', "batchsize: .* 32"),
        ('{"version": "2.0", "extensions": {"queues": {"visibilityTimeout": "soon"}}}', "visibilitytimeout: "),
        ("{", "Invalid JSON"),
        ("[]", "object"),
    ],
)
def test_a_host_json_that_cannot_be_read_is_one_line(tmp_path: Path, content: str, wrong: str) -> None:
    (tmp_path / "host.json").write_text(content)
    with pytest.raises(HostError, match=rf"^host\.json cannot be read: .*{wrong}.*\Z"):
        load_host_config(tmp_path / "host.json")


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("AzureWebJobs.Tick.Disabled", "true", True),
        ("AzureWebJobs_Tick_Disabled", "1", True),
        ("AzureWebJobs__Tick__Disabled", "1", False),
        ("AzureWebJobs.Other.Disabled", "true", False),
    ],
)
def test_a_setting_disables_a_function(monkeypatch: pytest.MonkeyPatch, name: str, value: str, expected: bool) -> None:
    monkeypatch.setenv(name, value)
    assert disabled("Tick") is expected
