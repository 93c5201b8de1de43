"""`fairloop doctor` with a stack and without one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

import fairloop.client
from fairloop.cli import main
from fairloop.doctor.services import service
from tests.e2e.conftest import Stack
from tests.support.processes import free_port


def test_all_of_a_running_stack_is_found_well(stack: Stack) -> None:
    result = CliRunner().invoke(main, ["doctor", "--require", "--json", "--state-dir", str(stack.state)])
    assert result.exit_code == 0, result.output
    found = {finding["name"]: finding for finding in json.loads(result.stdout)["findings"]}
    for name in ("store", "clock", "generator", "annotator", "recognizer", "metrics", "test image"):
        assert found[name]["outcome"] == "ok", found[name]
    for name in ("generator", "annotator", "recognizer"):
        models = found[name]["facts"]["models"]
        assert models
        assert all("@" in model for model in models)
    seconds = found["test image"]["facts"]["seconds"]
    assert set(seconds) > {model.partition("@")[0] for model in found["annotator"]["facts"]["models"]}
    assert all(0 < value < 60 for value in seconds.values())
    assert list(stack.store().list("doctor/")) == []


def test_without_a_stack_it_says_so_and_that_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in fairloop.client.SERVICES:
        monkeypatch.delenv(f"FAIRLOOP_{name.upper()}_ADDRESS", raising=False)
        monkeypatch.setitem(fairloop.client.LOCAL_PORTS, name, free_port())
    monkeypatch.setenv("FAIRLOOP_S3_ENDPOINT", f"http://127.0.0.1:{free_port()}")
    result = CliRunner().invoke(main, ["doctor", "--state-dir", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert "no stack runs here" in result.stdout
    assert "make up" in result.stdout
    with fairloop.client.Client.from_environment() as client:
        required = service(client, "metrics", True)
    assert required.outcome == "fail"
    assert "does not answer (Connection refused)" in required.detail
    assert "make up" in required.advice
