"""Which part of a gap is the pictures' fault: two worlds in which the answer is known."""

import numpy as np
import pytest

from fairloop.errors import InvalidInput
from fairloop.stats import evaluate_verification
from fairloop.stats.robustness import Copies, robustness

PEOPLE, IMAGES = 40, 4
SUBJECTS = [f"p{k:02}" for k in range(PEOPLE) for _ in range(IMAGES)]
GROUPS = ["light" if int(name[1:]) < PEOPLE // 2 else "dark" for name in SUBJECTS]
LEVELS = (1.0, 0.8, 0.6, 0.4, 0.2)


def world(light_of, noise_of):
    """Copies whose embedding noise is `noise_of(group, light of the copy)`."""
    rng = np.random.default_rng(7)
    own = np.repeat(rng.standard_normal((PEOPLE, 32)), IMAGES, axis=0)
    noise = rng.standard_normal(own.shape)
    found = []
    for level in LEVELS:
        light = np.array([light_of[group] * level for group in GROUPS])
        scale = np.array([noise_of(group, value) for group, value in zip(GROUPS, light, strict=True)])
        found.append(
            Copies(
                "brightness",
                level,
                own + scale[:, None] * noise,
                np.zeros(len(own), np.bool_),
                light,
                "luminance",
            )
        )
    return found


def judged(copies):
    return robustness(copies, SUBJECTS, GROUPS, fmr=0.01, replicates=100)


def test_a_gap_that_comes_from_dark_pictures_vanishes_at_equal_light():
    # The matcher treats all alike; one group's pictures are half as bright.
    found = judged(world({"light": 1.0, "dark": 0.5}, lambda group, light: 1.3 - light))
    (equal,) = found.equal_quality
    assert equal.untouched_gap > 0.1
    # Both reach 0.2 to 0.5: from 1.0 × 0.2, and 0.5 × 0.2 = 0.1, to 0.5.
    assert (equal.low, equal.high) == pytest.approx((0.2, 0.5))
    assert equal.gap < 0.5 * equal.untouched_gap


def test_a_gap_of_the_matcher_stays_at_equal_light():
    # All pictures are equally bright; the matcher is worse for one group.
    found = judged(
        world({"light": 1.0, "dark": 1.0}, lambda group, light: 1.3 - light + 0.6 * (group == "dark"))
    )
    (equal,) = found.equal_quality
    assert equal.untouched_gap > 0.1
    assert equal.gap > 0.7 * equal.untouched_gap


def test_rates_are_those_of_an_evaluation_at_the_threshold_of_the_untouched_images():
    copies = world({"light": 1.0, "dark": 0.5}, lambda group, light: 1.3 - light)
    copies[2].failures[:3] = True
    found = judged(copies)
    first = evaluate_verification(copies[0].embeddings, SUBJECTS, GROUPS, fmr=0.01, replicates=100)
    assert found.threshold == first.threshold
    alone = evaluate_verification(
        copies[2].embeddings,
        SUBJECTS,
        GROUPS,
        threshold=first.threshold,
        failures=copies[2].failures,
        replicates=100,
    )
    for record in alone.groups:
        row = next(row for row in found.rows if (row.level, row.group) == (0.6, record.group))
        assert (row.fmr, row.fnmr, row.fta) == (record.fmr, record.fnmr, record.fta)
    gap = next(gap for gap in found.gaps if gap.level == 0.6)
    rates = [record.fnmr for record in alone.groups]
    assert gap.fnmr_gap == max(rates) - min(rates)
    # Three of the 80 images of one group failed.
    assert sorted(row.fta for row in found.rows if row.level == 0.6) == [0, 3 / 80]


def test_groups_without_a_common_light_are_not_compared_at_one():
    copies = world({"light": 10.0, "dark": 1.0}, lambda group, light: 1.0)
    (equal,) = judged(copies).equal_quality
    assert (equal.low, equal.high, equal.gap) == (None, None, None)
    with pytest.raises(InvalidInput, match="copies"):
        robustness([], SUBJECTS, GROUPS)
    wrong = Copies("blur", 1.0, copies[0].embeddings[:5], copies[0].failures[:5])
    with pytest.raises(InvalidInput, match="blur 1"):
        robustness([copies[0], wrong], SUBJECTS, GROUPS, fmr=0.01)
