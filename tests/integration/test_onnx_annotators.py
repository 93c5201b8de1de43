"""DeepFace's and InsightFace's networks in their published formats, against the libraries' own runs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import insightface.utils.face_align
import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray

from fairloop.errors import InvalidInput
from fairloop.models import fetch
from fairloop.taxonomy import ATTRIBUTES, age_bin
from services.annotator.deepface_demography import DeepFaceDemography
from services.annotator.detector import Detector
from services.annotator.face import Face
from services.annotator.face_api import crop
from services.annotator.images import decode
from services.annotator.insightface_genderage import InsightFaceGenderAge
from services.annotator.shared_trunk import split
from tests.support.deepface_library import deepface_library
from tests.support.tiny_annotators import deepface_network, genderage_network

# statistics.md, 8
GENDERS = {"Woman": "female", "Man": "male"}
RACES = {
    "asian": "asian",
    "indian": "indian",
    "black": "black",
    "white": "white",
    "middle eastern": "middle_eastern",
    "latino hispanic": "latino_hispanic",
}
FILES = {
    "gender": ("gender_model_weights.onnx", 2),
    "race6": ("race_model_single_batch.onnx", 6),
    "age": ("age_model_weights.onnx", 101),
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A DEEPFACE_HOME with networks of the published names."""
    folder = tmp_path_factory.mktemp("deepface")
    weights = folder / ".deepface" / "weights"
    weights.mkdir(parents=True)
    for seed, (name, classes) in enumerate(FILES.values()):
        deepface_network(weights / name, classes, seed)
    return folder


@pytest.fixture(scope="module")
def library(home: Path) -> Iterator[Any]:
    """deepface itself on these networks."""
    with deepface_library(home) as found:
        yield found


@pytest.fixture(scope="module")
def paths(home: Path) -> dict[str, Path]:
    return {attribute: home / ".deepface" / "weights" / name for attribute, (name, _) in FILES.items()}


@pytest.fixture(scope="module")
def faces() -> list[Face]:
    pixels = decode(fetch("insightface-t1").read_bytes())
    return [Face(pixels, one.box, one.landmarks) for one in Detector.load().detect(pixels)]


def test_deepfaces_answers_are_those_of_analyze_without_detection(
    library: Any, paths: dict[str, Path], faces: list[Face]
) -> None:
    answers = DeepFaceDemography(paths).annotate(faces)
    assert len(answers) == len(faces) == 6
    for face, answer in zip(faces, answers, strict=True):
        (expected,) = library.analyze(
            np.ascontiguousarray(crop(face)[:, :, ::-1]),
            actions=["age", "gender", "race"],
            detector_backend="skip",
            silent=True,
        )
        named = {GENDERS[label]: share / 100 for label, share in expected["gender"].items()}
        wanted = [named[value] for value in ATTRIBUTES["gender"]]
        assert answer["gender"].probabilities == pytest.approx(wanted, abs=1e-4)
        assert answer["gender"].label == GENDERS[expected["dominant_gender"]]
        named = {RACES[label]: share / 100 for label, share in expected["race"].items()}
        wanted = [named[value] for value in ATTRIBUTES["race6"]]
        assert answer["race6"].probabilities == pytest.approx(wanted, abs=1e-4)
        assert answer["race6"].label == RACES[expected["dominant_race"]]
        assert answer["age"].value is not None
        assert int(answer["age"].value) == expected["age"]
        assert answer["age"].label == age_bin(expected["age"])
        assert sum(answer["age"].probabilities) == pytest.approx(1, abs=1e-5)
    assert len({answer["race6"].label for answer in answers} | {a["age"].value for a in answers}) > 2


def test_a_graph_for_one_picture_at_a_time_gives_the_same_answers(
    paths: dict[str, Path], faces: list[Face], tmp_path: Path
) -> None:
    fixed = {
        attribute: deepface_network(tmp_path / name, classes, seed, batch=1)
        for seed, (attribute, (name, classes)) in enumerate(FILES.items())
    }
    together, single = (DeepFaceDemography(files).annotate(faces) for files in (paths, fixed))
    for one, other in zip(together, single, strict=True):
        for attribute in FILES:
            assert one[attribute].probabilities == pytest.approx(other[attribute].probabilities, abs=1e-6)


