"""The demo as a stranger runs it, under its limits of time and memory."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from deploy.local.parts import ROOT
from fairloop.stats import Verdict
from tests.e2e.conftest import Stack, free_port_base

LIMIT_SECONDS = 600
LIMIT_GIGABYTES = 8.0


@pytest.mark.loop
@pytest.mark.timeout(1500)
def test_the_demo_ends_within_its_limits_and_says_what_it_found(tmp_path: Path) -> None:
    stack = Stack(tmp_path / "state", free_port_base())
    began = time.monotonic()
    try:
        stack.up()
        done = subprocess.run(
            [sys.executable, "-m", "flows.demo", "--state", str(stack.state)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=1200,
        )
        took = time.monotonic() - began
        assert done.returncode == 0, done.stdout + done.stderr
        report = next(line for line in done.stdout.splitlines() if line.startswith("report: "))
        body = stack.store().get_json(f"{report.removeprefix('report: ').strip()}/report.json")
    finally:
        stack.down()
    assert took <= LIMIT_SECONDS
    peak = re.search(r"peak memory\D+8\.0 GB\D+([\d.]+) GB", done.stdout)
    assert peak is not None, done.stdout
    assert 0.5 < float(peak.group(1)) <= LIMIT_GIGABYTES

    before, after = body["before"], body["after"]
    change = after["change"]["total_variation"]
    assert change["after"] <= change["before"] * 2 / 3
    later = {cell["cell"]: cell["share_of_faces"] for cell in after["cells"]}
    assert min(later.values()) >= 0.03
    rare = [cell for cell in before["cells"] if cell["share_of_faces"] < 0.05]
    assert all(later[cell["cell"]] >= 2 * cell["share_of_faces"] for cell in rare)
    assert body["comparison"]["verdict"] in set(Verdict)
    told = " ".join(done.stdout.split())
    assert body["comparison"]["sentence"] in told
    reached = re.search(r"True match rate at FMR 1\.0 % over all groups: generated ([\d.]+) %", told)
    runs = body["comparison"]["arms"][0]["runs"]
    assert reached is not None, told
    assert float(reached[1]) == pytest.approx(100 - 100 * sum(r["fnmr"] for r in runs) / len(runs), abs=0.051)
