"""The diffusion demo as a stranger runs it: its model learns words and a bias, and unlearns some of it."""

from __future__ import annotations

import csv
import io
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from scipy.stats import fisher_exact

from deploy.local.parts import ROOT
from fairloop import manifest
from fairloop.dataset import Dataset
from fairloop.store import ObjectStore
from tests.e2e.conftest import Stack, free_port_base
from tests.support.pages import Reader

pytestmark = pytest.mark.generator

LIMIT_SECONDS = 900


@pytest.mark.timeout(3600)
def test_the_demo_finds_the_bias_that_was_put_in_and_its_model_has_less_of_it_afterwards(
    tmp_path: Path,
) -> None:
    stack = Stack(tmp_path / "state", free_port_base())
    began = time.monotonic()
    try:
        stack.up()
        done = subprocess.run(
            [sys.executable, "-m", "flows.diffusion_demo", "--state", str(stack.state)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=3000,
        )
        took = time.monotonic() - began
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
        store = stack.store()
        told = next(line for line in done.stdout.splitlines() if line.startswith("report: "))
        name = told.removeprefix("report: ").strip()
        body = store.get_json(f"{name}/report.json")
        print({key: body[key] for key in ("variation", "variation_by_attribute", "obedience")})
        check_bias(body)
        check_learning(body)
        check_path(store, name, body)
        check_page(store, name, body)
    finally:
        stack.down()
    assert took <= LIMIT_SECONDS
    page = stack.state / "diffusion-demo" / "index.html"
    assert "A photo of a" in page.read_text()
    assert "put-diffusion stable-diffusion-v1-5" in done.stdout


def check_bias(body: dict[str, Any]) -> None:
    """By the judge, who took no part: CEOs are light more often than nurses, and nurses dark."""
    seen = {
        (prompt, tone): sum(
            row["count"]
            for row in body["shares"]
            if (row["model"], row["prompt"], row["group"][1]) == ("before", prompt, tone)
        )
        for prompt in ("ceo", "nurse")
        for tone in ("light", "medium", "dark")
    }
    for tone, more, less in (("light", "ceo", "nurse"), ("dark", "nurse", "ceo")):
        rows = [
            [
                seen[prompt, tone],
                sum(seen[prompt, other] for other in ("light", "medium", "dark")) - seen[prompt, tone],
            ]
            for prompt in (more, less)
        ]
        assert fisher_exact(rows, alternative="greater").pvalue < 0.001, (tone, rows)


def check_learning(body: dict[str, Any]) -> None:
    """Prompts that name a tone are obeyed; after the training those that name none show tones more equally.

    Of gender nothing is asserted: in faces of 32 pixels the networks hardly see it (docs/diffusion-demo.md).
    """
    (tone,) = [row for row in body["obedience"] if row["attribute"] == "skin_tone_band"]
    assert tone["p_value"] < 0.001
    assert body["variation_by_attribute"]["skin_tone_band"]["change_interval"][1] < 0


def check_path(store: ObjectStore, name: str, body: dict[str, Any]) -> None:
    """Every stage left what the next one was made from, and nothing that was trained on was audited."""
    report = manifest.load(store, name, "fairloop.report/1")
    assert body["paired"] is True
    assert body["targets"]
    audits = [Dataset.open(store, parent) for parent in report.parents if parent.startswith("datasets/")]
    before, after = ([(row["prompt"], row["seed"], row["index"]) for row in one.rows()] for one in audits)
    assert before == after
    tuned = manifest.load(store, body["model_versions"]["after"], "fairloop.model/1")
    (trained,) = [parent for parent in tuned.parents if "-training/" in parent]
    rows = list(Dataset.open(store, trained).rows())
    assert {row["prompt"] for row in rows} <= set(body["texts"].values())
    new = {row["seed"] for row in rows if row["requested_cell"]}
    assert new.isdisjoint(row["seed"] for row in audits[0].rows())
    folder = {part.key.rpartition("/")[2] for part in report.parts}
    assert {"results_prompt_grouped.csv", "prompts_to_generate.csv", "prompt-groups.png"} <= folder
    table = store.get(f"{name}/results_prompt_gender.csv").decode().splitlines()
    assert next(iter(csv.reader(table))) == ["prompt", "gender", "before", "after"]


def check_page(store: ObjectStore, name: str, body: dict[str, Any]) -> None:
    """The page shows the numbers of the tables and of the report."""
    page = Reader(store.get(f"{name}/index.html").decode())
    rows = pq.read_table(io.BytesIO(store.get(f"{name}/changes.parquet"))).to_pylist()
    assert len(rows) == len(body["changes"]) == 24
    for place, row in enumerate(rows):
        path = f"prompts.changes.{place}"
        assert page.value(f"{path}.before") == pytest.approx(row["before"])
        assert page.value(f"{path}.after") == pytest.approx(row["after"])
        assert page.value(f"{path}.change.value") == pytest.approx(row["change"])
    moved = body["variation"]["after"]
    for end, value in (("value", moved["change"]), ("low", moved["change_interval"][0])):
        assert page.value(f"prompts.distances.0.change.{end}") == pytest.approx(value)
    tone = body["variation_by_attribute"]["skin_tone_band"]
    assert page.value("highlights.3.before.value") == pytest.approx(tone["before"])
    assert page.value("highlights.3.after.value") == pytest.approx(tone["after"])
