"""How the host starts, refuses to start, and ends."""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
import requests

from dev.host.child import NotReady
from dev.host.process import CoreToolsProcess, HostProcess
from tests import waiting

if TYPE_CHECKING:
    from collections.abc import Mapping

ONE = """
import os
import azure.functions as func
app = func.FunctionApp()
@app.route("one")
def one(req: func.HttpRequest) -> func.HttpResponse:
    return func.HttpResponse(os.environ.get("GREETING", "none"))
"""
TWO = "\n@app.route('{route}', methods=['POST'])\ndef {name}(req: func.HttpRequest) -> str:\n    return ''\n"
TIMER = "\n@app.timer_trigger('timer', '{schedule}')\ndef ticking(timer: func.TimerRequest) -> None:\n    pass\n"
QUEUE = "\n@app.queue_trigger('msg', 'jobs', 'Nowhere')\ndef reading(msg: func.QueueMessage) -> None:\n    pass\n"


def app(directory: Path, code: str, **files: object) -> Path:
    (directory / "function_app.py").write_text(code)
    for name, content in files.items():
        (directory / f"{name.replace('_', '.')}.json").write_text(json.dumps(content))
    return directory


@pytest.mark.slow
@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import nonsense_package", "ModuleNotFoundError: No module named 'nonsense_package'"),
        ("1 / 0", "ZeroDivisionError"),
        ("x = 1", "Could not find top level function app instances"),
        (ONE + TWO.format(route="adminsters", name="two"), "function two: a route cannot begin with admin"),
        (ONE + TWO.format(route="ONE", name="two"), "functions one and two share POST /api/ONE"),
        (ONE + TWO.format(route="{x:nonsense}", name="two"), "function two: the route {x:nonsense} cannot be read"),
        (ONE + TWO.format(route="x", name="one"), "does not have a unique function name"),
    ],
    ids=["import", "crash", "no-app", "reserved", "same-route", "constraint", "same-name"],
)
def test_an_app_that_cannot_be_indexed_is_a_clear_error(tmp_path: Path, code: str, said: str) -> None:
    with pytest.raises(NotReady) as refused:
        HostProcess(app(tmp_path, code))
    assert said in str(refused.value)
    assert str(refused.value).count("Traceback") <= 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--enable-auth",), "error: --enable-auth needs --keys FILE"),
        (("--keys", "/nowhere/keys.json"), "error: the keys file /nowhere/keys.json cannot be read"),
        (("--functions", "two"), "error: the app has no function two"),
    ],
)
def test_wrong_arguments_are_one_line(tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    with pytest.raises(NotReady, match="the process ended") as refused:
        HostProcess(app(tmp_path, ONE), arguments=arguments)
    assert said in str(refused.value)
    assert len(str(refused.value).strip().splitlines()) == 2


def test_a_busy_port_is_one_line_and_exit_code_1(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        with pytest.raises(NotReady, match=f"error: port {port} is in use"):
            HostProcess(app(tmp_path, ONE), arguments=("--port", port))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("code", "said"),
    [
        (TIMER.format(schedule="%NIGHTLY%"), "error: function ticking is in error: the setting NIGHTLY is missing"),
        (TIMER.format(schedule="every day"), "error: function ticking is in error: 'every day' is not an NCRONTAB"),
        (TIMER.format(schedule="99 * * * * *"), "error: function ticking is in error: '99 * * * * *' is not"),
        (QUEUE, "error: function reading is in error: the setting Nowhere (or Nowhere__queueServiceUri) is missing"),
    ],
    ids=["setting", "words", "seconds", "connection"],
)
def test_a_trigger_that_cannot_run_is_named_and_the_others_go_on(tmp_path: Path, code: str, said: str) -> None:
    with HostProcess(app(tmp_path, ONE + code)) as host:
        host.wait_for(lambda output: said in output, 5)
        assert requests.get(f"{host.url}/api/one").status_code == 200


def test_functions_can_be_loaded_one_by_one(tmp_path: Path) -> None:
    with HostProcess(
        app(tmp_path, ONE + TWO.format(route="two", name="two")), arguments=("--functions", "TWO")
    ) as host:
        assert requests.post(f"{host.url}/api/two").status_code == 200
        assert requests.get(f"{host.url}/api/one").status_code == 404


def test_settings_come_from_the_file_unless_the_environment_has_them(tmp_path: Path) -> None:
    values = {"FUNCTIONS_WORKER_RUNTIME": "python", "GREETING": "from the file"}
    directory = app(tmp_path, ONE, local_settings={"Values": values})
    with HostProcess(directory) as host:
        assert requests.get(f"{host.url}/api/one").text == "from the file"
    with HostProcess(directory, env={"GREETING": "from outside"}) as host:
        assert requests.get(f"{host.url}/api/one").text == "from outside"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("host_json", "env", "path"),
    [
        ({"extensions": {"http": {"routePrefix": ""}}}, {}, "/one"),
        ({"extensions": {"http": {"routePrefix": "v1/api"}}}, {}, "/v1/api/one"),
        ({}, {"AzureFunctionsJobHost__extensions__http__routePrefix": "other"}, "/other/one"),
    ],
    ids=["none", "two-segments", "override"],
)
def test_the_prefix_comes_from_host_json(tmp_path: Path, host_json: object, env: Mapping[str, str], path: str) -> None:
    with HostProcess(app(tmp_path, ONE, host=host_json), env=env) as host:
        assert requests.get(host.url + path).status_code == 200
        assert requests.get(f"{host.url}/api/one").status_code == 404


