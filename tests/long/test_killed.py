"""Kills that take longer: the trainer itself, and a flow whose result is compared with an undisturbed run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fairloop.store import ObjectStore
from tests.e2e.conftest import Stack, free_port_base
from tests.e2e.test_loop import demo, finished, report_of, wait_for_balanced_set
from tests.integration.test_recognizer_service import Recognizer, trainers, training
from tests.support.faces import rendered_dataset
from tests.support.progress import between, wait_until

pytestmark = pytest.mark.chaos


@pytest.fixture
def recognizer(tmp_path: Path, store: ObjectStore, store_environment: dict[str, str]) -> Iterator[Recognizer]:
    made = Recognizer(tmp_path, store_environment)
    yield made
    for process in made.processes:
        process.stop()


def test_the_trainer_itself_killed_goes_on_from_its_checkpoint(
    recognizer: Recognizer, store: ObjectStore
) -> None:
    dataset = rendered_dataset(store, "training", 16, 8)
    operation = recognizer.client.fine_tune(training(dataset.name, 30))
    wait_until(operation, between(0.3, 0.8))
    (trainer,) = trainers(recognizer.process.pid)
    trainer.kill()
    model = operation.result(120)
    assert operation.progress().attempt == 2
    fresh = recognizer.client.fine_tune(training(dataset.name, 30, request_id="again")).result(120)
    assert fresh.model == model.model


@pytest.mark.timeout(1800)
def test_a_killed_flow_comes_to_the_same_resources_as_an_undisturbed_one(tmp_path: Path) -> None:
    stack = Stack(tmp_path / "state", free_port_base())
    try:
        stack.up()
        first = demo(stack)
        wait_for_balanced_set(stack, first)
        stack.kill("flows", whole=True)
        first.kill()
        first.communicate(timeout=60)
        stack.up()
        disturbed = stack.store().get_json(f"{report_of(finished(demo(stack)), stack)}/report.json")
        again = finished(demo(stack, "--fresh"))
        fresh = stack.store().get_json(f"{report_of(again, stack)}/report.json")
    finally:
        stack.down()
    assert fresh["reports"] == disturbed["reports"]
    assert fresh["comparison"]["sentence"] == disturbed["comparison"]["sentence"]
