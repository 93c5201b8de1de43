"""The sweep: at every threshold what an evaluation at that threshold says."""

import json

import numpy as np
import pytest

from fairloop.errors import InvalidInput
from fairloop.stats import evaluate_verification, scoring
from fairloop.stats.summaries import SUMMARIES
from fairloop.stats.sweep import threshold_sweep

from .worlds import Population, sample, signs


@pytest.mark.parametrize("impostors", ["within_group", "all"])
def test_every_threshold_is_as_evaluated_alone(impostors, monkeypatch):
    monkeypatch.setattr(scoring, "BLOCK", 23)
    # Scores are multiples of 1/32, so half of these thresholds are scores that tie.
    thresholds = np.arange(-0.25, 0.80, 3 / 64)
    world = signs(subjects=33, images=3, groups=3, seed=8)
    sweep = threshold_sweep(
        world.embeddings, world.subjects, world.groups, thresholds=thresholds, alpha=0.3, impostors=impostors
    )
    for k, threshold in enumerate(thresholds):
        report = evaluate_verification(
            world.embeddings,
            world.subjects,
            world.groups,
            threshold=threshold,
            alpha=0.3,
            impostors=impostors,
            replicates=100,
        )
        for record, curve in zip(report.groups, sweep.groups, strict=True):
            assert (curve.fmr[k], curve.fnmr[k]) == (record.fmr, record.fnmr)
        lacks = any(record.own_threshold is None for record in report.groups)
        for name, summary in report.summaries.items():
            if name == "fnmr_gap_at_own_threshold" and lacks:
                assert sweep.summaries[name][k] is None
            else:
                assert sweep.summaries[name][k] == pytest.approx(summary.value, abs=1e-12)


def test_scores_without_ties_are_cut_exactly_where_an_evaluation_cuts_them():
    world = sample([Population(dimension=16), Population(noise=1.1, dimension=16)], [40, 30], 4, seed=3)
    sweep = threshold_sweep(world.embeddings, world.subjects, world.groups, thresholds=[0.2, 0.4, 0.6])
    for k, threshold in enumerate(sweep.thresholds):
        report = evaluate_verification(
            world.embeddings, world.subjects, world.groups, threshold=threshold, replicates=100
        )
        assert [c.fmr[k] for c in sweep.groups] == [g.fmr for g in report.groups]
        own = report.summaries["fnmr_gap_at_own_threshold"].value
        assert sweep.summaries["fnmr_gap_at_own_threshold"][k] == pytest.approx(own, abs=1e-12)


def test_the_default_thresholds_are_those_of_the_thesis_and_all_summaries_are_there():
    world = signs(subjects=12, images=3, groups=2, seed=9)
    sweep = threshold_sweep(world.embeddings, world.subjects, world.groups)
    np.testing.assert_allclose(sweep.thresholds, np.arange(0, 0.9751, 0.025))
    assert list(sweep.summaries) == [definition.name for definition in SUMMARIES]
    json.dumps(sweep.to_dict(), allow_nan=False)


def test_the_area_of_two_equal_groups_is_the_fair_value():
    world = signs(subjects=20, images=3, groups=1, seed=10)
    rows = np.concatenate([world.embeddings, world.embeddings])
    subjects = [*world.subjects, *(f"{s}'" for s in world.subjects)]
    sweep = threshold_sweep(rows, subjects, ["a"] * 60 + ["b"] * 60)
    assert sweep.areas["fairness_discrepancy_rate"] == pytest.approx(1.0)
    assert sweep.areas["garbe"] == pytest.approx(0.0)
    # Above the largest impostor score the ratio has a zero below it.
    assert sweep.summaries["inequity_rate"][-1] is None
    assert sweep.areas["inequity_rate"] is None


def test_the_area_is_that_of_trapezoids():
    world = signs(subjects=20, images=3, groups=2, seed=11)
    sweep = threshold_sweep(world.embeddings, world.subjects, world.groups, thresholds=[0.0, 0.1, 0.4])
    a, b, c = sweep.summaries["fairness_discrepancy_rate"]
    expected = (0.1 * (a + b) / 2 + 0.3 * (b + c) / 2) / 0.4
    assert sweep.areas["fairness_discrepancy_rate"] == pytest.approx(expected)


def test_beyond_every_cosine_all_or_nothing_matches():
    world = signs(subjects=8, images=2, groups=2, seed=12)
    sweep = threshold_sweep(world.embeddings, world.subjects, world.groups, thresholds=[-5.0, 5.0])
    assert {c.fmr for c in sweep.groups} == {(1.0, 0.0)}
    assert {c.fnmr for c in sweep.groups} == {(0.0, 1.0)}


def test_one_group_and_groups_without_comparisons_leave_summaries_without_a_value():
    world = signs(subjects=8, images=2, groups=1, seed=13)
    sweep = threshold_sweep(world.embeddings, world.subjects, ["g0"] * 15 + ["lonely"], thresholds=[0.1])
    assert set(sweep.summaries.values()) == {(None,)}
    assert "lonely" in sweep.conventions["left out"]


@pytest.mark.parametrize("thresholds", [[], [0.2, 0.1], [0.1, np.nan], [[0.1]]])
def test_thresholds_are_finite_and_ascending(thresholds):
    world = signs(subjects=4, images=2, groups=2, seed=14)
    with pytest.raises(InvalidInput, match="thresholds: finite cosine similarities in ascending order"):
        threshold_sweep(world.embeddings, world.subjects, world.groups, thresholds=thresholds)
