"""Pairs of groups: differences from the report's replicates, and Holm's correction."""

import json

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from fairloop.errors import InvalidInput
from fairloop.stats import evaluate_verification
from fairloop.stats.pairwise import holm, pairwise_gaps

from .worlds import Population, sample, signs


@pytest.mark.parametrize("pairs", [1, 2, 6, 28])
def test_holm_is_that_of_statsmodels(pairs):
    rng = np.random.default_rng(pairs)
    p = np.round(rng.random(pairs) ** 3, 2)  # with ties, zeros and values near the level
    np.testing.assert_allclose(holm(p.tolist()), multipletests(p, method="holm")[1])


@pytest.fixture(scope="module")
def report():
    people = [Population(noise=0.7), Population(noise=0.7), Population(noise=1.2)]
    world = sample(people, [60, 60, 60], 4, seed=1)
    return evaluate_verification(
        world.embeddings, world.subjects, world.groups, fmr=0.02, replicates=400, seed=1
    )


@pytest.mark.parametrize("kind", ["fmr", "fnmr", "fnmr_at_own_threshold"])
def test_all_pairs_are_there_with_their_difference_inside_the_interval(report, kind):
    gaps = pairwise_gaps(report, kind)
    assert [(gap.first, gap.second) for gap in gaps] == [("g0", "g1"), ("g0", "g2"), ("g1", "g2")]
    for gap in gaps:
        first, second = (getattr(report.group(name), kind) for name in (gap.first, gap.second))
        assert gap.difference == first - second
        assert gap.interval[0] <= gap.difference <= gap.interval[1]
        assert gap.p_value <= gap.p_holm <= 1
        json.dumps(gap.to_dict(), allow_nan=False)


def test_a_real_gap_is_told_from_none(report):
    equal, first, second = pairwise_gaps(report, "fnmr")
    assert equal.p_holm > 0.05
    for gap in (first, second):
        assert gap.p_holm < 0.001
        assert gap.interval[1] < 0


def test_one_genuine_pair_a_subject_gives_the_z_test_of_two_proportions():
    # Genuine pairs are then independent: the variance has a closed form, p(1 − p)/S.
    world = sample([Population(noise=0.9), Population(noise=1.1)], [900, 900], 2, seed=2)
    report = evaluate_verification(
        world.embeddings, world.subjects, world.groups, threshold=0.5, replicates=1000, seed=2
    )
    (gap,) = pairwise_gaps(report, "fnmr")
    rates = np.array([record.fnmr for record in report.groups])
    spread = float(np.sqrt((rates * (1 - rates) / 900).sum()))
    assert gap.interval[1] - gap.interval[0] == pytest.approx(2 * 1.96 * spread, rel=0.1)
    # |z| and its estimate from 1,000 replicates differ by a few per cent.
    z = stats.norm.isf(gap.p_value / 2)
    assert z == pytest.approx(abs(gap.difference) / spread, rel=0.08)


def test_equal_groups_are_seldom_called_unequal():
    people, worlds = Population(), 40
    p, any_pair = [], 0
    for world in range(worlds):
        drawn = sample([people] * 3, [60, 60, 60], 4, seed=world)
        report = evaluate_verification(
            drawn.embeddings, drawn.subjects, drawn.groups, fmr=0.02, replicates=150, seed=world
        )
        gaps = pairwise_gaps(report, "fnmr_at_own_threshold")
        p += [gap.p_value for gap in gaps]
        any_pair += min(gap.p_holm for gap in gaps) < 0.05
    # Binomial(40, .05) exceeds 6 once in 300.
    assert any_pair <= 6
    assert 0.35 < np.mean(p) < 0.65


def test_groups_without_a_rate_or_with_one_subject_are_there_with_a_flag():
    world = signs(subjects=20, images=3, groups=2, seed=3)
    some = world.embeddings[:1]
    # Of the three genuine pairs of "y" two are non-matches.
    rows = np.concatenate([world.embeddings, some, some, some, some, -some])
    subjects = [*world.subjects, "alone", "x", "y", "y", "y"]
    groups = [*world.groups, "lonely", "no pairs", "one", "one", "one"]
    report = evaluate_verification(rows, subjects, groups, fmr=0.1, replicates=100)
    gaps = {(gap.first, gap.second): gap for gap in pairwise_gaps(report, "fnmr")}
    assert len(gaps) == 10
    lacking = gaps["g0", "lonely"]
    assert lacking.difference is None
    assert lacking.p_holm is None
    assert "insufficient:lonely" in lacking.flags
    alone = gaps["g0", "one"]
    assert alone.difference is not None
    assert (alone.interval, alone.p_value) == (None, None)
    assert "one_subject:one" in alone.flags


def test_no_error_anywhere_is_no_gap():
    rows = np.repeat(np.eye(20, dtype=np.float32), 2, axis=0)
    who = np.repeat(np.arange(20), 2)
    report = evaluate_verification(
        rows, [f"s{i}" for i in who], [f"g{i % 2}" for i in who], threshold=0.5, replicates=100
    )
    (gap,) = pairwise_gaps(report, "fnmr")
    assert (gap.difference, gap.p_value) == (0.0, 1.0)
    assert gap.interval[0] < 0 < gap.interval[1]


def test_another_kind_is_refused(report):
    with pytest.raises(InvalidInput, match="kind: 'tmr'; it is one of fmr, fnmr, fnmr_at_own_threshold"):
        pairwise_gaps(report, "tmr")
