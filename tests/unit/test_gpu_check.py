"""The check of a GPU: what it says where there is none, when two devices agree, and its report."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner

from deploy.gpu_check import report
from deploy.gpu_check.__main__ import main
from deploy.gpu_check.faces import same_embeddings, same_labels
from deploy.gpu_check.world import Wrong
from fairloop.tables import guess_column


def test_without_a_gpu_it_says_so_checks_nothing_and_ends_with_status_3(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    path = tmp_path / "gpu-report.json"
    result = CliRunner().invoke(main, ["--report", str(path)])
    assert result.exit_code == 3
    assert "no GPU" in result.stderr
    assert "Nothing was checked" in result.stderr
    assert not path.exists()


def test_a_failed_check_fails_the_report_and_says_what_was_wrong(tmp_path: Path) -> None:
    outcomes = [
        report.Outcome("draws", 2.0, measures={"images_per_second": 3.0}),
        report.Outcome("LoRA", 1.5, "the loss is nan", {"losses": [1.0, float("nan")]}),
    ]
    path = tmp_path / "report.json"
    report.write(path, "cuda", {"name": "a GPU"}, False, outcomes, "2026-01-01T00:00:00Z")
    found = json.loads(path.read_text())
    assert (found["passed"], found["seconds"]) == (False, 3.5)
    assert [check["passed"] for check in found["checks"]] == [True, False]
    assert found["checks"][1]["measures"] == {"losses": [1.0, "nan"]}
    assert outcomes[0].line == "passed  draws (2 s): images per second 3"
    assert outcomes[1].line == "failed  LoRA (2 s): the loss is nan"


def table(**probabilities: list[list[float]]) -> pa.Table:
    """Genders by each annotator for so many faces."""
    columns: dict[str, object] = {"status": ["ok"] * len(next(iter(probabilities.values())))}
    for annotator, rows in probabilities.items():
        labels = ["female" if first > second else "male" for first, second in rows]
        columns[guess_column("gender", annotator)] = labels
        columns[guess_column("gender", annotator, "probabilities")] = rows
    return pa.table(columns)


SURE, UNSURE, OTHER = [0.9, 0.1], [0.55, 0.45], [0.2, 0.8]


def test_annotators_agree_within_rounding_and_not_beyond_it() -> None:
    processor = table(clip=[SURE, OTHER], fairface=[SURE, OTHER])
    found = same_labels(table(clip=[[0.91, 0.09], OTHER], fairface=[SURE, OTHER]), processor)
    assert found["gender by clip"]["largest_difference"] == pytest.approx(0.01)
    assert found["gender by clip"]["other_labels"] == 0
    with pytest.raises(Wrong, match=r"fairface: probabilities differ by up to 0\.350"):
        same_labels(table(clip=[SURE, OTHER], fairface=[UNSURE, OTHER]), processor)
    with pytest.raises(Wrong, match="other faces were found"):
        same_labels(processor.set_column(0, "status", [["ok", "no_face"]]), processor)


def test_an_annotator_that_says_the_same_of_every_face_agrees_with_nothing() -> None:
    alike = table(clip=[SURE, SURE], fairface=[SURE, OTHER])
    with pytest.raises(Wrong, match="clip says nearly the same of every face"):
        same_labels(alike, alike)
    with pytest.raises(Wrong, match="fairface: probabilities differ by up to nan"):
        same_labels(table(clip=[SURE, OTHER]), table(clip=[SURE, OTHER]))


def test_embeddings_agree_when_each_is_nearest_to_itself_on_the_other_device() -> None:
    vectors = np.eye(3)
    assert same_embeddings(vectors, vectors) == {
        "least_cosine": 1.0,
        "largest_cosine_of_others": 0.0,
        "median_cosine_of_others": 0.0,
    }
    with pytest.raises(Wrong, match=r"a cosine of 0\.00000"):
        same_embeddings(vectors, vectors[[1, 0, 2]])
    with pytest.raises(Wrong, match=r"other images are as near \(1\.00000\)"):
        same_embeddings(vectors[[0, 0]], vectors[[0, 0]])
