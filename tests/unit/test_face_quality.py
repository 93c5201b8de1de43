"""Components of a face's quality on pictures whose answer is known, and a gate's rates per group."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from statsmodels.stats.proportion import proportion_confint

from fairloop.errors import InvalidInput
from fairloop.stats.quality_gate import EVERYBODY, GateTally, check_gate, passes
from fairloop.tables import QUALITY, FaceRow, annotation_record, annotation_schema
from services.annotator.detector import Detection
from services.annotator.face_quality import components

SCENE = {"sharpness": 0.005, "yaw": 0.125, "roll": 60.0}


def face(pixels: NDArray[np.uint8], eyes: float = 45.0, **scene: float) -> dict[str, float]:
    """Components of a face that fills the picture, its eyes this far apart."""
    side = float(pixels.shape[0])
    x, y = side / 2, side / 3
    points = [
        (x - eyes / 2 - 5, y),
        (x - eyes / 2 + 5, y),
        (x + eyes / 2 - 5, y),
        (x + eyes / 2 + 5, y),
        (x, 2 * y),
    ]
    found = Detection((0.0, 0.0, side, side), np.array(points, np.float32), 1.0)
    return components(pixels, found, {**SCENE, **scene})


def shades(*parts: tuple[int, float]) -> NDArray[np.uint8]:
    """A 100 × 100 picture in bands of greys, each of a share of its height."""
    rows = np.concatenate([np.full(round(100 * share), grey) for grey, share in parts])
    return np.ascontiguousarray(np.broadcast_to(rows[:, None, None], (100, 100, 3)).astype(np.uint8))


def test_components_have_their_names_and_lie_between_0_and_1() -> None:
    for grey in (0, 25, 128, 247, 255):
        found = face(shades((grey, 1.0)))
        assert tuple(found) == QUALITY
        assert all(0 <= value <= 1 for value in found.values())


def test_exposure_is_the_share_of_pixels_that_are_not_lost() -> None:
    # 25 and 247 are the borders of OFIQ: lost themselves.
    found = face(shades((25, 0.2), (26, 0.3), (246, 0.4), (247, 0.1)))
    assert found["under_exposure_prevention"] == pytest.approx(0.8)
    assert found["over_exposure_prevention"] == pytest.approx(0.9)


def test_the_other_components_follow_what_they_measure() -> None:
    found = face(shades((128, 1.0)))
    assert found["sharpness"] == pytest.approx(0.5)  # half of a photograph in focus
    assert found["inter_eye_distance"] == pytest.approx(0.5)  # 45 of 90 pixels
    assert found["head_pose_yaw"] == pytest.approx(0.75)  # a quarter of the way to the half profile
    assert found["head_pose_roll"] == pytest.approx(0.25)  # cos² 60°
    best = face(shades((128, 1.0)), eyes=120.0, sharpness=0.02, yaw=0.0, roll=0.0)
    # A plain picture shows no eyes and no mouth.
    assert [best[name] for name in QUALITY[:6]] == [1.0] * 6
    assert max(best[name] for name in QUALITY[6:]) < 0.3
    worst = face(shades((128, 1.0)), yaw=-0.7, roll=120.0)
    assert (worst["head_pose_yaw"], worst["head_pose_roll"]) == (0.0, 0.0)


def test_a_table_has_a_column_for_each_and_none_where_there_is_no_face() -> None:
    schema = annotation_schema([])
    found = annotation_record("a", FaceRow("ok", components={"sharpness": 0.5}), [])
    without = annotation_record("b", FaceRow("no_face"), [])
    for name in QUALITY:
        assert f"quality_{name}" in schema.names
        assert without[f"quality_{name}"] is None
    assert found["quality_sharpness"] == 0.5


def test_a_gate_turns_away_what_is_under_one_of_its_values_or_was_not_measured() -> None:
    least = {"sharpness": 0.5, "head_pose_yaw": 0.2}
    assert passes({"sharpness": 0.5, "head_pose_yaw": 0.9}, least)
    assert not passes({"sharpness": 0.49, "head_pose_yaw": 0.9}, least)
    assert not passes({"sharpness": 0.9, "head_pose_yaw": None}, least)
    assert not passes({"sharpness": 0.9}, least)
    assert passes({}, {})


def test_rates_are_counted_for_everybody_and_each_group_with_wilson_intervals() -> None:
    tally = GateTally({"sharpness": 0.5})
    for sharp, group in [(0.9, "a"), (0.1, "a"), (0.2, "a"), (0.6, "b"), (0.7, "b")]:
        tally.add({"sharpness": sharp}, [group])
    tally.add({"sharpness": 0.1}, [])
    found = {one.group: one for one in tally.rejections()}
    counts = {group: (one.rejected, one.faces) for group, one in found.items()}
    assert counts == {EVERYBODY: (3, 6), "a": (2, 3), "b": (0, 2)}
    assert list(found) == [EVERYBODY, "a", "b"]
    for one in found.values():
        assert one.share == one.rejected / one.faces
        wanted = proportion_confint(one.rejected, one.faces, method="wilson")
        assert one.interval == pytest.approx(wanted, abs=1e-9)


@pytest.mark.parametrize(
    ("least", "reason"),
    [
        ({"occlusion": 0.5}, "quality_gate.occlusion: is not known; there are sharpness"),
        ({"sharpness": 1.5}, "quality_gate.sharpness: 1.5 is outside 0–1"),
        ({"sharpness": math.nan}, "quality_gate.sharpness: nan is outside 0–1"),
    ],
)
def test_a_gate_on_something_else_is_refused(least: dict[str, float], reason: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        check_gate(least)
    assert reason in str(caught.value)
