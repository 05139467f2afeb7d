"""The host starts, refuses to start, and ends."""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests

from dev.processes import HostProcess, NotReady
from tests.hosts import MASTER, dev_host_only, start_host
from tests.waiting import until

ADMIN = {"x-functions-key": MASTER}
HOST = {"version": "2.0"}
ONE = """
import azure.functions as func
app = func.FunctionApp()
@app.route("one")
def one(req: func.HttpRequest) -> func.HttpResponse:
    return func.HttpResponse("one")
"""
TWO = "\n@app.route('{route}', methods=['POST'])\ndef {name}(req: func.HttpRequest) -> str:\n    return ''\n"
TIMER = "\n@app.timer_trigger('timer', '{schedule}')\ndef ticking(timer: func.TimerRequest) -> None:\n    pass\n"
QUEUE = "\n@app.queue_trigger('msg', 'jobs', 'Nowhere')\ndef reading(msg: func.QueueMessage) -> None:\n    pass\n"


def app(directory: Path, code: str, **files: object) -> Path:
    (directory / "function_app.py").write_text(code)
    for name, content in files.items():
        (directory / f"{name}.json").write_text(json.dumps(content))
    return directory


@pytest.mark.slow
@dev_host_only
@pytest.mark.parametrize(
    ("code", "host_json", "env", "said"),
    [
        ("import nonsense_package", HOST, {}, "ModuleNotFoundError: No module named 'nonsense_package'"),
        ("x = 1", HOST, {}, "Could not find top level function app instances"),
        (ONE + TWO.format(route="adminsters", name="two"), HOST, {}, "function two: a route cannot begin with admin"),
        (ONE, {"version": "1.0"}, {}, 'error: host.json needs "version": "2.0"\n'),
        (ONE, HOST, {"HOST_SECRETS": "/nowhere"}, "error: the keys in /nowhere cannot be read"),
        (ONE, HOST | {"functions": ["two"]}, {}, "error: the app has no function two\n"),
    ],
    ids=["import", "no app", "reserved route", "version", "keys", "function"],
)
def test_a_failed_start_prints_one_error(
    tmp_path: Path, code: str, host_json: object, env: Mapping[str, str], said: str
) -> None:
    with pytest.raises(NotReady, match="the process ended") as refused:
        start_host(app(tmp_path, code, host=host_json), env=env)
    assert said in str(refused.value)
    assert str(refused.value).count("Traceback") <= 1


@pytest.mark.slow
@dev_host_only
def test_a_busy_port_is_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(NotReady, match=f"error: port {port} is in use"):
            start_host(app(tmp_path, ONE), port, env={})


@dev_host_only
@pytest.mark.slow
@pytest.mark.parametrize(
    ("code", "said"),
    [
        (TIMER.format(schedule="%NIGHTLY%"), "error: function ticking is in error: the setting NIGHTLY is missing"),
        (TIMER.format(schedule="every day"), "error: function ticking is in error: 'every day' is not an NCRONTAB"),
        (QUEUE, "error: function reading is in error: the setting Nowhere is missing"),
    ],
    ids=["setting", "words", "connection"],
)
def test_a_trigger_that_cannot_run_is_named_and_the_others_go_on(tmp_path: Path, code: str, said: str) -> None:
    with start_host(app(tmp_path, ONE + code), env={}) as host:
        host.wait_for(lambda output: said in output, 5)
        assert requests.get(f"{host.url}/api/one").status_code == 200


def test_functions_can_be_loaded_one_by_one(tmp_path: Path) -> None:
    with start_host(app(tmp_path, ONE + TWO.format(route="two", name="two")), env={}, functions=("two",)) as host:
        assert requests.post(f"{host.url}/api/two").status_code == 200
        assert requests.get(f"{host.url}/api/one").status_code == 404


@pytest.mark.slow
def test_host_json_has_the_prefix_unless_the_environment_does(tmp_path: Path) -> None:
    directory = app(tmp_path, ONE, host=HOST | {"extensions": {"http": {"routePrefix": ""}}})
    with start_host(directory, env={}) as host:
        assert requests.get(f"{host.url}/one").text == "one"
        assert requests.get(f"{host.url}/api/one").status_code == 404
    with start_host(directory, env={"AzureFunctionsJobHost__extensions__http__routePrefix": "other"}) as host:
        assert requests.get(f"{host.url}/other/one").text == "one"


@dev_host_only
def test_lines_of_the_log_name_their_function(plain: HostProcess) -> None:
    for path in ("echo/1", "later", "boom"):
        requests.get(f"{plain.url}/api/{path}")
    for line in ("INFO [echo] echoing 1", "WARNING [later] from a coroutine", "ValueError: a secret reason"):
        plain.wait_for(lambda output, line=line: line in output, 5)


def test_half_a_body_is_no_request(plain: HostProcess) -> None:
    connection = http.client.HTTPConnection(urlsplit(plain.url).netloc)
    connection.putrequest("POST", "/api/echo/777")
    connection.putheader("Content-Length", "1000")
    connection.endheaders(b"half")
    connection.close()
    requests.get(f"{plain.url}/api/echo/778")
    output = plain.wait_for(lambda output: "echoing 778" in output, 5)
    assert "echoing 777" not in output


@pytest.mark.slow
def test_a_setting_limits_bodies(app_dir: Path, quiet: Mapping[str, str]) -> None:
    with start_host(app_dir, env={**quiet, "FUNCTIONS_REQUEST_BODY_SIZE_LIMIT": "10"}) as host:
        for size, status in ((10, 200), (11, 500)):
            assert requests.post(f"{host.url}/api/size", data=b"x" * size).status_code == status


@dev_host_only
@pytest.mark.slow
@pytest.mark.parametrize("end", ["stop", "interrupt"])
def test_it_ends_in_order_and_lets_a_running_request_finish(app_dir: Path, quiet: Mapping[str, str], end: str) -> None:
    with start_host(app_dir, env=quiet) as host:
        answers: list[str] = []
        asking = threading.Thread(target=lambda: answers.append(requests.get(f"{host.url}/api/slow/1").text))
        asking.start()
        until(lambda: requests.get(f"{host.url}/admin/host/status", headers=ADMIN).json()["running"])
        getattr(host, end)()
        assert host.wait(10) == 0
        asking.join(5)
        assert answers == ["done"]


@pytest.mark.slow
def test_a_caller_is_cut_off_after_the_grace_and_the_function_ends(app_dir: Path, quiet: Mapping[str, str]) -> None:
    with start_host(app_dir, env=quiet, arguments=("--grace-seconds", "0.5")) as host, ThreadPoolExecutor() as pool:
        asking = pool.submit(requests.get, f"{host.url}/api/slow/3")
        until(lambda: requests.get(f"{host.url}/admin/host/status", headers=ADMIN).json()["running"])
        host.interrupt()
        with pytest.raises(requests.ConnectionError):
            asking.result(2.5)
        assert host.wait(5) == 0
        assert "slow has ended" in host.output


@pytest.mark.slow
@dev_host_only
def test_a_second_signal_ends_it_at_once(app_dir: Path, quiet: Mapping[str, str]) -> None:
    with start_host(app_dir, env=quiet) as host:
        with pytest.raises(requests.Timeout):
            requests.get(f"{host.url}/api/slow/60", timeout=0.5)
        host.interrupt()
        with pytest.raises(subprocess.TimeoutExpired):
            host.wait(0.5)
        host.interrupt()
        assert host.wait(5) == 0
