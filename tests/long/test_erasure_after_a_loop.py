"""People who went through a whole loop are erased: a search of all that is stored finds nothing of them."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from deploy.local.parts import ROOT
from fairloop import erasure, manifest
from fairloop.cli import main
from fairloop.client import Client
from fairloop.dataset import Dataset
from fairloop.store import ObjectStore
from fairloop.table_store import EMBEDDINGS, read_table
from fairloop.v1 import annotator_pb2, generator_pb2, metrics_pb2, recognizer_pb2
from fairloop.v1.common_pb2 import LabelSource
from tests.e2e.conftest import Stack, free_port_base
from tests.e2e.test_loop import report_of
from tests.support import stored_traces as traces
from tests.support.rendered_subjects import rendered_subjects

pytestmark = pytest.mark.loop

PEOPLE, PICTURES = 200, 2
GONE = ("people:zq-person-017", "people:zq-person-104", "people:zq-person-199")
KEPT = "people:zq-person-103"
"""Who shows that the search finds people in all places where the others must not be."""
SMALL = {
    "name": "after-people",
    "audit_images": 300,
    "pilot_images": 100,
    "train_subjects": 24,
    "images_per_subject": 3,
    "eval_subjects": 20,
    "eval_images": 3,
    "training_seeds": 1,
    "epochs": 1,
    "replicates": 100,
    "fmr": 0.05,
    "leak_embedded_images": 0,
}
ERASE = """
import sys
from fairloop import erasure
from fairloop.store import ObjectStore
def told(stage, done, total):
    print(stage, done, total, flush=True)
    sys.stdin.readline()
