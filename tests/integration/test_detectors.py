"""The other detectors: dlib's CNN on its real weights, SCRFD's class on a network of the published layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from insightface.app.common import Face as InsightFaceFace
from insightface.model_zoo.landmark import Landmark
from numpy.typing import NDArray

from fairloop.errors import DataLoss, InvalidInput, NotFound
from fairloop.models import entry, fetch, local_path
from services.annotator import detectors, registry
from services.annotator.detector import Detector
from services.annotator.images import decode
from services.annotator.mmod import MmodDetector
from services.annotator.scrfd import ScrfdDetector
from services.annotator.scrfd_106 import Scrfd106Detector
from tests.support.tiny_annotators import genderage_network, landmarks_network, scrfd_network

Box = tuple[float, float, float, float]


def overlap(a: Box, b: Box) -> float:
    """Intersection over union."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0) * max(height, 0)
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def test_dlibs_network_finds_the_face_that_its_filters_find() -> None:
    photograph = decode(fetch("insightface-t1").read_bytes())
    hog = Detector.load()
    largest = hog.detect(photograph)[0]
    left, top, right, bottom = (int(edge) for edge in largest.box)
    side = (right - left) // 2
    cut = np.ascontiguousarray(photograph[top - side : bottom + side, left - side : right + side][::2, ::2])
    (expected,) = hog.detect(cut)
    mmod = MmodDetector.load()
    (found,) = mmod.detect(cut)
    assert overlap(found.box, expected.box) > 0.4
    eyes = np.linalg.norm(expected.landmarks[0] - expected.landmarks[3])
    assert np.abs(found.landmarks - expected.landmarks).max() < 0.2 * eyes
    assert mmod.detect(np.full((64, 64, 3), 128, np.uint8)) == []
    assert mmod.version != hog.version
    (whole,), (same,) = mmod.whole(cut), hog.whole(cut)
    assert whole.box == same.box


def patches(height: int, width: int, *places: tuple[int, int]) -> NDArray[np.uint8]:
    """Black, with white 8 × 8 patches at (x, y)."""
    pixels = np.zeros((height, width, 3), np.uint8)
    for x, y in places:
        pixels[y : y + 8, x : x + 8] = 255
    return pixels


def test_scrfds_boxes_come_in_pixels_of_the_image_and_the_largest_first(tmp_path: Path) -> None:
    network = scrfd_network(tmp_path / "det_10g.onnx", side=60)
    detector = ScrfdDetector(network, fetch("dlib-landmarks-5"))
    # An anchor at (x, y) of the 640 × 640 input reaches 60 pixels in each direction.
    found = detector.detect(patches(640, 640, (160, 320), (480, 80)))
    assert np.array(sorted(face.box for face in found)) == pytest.approx(
        np.array([(100, 260, 220, 380), (420, 20, 540, 140)]), abs=0.01
    )
    assert all(0.99 < face.score <= 1 for face in found)
    # A picture twice as wide as high is brought to 640 × 320; its pixels count twice.
    doubled = patches(640, 1280)
    doubled[320:336, 320:336] = 255
    (face,) = detector.detect(doubled)
    assert face.box == pytest.approx((200, 200, 440, 440), abs=0.1)
    left, _, right, _ = face.box
    assert (face.landmarks[:, 0] > left).all()
    assert (face.landmarks[:, 0] < right).all()
    assert (np.diff(face.landmarks[:4, 0]) > 0).all()
    assert detector.detect(patches(640, 640)) == []


def test_the_pack_s_own_landmarks_are_the_eyes_and_the_nose_of_its_106_points(tmp_path: Path) -> None:
    points = np.random.default_rng(4).uniform(-0.5, 0.5, (106, 2)).astype(np.float32)
    # The 106 points that stand for dlib's 36, 39, 42, 45 and 33.
    chosen = points[[35, 39, 89, 93, 80]]
    scrfd = scrfd_network(tmp_path / "det_10g.onnx", side=60)
    detector = Scrfd106Detector(scrfd, landmarks_network(tmp_path / "2d106det.onnx", points))
    found = {face.box[0]: face for face in detector.detect(patches(640, 640, (160, 320), (480, 80)))}
    # A box of 120 pixels around (480, 80): half the side of its crop, which is half as large again, is 90.
    place = max(found)
    assert found[place].landmarks == pytest.approx(np.array([480.0, 80.0]) + 90 * chosen, abs=0.01)
    (whole,) = detector.whole(patches(80, 100))
    assert whole.landmarks == pytest.approx(np.array([50.0, 40.0]) + 75 * chosen, abs=0.01)
    assert whole.box == (0, 0, 100, 80)
    assert detector.whole(patches(1, 8)) == []


def test_the_106_points_are_those_of_insightfaces_class_on_the_same_picture(tmp_path: Path) -> None:
    photograph = decode(fetch("insightface-t1").read_bytes())
    path = landmarks_network(tmp_path / "2d106det.onnx", np.zeros((106, 2), np.float32), seed=5)
    scrfd = scrfd_network(tmp_path / "det_10g.onnx", side=60)
    (found,) = Scrfd106Detector(scrfd, path).whole(photograph)
    original = Landmark(
        str(path), onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    )
    face = InsightFaceFace(bbox=np.array(found.box))
    expected = original.get(np.ascontiguousarray(photograph[:, :, ::-1]), face)
    assert found.landmarks == pytest.approx(expected[[35, 39, 89, 93, 80]], abs=1e-3)
    assert np.ptp(expected, axis=0).min() > 1
    with pytest.raises(InvalidInput, match=r"det_10g\.onnx maps .*needed are"):
        Scrfd106Detector(scrfd, scrfd)


def test_another_network_under_a_detectors_name_is_refused(tmp_path: Path) -> None:
    other = genderage_network(tmp_path / "det_10g.onnx", 1)
    with pytest.raises(InvalidInput, match=r"det_10g\.onnx maps .*needed are"):
        ScrfdDetector(other, fetch("dlib-landmarks-5"))
    with pytest.raises(InvalidInput, match=r"det_10g\.onnx is no dlib face detector"):
        MmodDetector(other, fetch("dlib-landmarks-5"))


def test_dlibs_file_is_not_read_unless_it_is_the_catalogues(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAIRLOOP_CACHE", str(tmp_path))
    path = local_path(entry("dlib-mmod"))
    path.parent.mkdir(parents=True)
    path.write_bytes(b"another file")
    with pytest.raises(DataLoss, match="dlib-mmod"):
        MmodDetector.load()


def test_the_variable_names_the_detector_and_its_weights_count_with_every_annotators(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAIRLOOP_DETECTOR", "dlib_mmod")
    assert detectors.load().name == "dlib_mmod"
    assert registry.weights("ita") == ("dlib-landmarks-5", "dlib-mmod")
    monkeypatch.setenv("FAIRLOOP_DETECTOR", "retina")
    with pytest.raises(InvalidInput, match="'retina' is not known; there are dlib_hog, dlib_mmod, scrfd"):
        detectors.load()
    monkeypatch.setenv("FAIRLOOP_DETECTOR", "scrfd")
    monkeypatch.setenv("FAIRLOOP_CACHE", str(tmp_path))
    with pytest.raises(NotFound, match=r"fairloop models put insightface-scrfd det_10g\.onnx"):
        detectors.load()
    monkeypatch.delenv("FAIRLOOP_DETECTOR")
    assert registry.weights("ita") == ("dlib-landmarks-5",)
