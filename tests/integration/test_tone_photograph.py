"""The tone annotators on a real photograph and on the faces that the DCGAN makes."""

from __future__ import annotations

import functools
import time
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from sklearn.metrics import cohen_kappa_score

from fairloop.models import fetch
from fairloop.tables import Guess
from fairloop.taxonomy import TONE_BANDS
from services.annotator.colour import exposure_table
from services.annotator.detector import Detector
from services.annotator.face import Annotator, Face
from services.annotator.ita import ItaTone
from services.annotator.skin_tone import ApparentSkinTone
from services.generator import dcgan
from services.generator.latents import subject_centres

STEERER, JUDGE = ApparentSkinTone.load(), ItaTone.load()
ANNOTATORS = (STEERER, JUDGE)
IMAGES = 400


@functools.cache
def detector() -> Detector:
    return Detector.load()


def largest_face(pixels: NDArray[np.uint8]) -> Face | None:
    found = detector().detect(pixels)
    return Face(pixels, found[0].box, found[0].landmarks) if found else None


@functools.cache
def rendered(stops: float) -> list[Face]:
    """Faces found anew in 400 DCGAN images after an exposure change."""
    images = dcgan.render(dcgan.load(fetch("dcgan-faces")), subject_centres(11, range(IMAGES)))
    faces = (largest_face(np.ascontiguousarray(image)) for image in exposure_table(stops)[images])
    return [face for face in faces if face is not None]


@functools.cache
def photograph(stops: float) -> list[Face]:
    """The faces of six light-skinned people in a well-lit photograph, found anew at each exposure."""
    with Image.open(fetch("insightface-t1")) as image:
        pixels = exposure_table(stops)[np.asarray(image.convert("RGB"))]
    return [Face(pixels, found.box, found.landmarks) for found in detector().detect(pixels)]


def guesses(annotator: Annotator, faces: Sequence[Face]) -> list[Guess]:
    return [row["skin_tone_band"] for row in annotator.annotate(faces)]


def bands(annotator: Annotator, faces: Sequence[Face]) -> list[str]:
    """The labels at the exposure of the image, uncertain ones included."""
    return [guess.sensitivity["exposure0"] for guess in guesses(annotator, faces)]


def shares(labels: Sequence[str]) -> dict[str, float]:
    counts = Counter(labels)
    return {band: counts[band] / len(labels) for band in TONE_BANDS}


def from_left_to_right(faces: Sequence[Face]) -> list[Face]:
    return sorted(faces, key=lambda face: face.box[0])


def test_six_light_skinned_faces_are_light_at_every_exposure() -> None:
    found = {stops: from_left_to_right(photograph(stops)) for stops in (0.0, -1.0, -2.0)}
    assert [len(faces) for faces in found.values()] == [6, 6, 6]
    labels = {stops: [guess.label for guess in guesses(STEERER, faces)] for stops, faces in found.items()}
    for at_exposure in labels.values():
        assert "dark" not in at_exposure
        assert at_exposure.count("light") >= 3
    stable = [
        len(set(of_person)) == 1 and None not in of_person for of_person in zip(*labels.values(), strict=True)
    ]
    assert sum(stable) >= 5


def test_the_judge_calls_none_of_them_dark_and_keeps_its_bands() -> None:
    labels = [bands(JUDGE, from_left_to_right(photograph(stops))) for stops in (0.0, -1.0, -2.0)]
    assert all("dark" not in at_exposure for at_exposure in labels)
    assert sum(len(set(person)) == 1 for person in zip(*labels, strict=True)) >= 5


@pytest.mark.parametrize("annotator", ANNOTATORS, ids=lambda a: a.name)
def test_darkening_rendered_faces_moves_no_share_by_five_points(annotator: Annotator) -> None:
    faces = rendered(0.0)
    assert len(faces) >= 300
    before = shares(bands(annotator, faces))
    same_boxes = (
        [Face(exposure_table(stops)[face.pixels], face.box, face.landmarks) for face in faces]
        for stops in (-1.0, -2.0)
    )
    for darker in (*same_boxes, rendered(-1.0)):
        after = shares(bands(annotator, darker))
        assert max(abs(after[band] - before[band]) for band in TONE_BANDS) < 0.05


@pytest.mark.parametrize("annotator", ANNOTATORS, ids=lambda a: a.name)
def test_labels_without_the_uncertain_ones_keep_their_shares_too(annotator: Annotator) -> None:
    before, after = (
        shares([guess.label for guess in guesses(annotator, rendered(stops)) if guess.label is not None])
        for stops in (0.0, -1.0)
    )
    assert max(abs(after[band] - before[band]) for band in TONE_BANDS) < 0.05


def test_steerer_and_judge_agree_substantially_on_rendered_faces() -> None:
    # 0.61 and above is "substantial" (Landis & Koch 1977); they are not one rule, so never 1.
    ranks = [[TONE_BANDS.index(band) for band in bands(annotator, rendered(0.0))] for annotator in ANNOTATORS]
    assert 0.61 <= cohen_kappa_score(*ranks, weights="quadratic") < 0.95


@pytest.mark.parametrize("annotator", ANNOTATORS, ids=lambda a: a.name)
def test_a_rendered_face_takes_under_three_milliseconds_of_a_core(annotator: Annotator) -> None:
    faces = rendered(0.0)[:64]
    annotator.annotate(faces)
    seconds = []
    for _ in range(5):
        start = time.process_time()
        annotator.annotate(faces)
        seconds.append(time.process_time() - start)
    assert min(seconds) / len(faces) < 0.003
