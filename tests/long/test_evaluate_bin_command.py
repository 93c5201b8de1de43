"""insightface's quick protocol on a `.bin` file, against distances of the network's own embeddings."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result

from fairloop.pixels import decode
from services.recognizer import network, residual
from services.recognizer.bin_evaluation import evaluate_bin
from tests.support.faces import pngs

pytestmark = pytest.mark.recognizer

PAIRS = 40


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights, and forty pairs of rendered faces, every other one of one person."""
    folder = tmp_path_factory.mktemp("bin")
    torch.manual_seed(3)
    residual.save(residual.Residual(residual.Shape(size=64)), folder / "small.safetensors")
    people = pngs(PAIRS // 2 + 1, 2, 1)
    images, same = [], []
    for pair in range(PAIRS):
        one = people[pair // 2]
        images += [one[0], one[1] if pair % 2 == 0 else people[pair // 2 + 1][0]]
        same.append(pair % 2 == 0)
    (folder / "tiny.bin").write_bytes(pickle.dumps((images, same)))
    return folder


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(evaluate_bin, [str(word) for word in words])


def test_accuracy_is_that_of_the_first_best_grid_threshold_of_the_other_folds(files: Path) -> None:
    target = files / "found.json"
    words = (files / "tiny.bin", "--model", files / "small.safetensors", "--far", "0.1", "--to", target)
    result = run(*words)
    assert result.exit_code == 0, result.output
    net = network.load("residual", files / "small.safetensors")
    images, same = pickle.loads((files / "tiny.bin").read_bytes())
    rows = network.embed(net, np.stack([decode(data) for data in images]), flip=True).astype(np.float64)
    distance, genuine = ((rows[0::2] - rows[1::2]) ** 2).sum(axis=1), np.array(same)
    accuracies = []
    for fold in range(10):
        test = np.arange(PAIRS) // (PAIRS // 10) == fold
        right = [((distance[~test] < at) == genuine[~test]).mean() for at in np.arange(0, 4, 0.01)]
        best = np.arange(0, 4, 0.01)[int(np.argmax(right))]
        accuracies.append(((distance[test] < best) == genuine[test]).mean())
    found = json.loads(target.read_text())["sets"]["tiny.bin"]
    assert found["grid"]["accuracy"] == pytest.approx(np.mean(accuracies))
    assert found["grid"]["accuracies"] == pytest.approx(accuracies)
    assert f"[tiny] accuracy {np.mean(accuracies):.5f} ± {np.std(accuracies):.5f} (grid)" in result.output
    assert "at FAR" in result.output


def test_a_file_that_is_no_bin_and_an_image_that_is_none_are_named(files: Path, tmp_path: Path) -> None:
    (tmp_path / "x.bin").write_bytes(b"text")
    model = ("--model", files / "small.safetensors")
    assert "x.bin" in run(tmp_path / "x.bin", *model).output
    images, same = pickle.loads((files / "tiny.bin").read_bytes())
    (tmp_path / "broken.bin").write_bytes(pickle.dumps(([*images[:3], b"no image", *images[4:]], same)))
    result = run(tmp_path / "broken.bin", *model)
    assert result.exit_code == 1
    assert "broken.bin: image 3" in result.output
    assert "is no file" in run(tmp_path / "absent.bin", *model).output
    assert "--far: 2.0 is outside 0–1" in run(files / "tiny.bin", *model, "--far", "2").output
