"""FairFace on networks of the published architecture and file, against its original's steps."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterator
from pathlib import Path

import dlib
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torchvision import transforms
from torchvision.models import resnet34

from fairloop.errors import InvalidInput, NotFound
from fairloop.models import fetch, put
from fairloop.taxonomy import ATTRIBUTES
from services.annotator.describe import describe
from services.annotator.detector import SUBJECT_RIGHT_FIRST, Detector
from services.annotator.face import Face
from services.annotator.fairface import FairFace, FairFaceRace4
from services.annotator.fairface_network import load_network
from services.annotator.images import decode
from tests.support.odd_pictures import odd_pictures

Pixels = NDArray[np.uint8]

# seeds.md, 0.1: the orders of the networks' answers.
RACES = ["white", "black", "latino_hispanic", "east_asian", "southeast_asian", "indian", "middle_eastern"]
RACES4 = ["white", "black", "asian", "indian"]
GENDERS = ["male", "female"]
AGES = ["0_2", "3_9", "10_19", "20_29", "30_39", "40_49", "50_59", "60_69", "70_plus"]


def checkpoint(path: Path, seed: int) -> Path:
    """A ResNet-34 with 18 answers, its statistics measured on noise, in the published format."""
    torch.manual_seed(seed)
    network = resnet34(weights=None)
    network.fc = torch.nn.Linear(512, 18)
    torch.nn.init.normal_(network.fc.weight, std=0.2)
    network.train()
    with torch.no_grad():
        network(torch.randn(4, 3, 64, 64))
    torch.save(network.state_dict(), path)
    return path


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def race7(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoint(tmp_path_factory.mktemp("fairface") / "res34_fair_align_multi_7_20190809.pt", 7)


@pytest.fixture(scope="module")
def race4(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoint(tmp_path_factory.mktemp("fairface") / "res34_fair_align_multi_4_20190809.pt", 4)


@pytest.fixture(scope="module")
def photograph() -> Pixels:
    return decode(fetch("insightface-t1").read_bytes())


@pytest.fixture(scope="module")
def annotator(race7: Path) -> FairFace:
    return FairFace(race7)


@functools.cache
def original_chips(padding: float) -> tuple[list[Pixels], list[Face]]:
    """The original's chips of the photograph, and its landmarks as faces of the image that was given."""
    pixels = decode(fetch("insightface-t1").read_bytes())
    height, width = pixels.shape[:2]
    size = (int(800 * height / width), 800) if width > height else (800, int(800 * width / height))
    image = dlib.resize_image(pixels, rows=size[0], cols=size[1])
    predictor = dlib.shape_predictor(str(fetch("dlib-landmarks-5")))
    found = dlib.full_object_detections()
    faces = []
    for box in dlib.get_frontal_face_detector()(image):
        shape = predictor(image, box)
        found.append(shape)
        points = np.array([(shape.part(k).x, shape.part(k).y) for k in SUBJECT_RIGHT_FIRST], np.float64)
        points *= (np.array([width, height]) - 1) / (np.array([size[1], size[0]]) - 1)
        faces.append(Face(pixels, (0, 0, width, height), points.astype(np.float32)))
    return list(dlib.get_face_chips(image, found, size=300, padding=padding)), faces


@functools.cache
def original_network(checkpoint: Path) -> torch.nn.Module:
    """The network as the original loads it."""
    network: torch.nn.Module = resnet34(weights=None)
    network.fc = torch.nn.Linear(512, 18)
    network.load_state_dict(torch.load(checkpoint, weights_only=True))
    return network.eval()


def original_scores(checkpoint: Path, chip: Pixels) -> NDArray[np.float64]:
    """One forward pass of batch 1 as the original makes it."""
    network = original_network(checkpoint)
    prepare = transforms.Compose(
        [
            transforms.ToPILImage(),
            transforms.Resize((224, 224)),
            transforms.ToTensor(),
            transforms.Normalize(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225]),
        ]
    )
    with torch.no_grad():
        return np.asarray(network(prepare(chip)[None])[0], np.float64)


