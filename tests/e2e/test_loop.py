"""One small round of the loop on the real stack: killed in the middle, run again, read off its page."""

from __future__ import annotations

import base64
import io
import subprocess
import sys
from html.parser import HTMLParser
from typing import Any

import pyarrow.parquet as pq
import pytest

from deploy.local.parts import ROOT
from fairloop import manifest
from fairloop.client import Operation, progress_of
from fairloop.dataset import Dataset
from fairloop.errors import FairloopError
from fairloop.leaks.gate import read_leaking
from fairloop.leaks.report import left_out
from fairloop.store import ObjectStore
from fairloop.v1 import generator_pb2
from tests.e2e.conftest import Stack
from tests.support.processes import select_pause

SMALL = {
    "name": "small",
    "audit_images": 500,
    "pilot_images": 100,
    "train_subjects": 48,
    "images_per_subject": 5,
    "eval_subjects": 24,
    "eval_images": 4,
    "training_seeds": 2,
    "epochs": 2,
    "replicates": 200,
    "fmr": 0.05,
}


class Numbers(HTMLParser):
    """The numbers of a page by their path in its document, and the text that a reader sees of each."""

    def __init__(self) -> None:
        super().__init__()
        self.values: dict[str, float] = {}
        self.texts: dict[str, str] = {}
        self._path = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if "data-path" in found:
            self._path = str(found["data-path"])
            self.values[self._path] = float(str(found["data-value"]))

    def handle_data(self, data: str) -> None:
        if self._path:
            self.texts[self._path] = data
            self._path = ""


def demo(stack: Stack, *words: str) -> subprocess.Popen[str]:
    settings = [word for name, value in SMALL.items() for word in ("--set", f"{name}={value}")]
    return subprocess.Popen(
        [sys.executable, "-m", "flows.demo", "--state", str(stack.state), *settings, *words],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finished(process: subprocess.Popen[str]) -> str:
    output, _ = process.communicate(timeout=500)
    assert process.returncode == 0, output
    return output


def wait_for_balanced_set(stack: Stack, process: subprocess.Popen[str]) -> Operation[Any]:
    """The operation that makes the balanced training set, once 20–80 % of it is done."""
    client = stack.client()
    while True:
        assert process.poll() is None, process.communicate()[0]
        for key in stack.store().list("active/generator/"):
            name = f"operations/{key.rsplit('/', 1)[1]}"
            operation = Operation(name, client.generator, generator_pb2.GenerateResult)
            try:
                progress = progress_of(operation._get())
            except FairloopError:
                continue
            body = stack.store().get_json(f"{name}/request.json")
            balanced = b"train-balanced" in base64.b64decode(body["body"])
            if balanced and progress.total and progress.done / progress.total >= 0.2:
                assert progress.done / progress.total <= 0.8, progress
                return operation
        select_pause(0.1)


@pytest.mark.timeout(900)
def test_a_round_survives_the_death_of_its_flow_and_its_page_says_what_its_tables_hold(stack: Stack) -> None:
    first = demo(stack)
    wait_for_balanced_set(stack, first)
    stack.kill("flows", whole=True)
    first.kill()
    first.communicate(timeout=60)
    stack.up()
    output = finished(demo(stack))
    assert "before" in output
    assert "The page: file://" in output
    store = stack.store()
    report = report_of(output, stack)
    disturbed = store.get_json(f"{report}/report.json")
    page_says_what_tables_hold(store, report, disturbed)
    everything_is_named_and_inherited(store, disturbed)
    what_leaks_is_left_out_and_counted(store, disturbed)


def report_of(output: str, stack: Stack) -> str:
    line = next(line for line in output.splitlines() if line.startswith("report: "))
    assert (stack.state / "demo" / "index.html").exists()
    return line.removeprefix("report: ").strip()


def page_says_what_tables_hold(store: ObjectStore, report: str, body: dict[str, Any]) -> None:
    found = manifest.load(store, report, "fairloop.report/1")
    page = Numbers()
    page.feed(manifest.read_part(store, found.part("/index.html")).decode())
    after_report = body["reports"][1]
    cells = table(store, after_report, "cells.parquet")
    for place, row in enumerate(cells):
        assert page.values[f"shares.cells.{place}.after.value"] == pytest.approx(row["share"])
        assert page.values[f"shares.cells.{place}.after.low"] == pytest.approx(row["interval"][0])
        shown = page.texts[f"shares.cells.{place}.after.value"].replace("%", "").strip()
        assert float(shown) == pytest.approx(100 * row["share"], rel=0.01, abs=0.01)
    groups = table(store, body["reports"][3], "groups.parquet")
    for arm in range(2):
        for place in range(2):
            runs = [row for row in groups if row["arm"] == ("generated", "balanced")[arm]]
            mine = [row for row in runs if row["group"] == runs[place]["group"]]
            mean = sum(row["fnmr"] for row in mine) / len(mine)
            path = f"verification.arms.{arm}.groups.{place}.fnmr.value"
            assert page.values[path] == pytest.approx(mean)


def table(store: ObjectStore, report: str, name: str) -> list[dict[str, Any]]:
    found = manifest.load(store, report, "fairloop.report/1")
    rows: list[dict[str, Any]] = pq.read_table(
        io.BytesIO(manifest.read_part(store, found.part(f"/{name}")))
    ).to_pylist()
    return rows


def everything_is_named_and_inherited(store: ObjectStore, body: dict[str, Any]) -> None:
    made = body["context"]["sets"]["balanced"]
    dataset = Dataset.open(store, made["dataset"])
    rows = dataset.rows()
    assert {row["source"] for row in rows} == {"synthetic"}
    assert {row["model"] for row in rows} == {body["context"]["steered"]["model"]}
    assert all(row["requested_cell"] for row in rows)
    steered = manifest.load(store, body["context"]["steered"]["model"], "fairloop.model/1")
    assert steered.terms == manifest.load(store, steered.parents[0], "fairloop.model/1").terms
    assert body["after"]["label_source"] != body["after_steering"]["label_source"]


def what_leaks_is_left_out_and_counted(store: ObjectStore, body: dict[str, Any]) -> None:
    assert body["context"]["leaks"].keys() == {"generated", "balanced"}
    for arm, found in body["context"]["leaks"].items():
        gone = left_out(read_leaking(store, found["report"]))
        made = body["context"]["sets"][arm]
        ids = set(Dataset.open(store, made["dataset"]).index["image_id"].to_pylist())
        assert gone.isdisjoint(ids)
        assert len(gone) == found["left_out"] == found["images"] - len(ids)
        assert int(made["images"]) == len(ids)
