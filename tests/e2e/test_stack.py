"""`make up` and `make down` on real processes."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import urllib.request
from pathlib import Path

import psutil
import pytest

from deploy.images.checks import CALLS
from deploy.local.parts import HOST, PART_MARK, PORT_OF, STACK_MARK, make_plan
from deploy.local.processes import SCHEMA, Record, records
from fairloop.client import LOCAL_PORTS, SERVICES
from fairloop.errors import InvalidInput
from tests.e2e.conftest import Stack

PARTS = {"generator", "annotator", "recognizer", "metrics", "prefect", "flows"}


def test_when_up_returns_every_part_answers(stack: Stack) -> None:
    stack.store().put("probe/answer", b"stored")
    assert stack.store().get("probe/answer") == b"stored"
    deployment = f"{stack.environment['PREFECT_API_URL']}/deployments/name/fairness-loop/local"
    with urllib.request.urlopen(deployment, timeout=10) as reply:
        assert json.load(reply)["status"] == "READY"
    shown = stack.run("status")
    assert shown.returncode == 0, shown.stdout
    assert shown.stdout.count("  healthy  ") == len(stack.pids())
    assert set(stack.pids()) - {"store"} == PARTS


@pytest.mark.parametrize("service", sorted(CALLS))
def test_what_an_image_is_asked_to_check_it_its_service_answers(stack: Stack, service: str) -> None:
    with stack.client() as client:
        assert "answered" in (said := CALLS[service](client)) or "found" in said


def test_prefect_understands_what_its_own_client_sends(stack: Stack) -> None:
    # The client sends null for what it does not set; from fastapi 0.151 on the server refuses that.
    unset = {"flows": None, "flow_runs": None, "sort": None, "limit": None, "offset": 0}
    request = urllib.request.Request(
        f"{stack.environment['PREFECT_API_URL']}/flows/filter",
        json.dumps(unset).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=10) as reply:
        assert "fairness-loop" in [flow["name"] for flow in json.load(reply)]


def test_prefect_serves_its_own_api_to_the_browser_and_reports_to_nobody(stack: Stack) -> None:
    api = stack.environment["PREFECT_API_URL"]
    with urllib.request.urlopen(f"{api.removesuffix('/api')}/ui-settings", timeout=10) as reply:
        assert json.load(reply)["api_url"] == api
    for name in ("prefect", "flows"):
        told = psutil.Process(stack.pids()[name]).environ()
        assert told["DO_NOT_TRACK"] == "1"
    assert psutil.Process(stack.pids()["prefect"]).environ()["PREFECT_SERVER_ANALYTICS_ENABLED"] == "false"


def test_every_part_survives_the_terminal_that_started_it(stack: Stack) -> None:
    for name, pid in stack.pids().items():
        assert os.getsid(pid) == pid, name
        assert os.readlink(f"/proc/{pid}/fd/0") == "/dev/null", name
        for output in (1, 2):
            assert os.readlink(f"/proc/{pid}/fd/{output}") == str(stack.state / "logs" / f"{name}.log")


def test_a_second_up_starts_nothing(stack: Stack) -> None:
    before = stack.pids()
    assert "runs already" in stack.up()
    assert stack.pids() == before


def test_up_starts_anew_only_what_was_killed(stack: Stack) -> None:
    before = stack.pids()
    stack.kill("annotator")
    stack.kill("metrics")
    shown = stack.run("status")
    assert shown.returncode == 1
    assert shown.stdout.count("  dead  ") == 2

    printed = stack.up()

    after = stack.pids()
    assert {name for name in before if after[name] != before[name]} == {"annotator", "metrics"}
    assert "starting annotator, metrics;" in printed


def test_a_running_stack_refuses_other_ports(stack: Stack) -> None:
    before = stack.pids()
    moved = dataclasses.replace(stack, port_base=stack.port_base + 1).run("up")
    assert moved.returncode == 1
    assert f"FAIRLOOP_GENERATOR_ADDRESS={HOST}:{stack.port_base + 11}" in moved.stderr
    assert stack.pids() == before


def test_the_environment_file_is_private_and_a_shell_reads_it(stack: Stack) -> None:
    file = stack.state / "environment"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    script = f"set -a; . '{file}'; exec env"
    seen = subprocess.run(
        ["sh", "-c", script], capture_output=True, text=True, check=True, env={"PATH": os.defpath}
    )
    assert set(stack.environment.items()) <= {tuple(line.split("=", 1)) for line in seen.stdout.splitlines()}
    assert stack.environment["FAIRLOOP_METRICS_ADDRESS"] == f"{HOST}:{stack.port_base + 14}"


def test_down_leaves_no_process_and_no_port_but_what_was_stored(stack: Stack) -> None:
    stack.store().put("probe/survivor", b"still here")

    stack.down()

    assert stack.members() == []
    assert stack.taken_ports() == []
    assert stack.environment == {}
    assert "nothing runs" in stack.down()

    stack.up()
    assert stack.store().get("probe/survivor") == b"still here"


def test_a_taken_port_is_named_with_its_holder_and_nothing_is_started(another: Stack) -> None:
    with socket.create_server((HOST, another.port_base + PORT_OF["recognizer"])) as taken:
        refused = another.run("up")
        assert refused.returncode == 1
        assert f"port {taken.getsockname()[1]} (recognizer) is taken by pid {os.getpid()} (" in refused.stderr
        assert Path(sys.executable).name in refused.stderr
        assert "--port-base" in refused.stderr
    assert another.members() == []
    assert not another.state.exists()


def test_a_part_that_ends_at_once_is_named_with_its_last_words_and_the_others_are_stopped(
    another: Stack,
) -> None:
    broken = dataclasses.replace(another, environ={**another.environ, "FAIRLOOP_IO_THREADS": "0"})
    failed = broken.run("up")
    assert failed.returncode == 1
    assert any(f"error: {name} ended with status 1" in failed.stderr for name in SERVICES)
    assert "FAIRLOOP_IO_THREADS: Input should be greater than or equal to 1" in failed.stderr
    assert broken.members() == []
    assert broken.taken_ports() == []
    assert broken.environment == {}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_up_stops_what_it_started(another: Stack, number: signal.Signals) -> None:
    with subprocess.Popen(
        another.command("up"), stdout=subprocess.PIPE, env=dict(another.environ), text=True
    ) as up:
        assert up.stdout is not None
        assert "starting" in up.stdout.readline()
        while not another.members():
            assert up.poll() is None
        up.send_signal(number)
        assert up.wait(timeout=60) == 128 + number
    assert another.members() == []
    assert another.taken_ports() == []
    assert records(another.state) == {}


def test_a_port_held_by_another_stack_is_named_with_its_folder(stack: Stack, another: Stack) -> None:
    refused = dataclasses.replace(another, port_base=stack.port_base).run("up")
    assert refused.returncode == 1
    assert f"of the stack under {stack.state}" in refused.stderr
    assert f"pid {stack.pids()['annotator']} (" in refused.stderr


def test_down_where_nothing_was_ever_up_says_so(another: Stack) -> None:
    assert "nothing runs" in another.down()
    assert not another.state.exists()


def test_a_process_that_got_the_number_of_a_dead_one_is_not_touched(another: Stack) -> None:
    with subprocess.Popen(["sleep", "60"]) as stranger:
        part = make_plan(another.state, another.port_base).parts[1]
        record = Record(
            part.name,
            stranger.pid,
            0.0,
            part.address,
            part.check,
            (),
            1.0,
            False,
            str(another.state / "log"),
            0,
        )
        run = another.state / "run"
        run.mkdir(parents=True)
        (run / f"{part.name}.json").write_text(json.dumps({"schema": SCHEMA, **dataclasses.asdict(record)}))
        assert another.run("status").stdout.count("  dead  ") == 1
        assert "nothing runs" in another.down()
        assert records(another.state) == {}
        assert stranger.poll() is None
        stranger.kill()


def test_down_takes_orphans_in_sessions_of_their_own_along(another: Stack) -> None:
    another.state.mkdir()
    marks = {STACK_MARK: str(another.state), PART_MARK: "generator"}
    with subprocess.Popen(["sleep", "60"], env=os.environ | marks, start_new_session=True) as orphan:
        assert "stopping generator" in another.down()
        assert orphan.wait(timeout=10) == -signal.SIGTERM


def test_a_given_store_that_does_not_answer_is_named_and_nothing_is_started(another: Stack) -> None:
    endpoint = f"http://{HOST}:{another.port_base + 1}"
    given = dataclasses.replace(another, environ={**another.environ, "FAIRLOOP_S3_ENDPOINT": endpoint})
    failed = given.run("up")
    assert failed.returncode == 1
    assert f"the store at {endpoint} does not answer" in failed.stderr
    assert given.members() == []


def test_a_given_store_is_used_instead_of_an_own_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FAIRLOOP_S3_ENDPOINT", "http://192.0.2.7:9000")
    plan = make_plan(tmp_path)
    assert {part.name for part in plan.parts} == PARTS
    for part in plan.parts:
        assert part.environment["FAIRLOOP_S3_ENDPOINT"] == "http://192.0.2.7:9000"
        assert "store" not in part.after


def test_whoever_sourced_the_environment_file_still_gets_the_own_store(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FAIRLOOP_S3_ENDPOINT", f"http://{HOST}:9300")
    assert {part.name for part in make_plan(tmp_path).parts} == PARTS | {"store"}


def test_services_listen_where_clients_look_by_default(tmp_path: Path) -> None:
    ports = {part.name: part.port for part in make_plan(tmp_path).parts}
    assert {name: ports[name] for name in SERVICES} == LOCAL_PORTS


def test_settings_of_somebody_elses_prefect_do_not_reach_the_stack(tmp_path: Path) -> None:
    foreign = {"PREFECT_API_KEY": "cloud-key", "PREFECT_API_URL": "https://elsewhere.invalid/api"}
    for part in make_plan(tmp_path, environ={**os.environ, **foreign}).parts:
        assert "PREFECT_API_KEY" not in part.environment
        assert "elsewhere" not in part.environment.get("PREFECT_API_URL", "")


@pytest.mark.parametrize("base", [0, 80, 65_530])
def test_a_port_base_whose_ports_do_not_fit_is_refused(tmp_path: Path, base: int) -> None:
    with pytest.raises(InvalidInput, match=rf"--port-base: {base} is outside 1024–65501"):
        make_plan(tmp_path, base)