def shares(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    result: NDArray[np.float64] = np.exp(scores) / np.exp(scores).sum()
    return result


@pytest.mark.parametrize("padding", [0.25, 1.25])
def test_every_probability_is_the_originals_to_1e_4(race7: Path, race4: Path, padding: float) -> None:
    chips, faces = original_chips(padding)
    assert len(chips) >= 5
    chips, faces = [chips[0], chips[4]], [faces[0], faces[4]]
    first = FairFace(race7, padding).annotate(faces)
    second = FairFaceRace4(race4, padding).annotate(faces)
    for index in range(2):
        seven, four = original_scores(race7, chips[index]), original_scores(race4, chips[index])
        expected = {
            "race": dict(zip(RACES, shares(seven[:7]), strict=True)),
            "gender": dict(zip(GENDERS, shares(seven[7:9]), strict=True)),
            "age": dict(zip(AGES, shares(seven[9:18]), strict=True)),
            "race4": dict(zip(RACES4, shares(four[:4]), strict=True)),
        }
        found = {**first[index], **second[index]}
        assert set(found) == set(expected)
        for attribute, named in expected.items():
            guess = found[attribute]
            wanted = [named[value] for value in ATTRIBUTES[attribute]]
            assert guess.probabilities == pytest.approx(wanted, abs=1e-4)
            assert guess.label == max(named, key=lambda value, named=named: named[value])  # type: ignore[misc]


def test_the_answer_for_a_face_does_not_depend_on_the_others(annotator: FairFace) -> None:
    _, faces = original_chips(0.25)
    faces = faces[:3]
    together, alone = annotator.annotate(faces), [annotator.annotate([face])[0] for face in faces]
    for one, other in zip(together, alone, strict=True):
        for attribute in annotator.attributes:
            assert one[attribute].label == other[attribute].label
            assert one[attribute].probabilities == pytest.approx(other[attribute].probabilities, abs=1e-5)
    assert annotator.annotate([]) == []


def test_the_version_stands_for_the_weights_and_the_margin(
    annotator: FairFace, race7: Path, race4: Path
) -> None:
    assert len({annotator.version, FairFace(race4).version, FairFace(race7, 1.25).version}) == 3


def test_every_kind_of_bad_or_odd_input_is_a_row_with_its_outcome(
    annotator: FairFace, photograph: Pixels
) -> None:
    images = odd_pictures(photograph, Detector.load().detect(photograph)[0].box)
    rows = describe([data for data, _ in images.values()], [annotator], Detector.load())
    assert {name: row.status for name, row in zip(images, rows, strict=True)} == {
        name: status for name, (_, status) in images.items()
    }
    for name, row in zip(images, rows, strict=True):
        assert set(row.guesses) == (
            {(a, "fairface") for a in ("gender", "race", "age")} if row.faces_found else set()
        ), name
    by_name = dict(zip(images, rows, strict=True))
    upright, turned = by_name["upright"].guesses, by_name["rotated"].guesses
    for key, guess in upright.items():
        # Only the compression of a JPEG lies between the two.
        assert turned[key].probabilities == pytest.approx(guess.probabilities, abs=0.1)


def test_a_file_that_is_no_such_network_is_refused_with_its_name(tmp_path: Path, race7: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (tmp_path / "ran",))  # type: ignore[return-value]

    broken = tmp_path / "broken.pt"
    cases: dict[str, object] = {"pickled": {"fc.weight": Evil()}, "other": {"weight": torch.zeros(3)}}
    for contents in cases.values():
        torch.save(contents, broken)
        with pytest.raises(InvalidInput, match=r"checkpoint: broken\.pt is no "):
            load_network(broken)
    assert not (tmp_path / "ran").exists()
    broken.write_bytes(race7.read_bytes()[:100_000])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(InvalidInput, match=r"broken\.pt is no state dict"):
            load_network(broken)


def test_weights_that_a_person_fetches_are_put_in_place_by_the_command_that_the_error_names(
    annotator: FairFace, race7: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAIRLOOP_CACHE", str(tmp_path))
    monkeypatch.setenv("FAIRLOOP_THREADS", "1")
    with pytest.raises(NotFound) as caught:
        FairFace.load()
    for part in (
        "res34_fair_align_multi_7_20190809.pt",
        "github.com/dchen236/FairFace",
        "fairloop models put fairface-7 res34_fair_align_multi_7_20190809.pt",
        "states no sha256",
    ):
        assert part in str(caught.value)
    put("fairface-7", race7)
    assert FairFace.load().version == annotator.version
