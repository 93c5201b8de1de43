"""The Prefect server killed while it serves a flow run: run again, the flow picks up what was begun."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from tests.e2e.conftest import Stack, free_port_base
from tests.e2e.test_loop import demo, finished, report_of, wait_for_balanced_set
from tests.support.processes import select_pause

pytestmark = pytest.mark.chaos


def balanced_sets(stack: Stack) -> list[str]:
    """Every operation that was ever asked to make the balanced training set."""
    store = stack.store()
    names = [key.rstrip("/") for key in store.list("operations/generator-", recursive=False)]
    bodies = {name: base64.b64decode(store.get_json(f"{name}/request.json")["body"]) for name in names}
    return [name for name, body in bodies.items() if b"train-balanced" in body]


@pytest.mark.timeout(1800)
def test_a_flow_outlives_the_server_that_orchestrates_it(tmp_path: Path) -> None:
    stack = Stack(tmp_path / "state", free_port_base())
    try:
        stack.up()
        first = demo(stack)
        operation = wait_for_balanced_set(stack, first)
        stack.kill("prefect", whole=True)
        while "prefect" in stack.pids():
            select_pause()
        output, _ = first.communicate(timeout=300)
        print(f"exit status {first.returncode}: {output[-600:]}")
        stack.up()
        disturbed = stack.store().get_json(f"{report_of(finished(demo(stack)), stack)}/report.json")
        assert balanced_sets(stack) == [operation.name], "it was taken up, not asked for anew"
        assert operation.progress().state == "SUCCEEDED"
        again = finished(demo(stack, "--fresh"))
        fresh = stack.store().get_json(f"{report_of(again, stack)}/report.json")
    finally:
        stack.down()
    assert stack.members() == []
    assert fresh["reports"] == disturbed["reports"]
    assert fresh["comparison"]["sentence"] == disturbed["comparison"]["sentence"]