erasure.erase(ObjectStore.from_environment(), sys.argv[1:], reason="withdrew consent", progress=told)
"""
"""Each step waits for a line: whoever kills it knows how far it is at most."""
TONE = LabelSource(attribute="skin_tone_band", annotator="ita")
ROWS = ("datasets/", "annotations/", "embeddings/")
"""Where a person who stays is still found after an erasure; the rest is scratch."""


class Loop:
    """The stack, the people on a disk and in the store, and what was made of them."""

    def __init__(self, folder: Path) -> None:
        self.stack = Stack(folder / "state", free_port_base())
        self.photos = folder / "photos"
        pixels, who = rendered_subjects(11, PEOPLE, PICTURES)
        for number, (picture, person) in enumerate(zip(pixels, who, strict=True)):
            path = self.photos / f"zq-person-{person:03}" / f"zq-{number:04}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(path)

    def bring(self) -> str:
        """Imports all people as a user does, and splits them in two; the first dataset's name."""
        ran = self.command("import", "folder", str(self.photos), "--name", "people", "--subjects", "folder")
        assert f"{PEOPLE * PICTURES} images of {PEOPLE} subjects" in ran, ran
        name = next(word for word in ran.split() if word.startswith("datasets/people/versions/")).rstrip(":")
        self.command("datasets", "split", name, "--shares", "train=0.5,val=0.5", "--apart", "--to", "half")
        return name

    def command(self, *words: str, status: int = 0) -> str:
        ran = CliRunner().invoke(main, [*words, "--state-dir", str(self.stack.state)])
        assert ran.exit_code == status, (ran.output, ran.exception)
        return f"{ran.output}{ran.exception or ''}"

    def work(self, client: Client, dataset: str) -> None:
        """A generator and a recogniser learn from the people, and they are labelled and embedded."""
        base = client.generator.model("models/dcgan-faces")
        self.generator = (
            client.generator.fine_tune(
                generator_pb2.FineTuneGeneratorRequest(
                    model=base,
                    target_model="models/people-gan",
                    dataset=dataset,
                    gan=generator_pb2.Gan(epochs=1, batch_size=16, max_steps=2, learning_rate=1e-9),
                )
            )
            .result(900)
            .model
        )
        self.recogniser = (
            client.recognizer.fine_tune(
                recognizer_pb2.FineTuneRecognizerRequest(
                    dataset=dataset,
                    target_model="models/people-recogniser",
                    options=recognizer_pb2.TrainingOptions(epochs=1),
                )
            )
            .result(900)
            .model
        )
        self.annotations = (
            client.annotator.annotate(annotator_pb2.AnnotateRequest(dataset=dataset, annotators=["ita"]))
            .result(900)
            .annotations
        )
        self.embeddings = (
            client.recognizer.embed(recognizer_pb2.EmbedRequest(dataset=dataset, model=self.recogniser))
            .result(900)
            .embeddings
        )

    def evaluate(self, client: Client, request_id: str) -> dict[str, Any]:
        """Rates of the recogniser on the people, by perceived tone; `report` names where they are kept."""
        request = metrics_pb2.EvaluateVerificationRequest(
            embeddings=self.embeddings,
            grouping=metrics_pb2.Grouping(annotations=self.annotations, sources=[TONE]),
            fmr=0.05,
            replicates=100,
            request_id=request_id,
        )
        made = client.metrics.evaluate_verification(request).result(900)
        return {**json.loads(made.summary_json), "report": made.report}

    def leaks(self, client: Client, dataset: str, against: str) -> str:
        """The report of pictures of one set that look like pictures of another: it shows both."""
        request = metrics_pb2.FindLeaksRequest(dataset=against, against=[dataset], radius=10)
        return client.metrics.find_leaks(request).result(900).report

    def round(self) -> dict[str, Any]:
        """One round of the flow from the generator that saw the people; the document of its report."""
        values = {**SMALL, "base_model": self.generator}
        words = [word for name, value in values.items() for word in ("--set", f"{name}={value}")]
        ran = subprocess.run(
            [sys.executable, "-m", "flows.demo", "--state", str(self.stack.state), *words],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=1500,
        )
        assert ran.returncode == 0, ran.stdout
        made: dict[str, Any] = self.stack.store().get_json(f"{report_of(ran.stdout, self.stack)}/report.json")
        return made

    def secrets(self, dataset: str, subjects: Iterable[str]) -> dict[str, bytes]:
        """Bytes, numbers and names of these people, by what they are."""
        store, wanted = self.stack.store(), set(subjects)
        made: dict[str, bytes] = {}
        ids = set()
        for row, data in Dataset.open(store, dataset).images():
            if row["subject_id"] in wanted:
                file = dict(row["labels"])["file"]
                ids.add(row["image_id"])
                made |= {f"bytes of {file}": data, f"path {file}": file.encode()}
                # A part of the compressed pixels, too: no two pictures have it in common.
                made[f"middle of {file}"] = data[len(data) // 2 :][:64]
                made[f"name {file}"] = file.rpartition("/")[2].encode()
        assert len(ids) == len(wanted) * PICTURES
        for row in read_table(store, self.embeddings, EMBEDDINGS)[1].to_pylist():
            if row["image_id"] in ids and row["embedding"] is not None:
                made[f"embedding of {row['image_id']}"] = np.asarray(row["embedding"], np.float32).tobytes()
        assert sum(what.startswith("embedding") for what in made) == len(ids)
        return made | {f"subject {subject}": subject.partition(":")[2].encode() for subject in sorted(wanted)}


def kinds(places: Mapping[str, set[str]]) -> dict[str, set[str]]:
    """Of each secret: collections, endings and columns where it is; hashes and erasures left out."""
    return {
        what: {
            f"{key.partition('/')[0]} {key.rpartition('.')[2]} {'' if '.tar' in key else column}"
            for key, _, column in (place.partition(":") for place in found)
            # In a compressed file a name can stand in the clear by chance.
            if key.startswith(ROWS) and (column or not key.endswith(".parquet"))
        }
        for what, found in places.items()
    }


def copied(store: ObjectStore, bucket: str) -> ObjectStore:
    """A second bucket with the same objects."""
    other = ObjectStore(replace(store.settings, bucket=bucket))
    other.ensure_bucket()
    for key in store.list(""):
        other.put(key, store.get(key))
    return other


def contents(store: ObjectStore) -> dict[str, str]:
    """sha256 of every object but the receipt, which tells times."""
    return {
        key: hashlib.sha256(store.get(key)).hexdigest()
        for key in store.list("")
        if not key.endswith("/receipt.json")
    }


def kill_in_the_middle(environment: Mapping[str, str], subjects: Iterable[str]) -> None:
    """An erasure in a process of its own, kill −9 when 20–80 % of the resources are rewritten."""
    child = subprocess.Popen(
        [sys.executable, "-c", ERASE, *subjects],
        env={**os.environ, **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdin is not None
    assert child.stdout is not None
    for line in child.stdout:
        stage, done, total = line.split()
        child.stdin.write("go on\n")
        child.stdin.flush()
        if stage == "rewriting" and int(done) / int(total) >= 0.2:
            assert int(done) / int(total) <= 0.6, line  # it can do one more resource of five
            child.send_signal(signal.SIGKILL)
            break
    assert child.wait(60) == -signal.SIGKILL
    child.stdin.close()
    child.stdout.close()


@pytest.mark.timeout(1800)
def test_nothing_is_left_of_people_who_are_erased_after_a_loop(tmp_path: Path) -> None:
    loop = Loop(tmp_path)
    try:
        loop.stack.up()
        store, state = loop.stack.store(), loop.stack.state
        dataset = loop.bring()
        with loop.stack.client() as client:
            loop.work(client, dataset)
            before = loop.evaluate(client, "before")
            body = loop.round()
            leaks = loop.leaks(client, dataset, body["context"]["sets"]["balanced"]["dataset"])
            gone, kept = loop.secrets(dataset, GONE), loop.secrets(dataset, [KEPT])
            were = traces.found({**gone, **kept}, traces.bucket(store))
            assert were.keys() == gone.keys() | kept.keys(), "each of these is there to be found"
            assert all(kinds(were).values())

            undisturbed = copied(store, "undisturbed")
            whole = erasure.erase(undisturbed, GONE, reason="withdrew consent")
            kill_in_the_middle(loop.stack.environment, GONE)
            assert traces.found(gone, traces.bucket(store)).keys() == gone.keys()
            receipt = erasure.erase(store, GONE, reason="withdrew consent")
            assert replace(receipt, begun="", finished="") == replace(whole, begun="", finished="")
            assert contents(store) == contents(undisturbed)

            assert traces.found(gone, traces.bucket(store)) == {}
            still = {what: were[what] for what in kept}
            assert kinds(traces.found(kept, traces.bucket(store))) == kinds(still)
            assert (receipt.subjects, receipt.images) == (len(GONE), len(GONE) * PICTURES)

            databases = [path for path in (state / "prefect").rglob("*.db") if path.stat().st_size]
            assert databases, "the database that is searched"
            asked = {"the flow's parameter": loop.generator.encode()}
            for path in databases:
                assert traces.found(asked, traces.database(path)).keys() == asked.keys()
                assert traces.found(gone, traces.database(path)) == {}
            for folder in ("prefect", "logs", "demo"):
                assert traces.found(gone, traces.files(state / folder)) == {}

            # What learned of them says so, the whole round included; what was counted of them is outdated.
            learned = {loop.generator, loop.recogniser, body["context"]["steered"]["model"]}
            assert learned <= set(receipt.models)
            for name in learned:
                assert manifest.load(store, name, "fairloop.model/1").details["contains_erased"]
            touched = {*receipt.reports_outdated, *receipt.reports_withdrawn}
            assert {before["report"], leaks, *body["reports"]} <= touched

            after = loop.evaluate(client, "after")
            assert before["counts"]["subjects"] - after["counts"]["subjects"] == len(GONE)
            assert before["counts"]["images"] - after["counts"]["images"] == len(GONE) * PICTURES
            assert after["report"] != before["report"]
        refused = loop.command(
            *("import", "folder", str(loop.photos), "--name", "again", "--subjects", "folder"),
            *("--namespace", "people"),
            status=1,
        )
        assert "was erased" in refused
        assert "nothing was imported" in refused
        assert [key for key in store.list("datasets/again/") if key.endswith("manifest.json")] == []
    finally:
        loop.stack.down()
    assert loop.stack.members() == []