@pytest.mark.parametrize(
    ("origin", "allowed"), [("https://a.example", "https://a.example"), ("https://b.example", None)]
)
def test_cors_lets_in_the_origins_of_the_settings(tmp_path: Path, origin: str, allowed: str | None) -> None:
    directory = app(tmp_path, ONE, local_settings={"Host": {"CORS": "https://a.example, https://c.example"}})
    asked = {"Origin": origin, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-one"}
    with HostProcess(directory) as host:
        preflight = requests.options(f"{host.url}/api/one", headers=asked)
        plain = requests.get(f"{host.url}/api/one", headers={"Origin": origin})
    assert preflight.status_code == 204
    assert preflight.headers.get("Access-Control-Allow-Origin") == allowed
    assert preflight.headers.get("Access-Control-Allow-Headers") == ("x-one" if allowed else None)
    assert plain.headers.get("Access-Control-Allow-Origin") == allowed


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


def test_the_start_names_every_function(plain: HostProcess) -> None:
    for line in ("echo: [GET,POST] http", "work: disabled", "asleep: disabled", "tick: disabled"):
        assert line in plain.output
    assert plain.output.count("Host is ready on") == 1


@pytest.mark.parametrize(("limit", "size", "status"), [("10", 10, 200), ("10", 11, 413), ("nonsense", 11, 200)])
def test_a_setting_limits_bodies(app_dir: Path, quiet: Mapping[str, str], limit: str, size: int, status: int) -> None:
    with HostProcess(app_dir, env={**quiet, "FUNCTIONS_REQUEST_BODY_SIZE_LIMIT": limit}) as host:
        assert requests.post(f"{host.url}/api/size", data=b"x" * size).status_code == status


@pytest.mark.slow
@pytest.mark.parametrize("end", ["stop", "interrupt"])
def test_it_ends_in_order_and_lets_a_running_request_finish(app_dir: Path, quiet: Mapping[str, str], end: str) -> None:
    with HostProcess(app_dir, env=quiet) as host:
        answers: list[str] = []
        asking = threading.Thread(target=lambda: answers.append(requests.get(f"{host.url}/api/slow/1").text))
        asking.start()
        waiting.until(lambda: requests.get(f"{host.url}/admin/host/status").json()["running"])
        getattr(host, end)()
        assert host.wait(10) == 0
        asking.join(5)
        assert answers == ["done"]


@pytest.mark.slow
def test_a_caller_is_cut_off_after_the_grace_and_the_function_ends(app_dir: Path, quiet: Mapping[str, str]) -> None:
    with HostProcess(app_dir, env=quiet, arguments=("--grace-seconds", "0.5")) as host, ThreadPoolExecutor() as pool:
        asking = pool.submit(requests.get, f"{host.url}/api/slow/3")
        waiting.until(lambda: requests.get(f"{host.url}/admin/host/status").json()["running"])
        host.interrupt()
        with pytest.raises(requests.ConnectionError):
            asking.result(2.5)
        assert host.wait(5) == 0
        assert "slow has ended" in host.output


def test_a_second_signal_ends_it_at_once(app_dir: Path, quiet: Mapping[str, str]) -> None:
    with HostProcess(app_dir, env=quiet) as host:
        with pytest.raises(requests.Timeout):
            requests.get(f"{host.url}/api/slow/60", timeout=0.5)
        host.interrupt()
        with pytest.raises(subprocess.TimeoutExpired):
            host.wait(0.5)
        host.interrupt()
        assert host.wait(5) == 0


def test_core_tools_run_an_app_and_are_ready_when_it_runs(
    app_dir: Path, quiet: Mapping[str, str], tmp_path: Path
) -> None:
    func = tmp_path / "func"
    # A stand-in that takes func's arguments: `start --port N` in the app's directory.
    func.write_text(
        f'#!/bin/sh\nsleep 1\nPYTHONPATH={Path.cwd()} exec {sys.executable} -m dev.host --app-dir "$PWD" "$2" "$3"\n'
    )
    func.chmod(0o755)
    with CoreToolsProcess(str(func), app_dir, env=quiet) as host:
        assert requests.get(f"{host.url}/api/text").text == "plain"
    func.write_text("#!/bin/sh\necho no worker\n")
    with pytest.raises(NotReady, match="no worker"):
        CoreToolsProcess(str(func), app_dir)
