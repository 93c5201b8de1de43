"""The loop's two roles are filled from what is calibrated."""

from __future__ import annotations

import pytest

from fairloop.calibrations import Measured
from flows.params import LoopParameters
from flows.roles import choose, mean_recall


def measured(annotator: str, female: tuple[int, int], male: tuple[int, int]) -> Measured:
    right = female[0] + male[1]
    return Measured("gender", annotator, "v1", ("female", "male"), (female, male), right / sum(female + male))


def test_the_most_accurate_calibrated_annotator_judges_and_the_next_one_steers() -> None:
    known = [
        measured("a", (80, 20), (30, 70)),
        measured("b", (90, 10), (10, 90)),
        measured("c", (60, 40), (40, 60)),
    ]
    found = choose("gender", "x", "y", known)
    assert (found.judging, found.steering, found.calibrated) == ("b", "a", True)
    assert found.because == "mean recall over true values: b 0.900, a 0.750, c 0.600"


def test_guessing_the_commonest_value_does_not_make_a_judge() -> None:
    lazy, fair = measured("lazy", (950, 0), (50, 0)), measured("fair", (760, 190), (10, 40))
    assert lazy.accuracy > fair.accuracy
    assert mean_recall(lazy) == pytest.approx(0.5)
    assert choose("gender", "x", "y", [lazy, fair]).judging == "fair"


def test_one_calibrated_annotator_judges_and_never_steers_too() -> None:
    only = [measured("steerer", (90, 10), (10, 90))]
    found = choose("gender", "steerer", "judge", only)
    assert (found.judging, found.steering) == ("steerer", "judge")


def test_without_a_calibration_of_the_attribute_the_parameters_decide() -> None:
    found = choose("skin_tone_band", "skin_tone", "ita", [measured("a", (9, 1), (1, 9))])
    assert (found.steering, found.judging, found.calibrated) == ("skin_tone", "ita", False)


def test_calibrations_are_a_list_or_on_a_command_line_names_by_comma() -> None:
    names = ["calibrations/0123456789abcdef", "calibrations/fedcba9876543210"]
    assert LoopParameters(calibrations=",".join(names)).calibrations == names
    assert LoopParameters(calibrations=names).calibrations == names
    assert LoopParameters().calibrations == []
