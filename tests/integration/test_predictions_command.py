"""`fairloop predictions`: fairness by attribute, and the predictions as files where they are asked for."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from fairloop.cli import main
from fairloop.dataset import Dataset, DatasetWriter, Image
from fairloop.manifest import Manifest
from fairloop.store import ObjectStore
from fairloop.table_store import PREDICTIONS, TableWriter, to_parquet
from fairloop.tables import prediction_schema
from tests.support.trees import image_bytes

# The toy of AI-Face's measures: false positives 1 of 4 and 2 of 4, true positives 3 of 4 and 4 of 4.
TRUTH = [0, 0, 0, 0, 1, 1, 1, 1] * 2
SCORES = [0.1, 0.2, 0.3, 0.6, 0.7, 0.8, 0.9, 0.4, 0.1, 0.2, 0.6, 0.7, 0.6, 0.7, 0.8, 0.9]
GENDER = ["female"] * 8 + ["male"] * 8
TONE = ["light", "dark"] * 8


def judged(store: ObjectStore) -> tuple[Dataset, Manifest]:
    """Sixteen images of the toy and one without a gender, and what a detector says of each."""
    writer = DatasetWriter(store, "datasets/judged")
    for number, (gender, tone) in enumerate(zip([*GENDER, None], [*TONE, "light"], strict=True)):
        labels = {"skin_tone_band": tone} | ({"gender": gender} if gender else {})
        writer.add(Image(image_bytes(number, ".png"), 13, 12, "png", labels=labels))
    made = writer.finish()
    names = ("real", "fake")
    rows = [
        {
            "image_id": row["image_id"],
            "subject_id": None,
            "truth": names[truth],
            "predicted": names[score >= 0.5],
            "score": score,
        }
        for row, truth, score in zip(made.rows(), [*TRUTH, 1], [*SCORES, 0.9], strict=True)
    ]
    table = TableWriter(store, PREDICTIONS, prediction_schema(), [made.name])
    table.add(to_parquet(rows, prediction_schema()))
    return made, table.finish({"images": len(rows)}, details={"model": "models/detector"})


def run(environment: Mapping[str, str], *words: str) -> str:
    ran = CliRunner().invoke(main, ["predictions", *words], env=dict(environment))
    assert ran.exit_code == 0, ran.output
    return ran.output


def test_predictions_by_attribute_are_written_where_asked_for_and_gone_when_not(
    store: ObjectStore, store_environment: Mapping[str, str], tmp_path: Path
) -> None:
    made, table = judged(store)
    out = tmp_path / "out"
    words = [table.name, "--by", "gender", "--by", "gender,skin_tone_band", "--to", str(out)]
    said = run(store_environment, *words, "--replicates", "20", "--keep-predictions")
    assert "genderlabels.npy" in said
    np.testing.assert_array_equal(np.load(out / "genderlabels.npy"), TRUTH)
    np.testing.assert_array_equal(np.load(out / "genderpredictions.npy"), SCORES)
    assert len(np.load(out / "gender-skin_tone_bandlabels.npy")) == 16
    with open(out / "predictions.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["image_id"] for row in rows] == [row["image_id"] for row in made.rows()]
    assert rows[3]["predicted"] == "fake"
    assert rows[9]["gender,skin_tone_band"] == "male,dark"
    assert rows[16]["gender"] == ""
    report = json.loads((out / "gender.json").read_text())
    assert report["measures"]["f_fpr"]["value"] == pytest.approx(25)
    assert report["measures"]["f_meo"]["value"] == pytest.approx(25)
    assert {group["group"] for group in report["groups"]} == {"female", "male"}

    run(store_environment, *words, "--replicates", "20", "--overwrite")
    assert {path.name for path in out.iterdir()} == {
        "gender.json",
        "gender-skin_tone_band.json",
        "manifest.json",
    }
    assert json.loads((out / "gender.json").read_text()) == report


def test_a_label_that_nobody_carries_and_a_folder_that_exists_are_refused(
    store: ObjectStore, store_environment: Mapping[str, str], tmp_path: Path
) -> None:
    _, table = judged(store)
    for words, said in [
        (
            ["--by", "race", "--to", str(tmp_path / "x")],
            "no image carries the label 'race'; there are gender",
        ),
        (["--by", "gender", "--to", str(tmp_path)], "--to"),
    ]:
        (tmp_path / "mine.txt").write_text("mine")
        ran = CliRunner().invoke(main, ["predictions", table.name, *words], env=dict(store_environment))
        assert ran.exit_code == 1
        assert said in ran.output
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
