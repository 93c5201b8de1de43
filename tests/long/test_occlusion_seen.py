"""Covered faces are told from uncovered ones by the components of the table that say what can be seen.

The same rendered people with and without a cover that is painted over eyes, nose or
mouth, with the landmarks that were found without it: dlib's detector still finds nine
in ten of those with a dark patch on the mouth, and one in ten under a dark mask. How
well they are told apart is the area under the curve of the component over the two
sets: .5 says nothing, 1 everything.
"""

from __future__ import annotations

import functools

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from services.annotator.detector import Detection, Detector
from services.annotator.face_quality import components
from services.annotator.scene import scene
from tests.support.rendered_subjects import rendered_subjects

pytestmark = [pytest.mark.annotator, pytest.mark.timeout(1800)]

SUBJECTS = 250
# Middle and half size in distances of the eyes, across and down from the middle between them.
COVERS = {
    "eyes_visible": ((0.0, 0.0), (1.05, 0.32)),
    "mouth_occlusion_prevention": ((0.0, 1.24), (0.6, 0.42)),
    "face_occlusion_prevention": ((0.0, 1.16), (0.95, 0.8)),
}
"""A bar over the eyes, a hand's breadth over the mouth, a mask over nose and mouth."""
COLOURS = {
    "black": (20, 20, 22),
    "white": (225, 225, 225),
    "blue": (90, 140, 190),
    "skin": None,
    "noise": None,
}


@functools.cache
def faces() -> list[tuple[NDArray[np.uint8], Detection]]:
    """Rendered people in whom a face is found."""
    detector = Detector.load()
    images, _ = rendered_subjects(31, SUBJECTS, 1)
    found = [(image, detector.detect(image)) for image in images]
    return [(image, one[0]) for image, one in found if one]


def covered(
    image: NDArray[np.uint8], found: Detection, component: str, cover: str, random: np.random.Generator
) -> NDArray[np.uint8]:
    """The picture with a cover, nearly where it should be and turned as the face is."""
    marks = found.landmarks.astype(np.float64)
    right, left = marks[:2].mean(axis=0), marks[2:4].mean(axis=0)
    across = left - right
    down = np.array([-across[1], across[0]])
    (x, y), (wide, high) = COVERS[component]
    middle = (right + left) / 2 + x * across + y * down + random.normal(0, 0.04, 2) * np.linalg.norm(across)
    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]]
    offset = np.stack([columns - middle[0], rows - middle[1]], axis=-1)
    inside = (abs(offset @ across) < wide * across @ across) & (abs(offset @ down) < high * across @ across)
    painted = image.copy()
    if cover == "noise":
        painted[inside] = random.integers(0, 256, (inside.sum(), 3))
        return painted
    colour = COLOURS[cover]
    if colour is None:
        edges = (max(0, round(edge)) for edge in found.box)
        x0, y0, x1, y1 = edges
        colour = np.median(image[y0:y1, x0:x1].reshape(-1, 3), axis=0)
    painted[inside] = np.clip(np.array(colour) + random.normal(0, 4, (inside.sum(), 3)), 0, 255)
    return painted


def component(name: str, image: NDArray[np.uint8], found: Detection) -> float:
    return components(image, found, scene(image, found))[name]


@functools.cache
def plain(name: str) -> list[float]:
    """The component of the uncovered faces."""
    return [component(name, image, found) for image, found in faces()]


@pytest.mark.parametrize("name", COVERS)
@pytest.mark.parametrize("cover", COLOURS)
def test_covered_faces_are_told_from_uncovered_ones(name: str, cover: str) -> None:
    random = np.random.default_rng(7)
    seen = [component(name, covered(image, found, name, cover, random), found) for image, found in faces()]
    clear = plain(name)
    area = roc_auc_score([1] * len(clear) + [0] * len(seen), clear + seen)
    print(f"\n{name}, {cover}: AUC {area:.3f} over {len(clear)} faces")
    assert area > 0.8


@pytest.mark.parametrize(
    ("name", "found_at_most"), [("eyes_visible", 0.6), ("face_occlusion_prevention", 0.4)]
)
def test_most_covered_faces_are_not_found_and_those_that_are_stand_out(
    name: str, found_at_most: float
) -> None:
    """As a server sees them: the face is looked for under its cover, and the landmarks come from there."""
    detector, clear = Detector.load(), plain(name)
    seen = []
    for cover in COLOURS:
        random = np.random.default_rng(7)
        mine = []
        for image, found in faces():
            painted = covered(image, found, name, cover, random)
            if again := detector.detect(painted):
                mine.append(component(name, painted, again[0]))
        area = roc_auc_score([1] * len(clear) + [0] * len(mine), clear + mine)
        print(f"\n{name}, {cover}: found {len(mine)} of {len(clear)}, AUC {area:.3f}")
        seen += mine
    assert len(seen) / (len(clear) * len(COLOURS)) < found_at_most
    assert roc_auc_score([1] * len(clear) + [0] * len(seen), clear + seen) > 0.8


def test_light_and_dark_faces_that_are_not_covered_are_seen_alike() -> None:
    """Between the lightest and the darkest third the mean differs by less than a tenth."""
    bright = np.array([image.mean() for image, _ in faces()])
    thirds = np.searchsorted(np.quantile(bright, [1 / 3, 2 / 3]), bright)
    for name in COVERS:
        values = np.array(plain(name))
        means = [float(np.mean(values[thirds == third])) for third in range(3)]
        print(f"\n{name}: " + ", ".join(f"{mean:.3f}" for mean in means))
        assert max(means) - min(means) < 0.1
