"""host.json, local.settings.json and their overrides."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from dev.host.settings import HostError, disabled, load_host_config, load_local_settings, resolve, time_span

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("00:00:10", timedelta(seconds=10)),
        ("01:30", timedelta(hours=1, minutes=30)),
        ("1.02:03:04.5", timedelta(days=1, hours=2, minutes=3, seconds=4.5)),
        ("7", timedelta(days=7)),
    ],
)
def test_a_time_span_is_read_as_in_net(text: str, expected: timedelta) -> None:
    assert time_span(text) == expected


def test_queue_options_have_the_real_hosts_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    queues = load_host_config(tmp_path / "host.json").queues
    assert (queues.batch_size, queues.new_batch_threshold, queues.max_dequeue_count) == (16, 16, 5)
    assert (queues.visibility_timeout, queues.max_polling_interval) == (timedelta(0), timedelta(minutes=1))


def test_the_environment_overrides_host_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "host.json").write_text(
        json.dumps({"version": "2.0", "extensions": {"queues": {"batchSize": 8, "maxDequeueCount": 7}}})
    )
    monkeypatch.setenv("AzureFunctionsJobHost__extensions__queues__batchSize", "2")
    monkeypatch.setenv("AzureFunctionsJobHost__Extensions__Queues__NewBatchThreshold", "1")
    queues = load_host_config(tmp_path / "host.json").queues
    assert (queues.batch_size, queues.max_dequeue_count, queues.new_batch_threshold) == (2, 7, 1)


@pytest.mark.parametrize(
    "queues",
    [{"batchSize": 33}, {"batchSize": "many"}, {"visibilityTimeout": "soon"}],
)
def test_options_that_do_not_fit_are_refused(tmp_path: Path, queues: object) -> None:
    (tmp_path / "host.json").write_text(json.dumps({"version": "2.0", "extensions": {"queues": queues}}))
    with pytest.raises(HostError, match=r"host.json: extensions.queues"):
        load_host_config(tmp_path / "host.json")


@pytest.mark.parametrize("content", ["{", "[]", '{"IsEncrypted": true}', '{"Values": {"A": 1}}'])
def test_a_settings_file_that_cannot_be_read_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "local.settings.json").write_text(content)
    with pytest.raises(HostError, match=r"local\.settings\.json"):
        load_local_settings(tmp_path / "local.settings.json")


def test_a_name_in_percent_signs_is_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFIX", "prod")
    assert resolve("%PREFIX%-jobs") == "prod-jobs"
    with pytest.raises(HostError, match="the setting NO_SUCH is missing"):
        resolve("%NO_SUCH%")


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