def test_what_networks_of_one_base_have_in_common_is_computed_once_with_the_same_answers(
    faces: list[Face], tmp_path: Path
) -> None:
    files = {
        attribute: deepface_network(tmp_path / name, classes, seed, base=9)
        for seed, (attribute, (name, classes)) in enumerate(FILES.items())
    }
    parts = split(files)
    assert parts is not None
    # The one convolution is in the trunk, each network's own layer in its head.
    operations = [node.op_type for node in onnx.load_model_from_string(parts.trunk).graph.node]
    assert operations == ["Transpose", "Conv", "Relu", "MaxPool", "Flatten"]
    for head in parts.heads.values():
        assert [node.op_type for node in onnx.load_model_from_string(head).graph.node] == ["Gemm", "Softmax"]
    annotator = DeepFaceDemography(files)
    together = annotator.annotate(faces)
    for attribute, path in files.items():
        alone = DeepFaceDemography({attribute: path}).annotate(faces)
        for one, other in zip(together, alone, strict=True):
            assert one[attribute].probabilities == pytest.approx(other[attribute].probabilities, abs=1e-6)
        part = annotator.part([attribute])
        assert (part.attributes, part.version) == ((attribute,), annotator.version)
        assert part.annotate(faces) == [{attribute: one[attribute]} for one in together]
    assert annotator.attributes == ("gender", "race6", "age")


def test_networks_that_share_no_weights_are_left_as_they_are(paths: dict[str, Path]) -> None:
    assert split(paths) is None
    assert split({"age": paths["age"]}) is None


def test_only_the_networks_of_wanted_attributes_are_read(paths: dict[str, Path], faces: list[Face]) -> None:
    part = DeepFaceDemography({"race6": paths["race6"]})
    assert part.attributes == ("race6",)
    assert set(part.annotate(faces[:1])[0]) == {"race6"}
    with pytest.raises(InvalidInput, match=r"attributes: \['race'\] asked; deepface has gender, race6, age"):
        DeepFaceDemography({"race": paths["race6"]})


def test_another_network_than_the_published_one_is_refused_with_its_name(
    paths: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(InvalidInput, match=r"age_model_weights\.onnx maps .*needed are"):
        DeepFaceDemography({"gender": paths["age"]})
    (tmp_path / "noise.onnx").write_bytes(os.urandom(1000))
    with pytest.raises(InvalidInput, match=r"noise\.onnx is no ONNX network"):
        InsightFaceGenderAge(tmp_path / "noise.onnx")
    with pytest.raises(InvalidInput, match=r"race_model_single_batch\.onnx maps"):
        InsightFaceGenderAge(paths["race6"])


def test_insightfaces_gender_is_the_larger_score_female_first_and_age_a_hundredth(
    faces: list[Face], tmp_path: Path
) -> None:
    path = genderage_network(tmp_path / "genderage.onnx", seed=8)
    answers = InsightFaceGenderAge(path).annotate(faces)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    found: set[str | None] = set()
    for face, answer in zip(faces, answers, strict=True):
        left, top, right, bottom = face.box
        centre = ((left + right) / 2, (top + bottom) / 2)
        scale = 96 / (1.5 * max(right - left, bottom - top))
        picture: NDArray[np.uint8]
        picture, _ = insightface.utils.face_align.transform(face.pixels, centre, 96, scale, 0)
        inputs = picture.transpose(2, 0, 1)[None].astype(np.float32)
        female, male, hundreds = session.run(None, {"data": inputs})[0][0]
        years = max(round(float(hundreds) * 100), 0)
        assert answer["gender"].label == ("female" if female >= male else "male")
        assert answer["gender"].probabilities == ()
        assert (answer["age"].value, answer["age"].label) == (years, age_bin(years))
        found |= {answer["gender"].label, answer["age"].label}
    assert len(found) > 2
