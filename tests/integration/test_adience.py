"""Levi & Hassner's networks: Caffe files of the published layout, against numpy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from fairloop.errors import InvalidInput
from fairloop.taxonomy import ATTRIBUTES, vocabulary
from services.annotator.adience import MEAN, Adience, face_view
from services.annotator.face import Face
from tests.support.tiny_annotators import caffe_network

# seeds.md, 0.4
AGES = ["(0-2)", "(4-6)", "(8-12)", "(15-20)", "(25-32)", "(38-43)", "(48-53)", "(60-100)"]

Networks = tuple[tuple[Path, Path], tuple[Path, Path]]
RANDOM = np.random.default_rng(3)
WEIGHTS = {
    name: (RANDOM.normal(0, 0.05, (n, 3)).astype(np.float32), RANDOM.normal(0, 1, n).astype(np.float32))
    for name, n in (("gender", 2), ("age", 8))
}


@pytest.fixture
def networks(tmp_path: Path) -> Networks:
    gender, age = (caffe_network(tmp_path, name, *WEIGHTS[name]) for name in ("gender", "age"))
    return gender, age


def flat(colour: tuple[int, int, int]) -> Face:
    """A face of one colour: no resizing changes it."""
    pixels = np.full((200, 320, 3), colour, np.uint8)
    return Face(pixels, (100.0, 50.0, 180.0, 130.0), np.zeros((5, 2), np.float32))


# OpenCV adds the 51,529 pixels of a colour in float32: three digits are exact.
def expected(name: str, colour: tuple[int, int, int]) -> NDArray[np.float64]:
    weights, bias = WEIGHTS[name]
    scores = weights.astype(np.float64) @ (np.array(colour[::-1]) - MEAN) + bias  # blue first
    result: NDArray[np.float64] = np.exp(scores) / np.exp(scores).sum()
    return result


def test_probabilities_are_the_networks_in_the_order_of_the_bins(networks: Networks) -> None:
    colours = [(200, 30, 60), (20, 180, 90), (90, 90, 220), (128, 128, 128)]
    answers = Adience(*networks).annotate([flat(colour) for colour in colours])
    for colour, answer in zip(colours, answers, strict=True):
        male, female = expected("gender", colour)
        assert answer["gender"].probabilities == pytest.approx((female, male), abs=1e-3)
        assert answer["gender"].label == ("male" if male >= female else "female")
        ages = expected("age", colour)
        assert answer["age_adience"].probabilities == pytest.approx(ages, abs=1e-3)
        assert answer["age_adience"].label == ATTRIBUTES["age_adience"][int(ages.argmax())]
    assert len({answer["age_adience"].label for answer in answers}) > 1


def test_the_eight_bins_are_those_of_the_reference_system() -> None:
    source = vocabulary("adience", "age_adience")
    assert list(source.labels) == AGES
    assert [value.replace("_", "-") for value in source.values] == [label.strip("()") for label in AGES]


def test_the_face_is_seen_with_twenty_of_640_pixels_around_it_and_cut_at_the_border() -> None:
    pixels = np.arange(200 * 320 * 3, dtype=np.uint32).astype(np.uint8).reshape(200, 320, 3)
    landmarks = np.zeros((5, 2), np.float32)
    inner = face_view(Face(pixels, (100.0, 50.0, 180.0, 130.0), landmarks))
    assert (inner == pixels[40:140, 90:190]).all()
    corner = face_view(Face(pixels, (-5.0, -5.0, 60.0, 60.0), landmarks))
    assert (corner == pixels[:70, :70]).all()
    outside = face_view(Face(pixels, (400.0, 300.0, 500.0, 400.0), landmarks))
    assert outside.shape == (1, 1, 3)


def test_other_files_are_refused_with_their_names(networks: Networks, tmp_path: Path) -> None:
    gender, age = networks
    with pytest.raises(InvalidInput, match=r"age_net\.caffemodel gives \(1, 8\).*gender has 2"):
        Adience(age, age)
    broken = tmp_path / "broken.caffemodel"
    broken.write_bytes(b"\xff" * 1000)
    with pytest.raises(InvalidInput, match=r"broken\.caffemodel are no Caffe network"):
        Adience((gender[0], broken), age)
