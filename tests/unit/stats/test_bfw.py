"""BFW's rates at thresholds of the other folds, counted a second time pair by pair."""

import json

import numpy as np
import pytest

from fairloop.errors import InvalidInput
from fairloop.stats.bfw import ARMS, bfw_protocol
from fairloop.stats.pairs import evaluate_pairs
from tests.unit.stats.lists import FEW

GROUPS = ("asian_females", "black_males", "white_females")
FOLDS, PEOPLE, PAIRS = 5, 15, 1500


@pytest.fixture(scope="module")
def bfw():
    """Like BFW's table: folds with people of their own; one subgroup's strangers look more alike."""
    rng = np.random.default_rng(5)
    fold = np.arange(len(GROUPS) * PAIRS) % FOLDS
    label = np.repeat(GROUPS, PAIRS)
    genuine = rng.random(label.size) < 0.4
    first = rng.integers(PEOPLE, size=label.size)
    second = np.where(genuine, first, (first + rng.integers(1, PEOPLE, size=label.size)) % PEOPLE)
    score = np.where(genuine, 0.55, np.where(label == "black_males", 0.2, 0.0))
    score = np.round(score + 0.15 * rng.standard_normal(label.size), 3)
    sides = [
        [f"{group}/{f}/{who}" for group, f, who in zip(label, fold, side, strict=True)]
        for side in (first, second)
    ]
    return score, genuine, label, fold, (sides[0], sides[1])


def threshold(score, genuine, chosen, target):
    """The smallest score that occurred at which at most that share of the impostors is accepted."""
    other = score[chosen & ~genuine]
    return min(at for at in np.unique(score[chosen]) if (other >= at).mean() <= target)


@pytest.mark.parametrize("target", [0.05, 0.01])
def test_both_thresholds_come_from_the_other_folds_and_judge_this_one(bfw, target):
    score, genuine, label, fold, ids = bfw
    found = bfw_protocol(score, genuine, label, fold, subjects=ids, targets=[target], replicates=FEW)
    accepted = {"": np.zeros(score.size, bool), "own_": np.zeros(score.size, bool)}
    for k in range(FOLDS):
        here = fold == k
        accepted[""] |= here & (score >= threshold(score, genuine, ~here, target))
        for group in GROUPS:
            mine = label == group
            accepted["own_"] |= here & mine & (score >= threshold(score, genuine, ~here & mine, target))
    assert [point.group for point in found.points] == list(GROUPS)
    for point in found.points:
        mine = label == point.group
        for prefix, decided in accepted.items():
            assert getattr(point, f"{prefix}fmr") == pytest.approx(decided[mine & ~genuine].mean())
            assert getattr(point, f"{prefix}fnmr") == pytest.approx(1 - decided[mine & genuine].mean())
        assert point.off_target == pytest.approx(point.fmr / target - 1)
        assert point.own_off_target == pytest.approx(point.own_fmr / target - 1)


def test_thresholds_of_their_own_bring_subgroups_to_the_intended_rate(bfw):
    score, genuine, label, fold, ids = bfw
    found = bfw_protocol(score, genuine, label, fold, subjects=ids, targets=[0.05], replicates=FEW)
    off = {point.group: (point.off_target, point.own_off_target) for point in found.points}
    assert off["black_males"][0] > 1
    assert abs(off["black_males"][1]) < 0.3
    gap = found.comparison.differences["gini_fmr"]
    assert gap.joint_interval[1] < 0
    assert tuple(arm.name for arm in found.comparison.arms) == ARMS
    # One list says nothing about other recognisers, and the verdict says so.
    assert found.comparison.decision.verdict == "one run"


def test_rates_of_the_global_threshold_are_those_of_an_evaluation_over_folds(bfw):
    score, genuine, label, fold, ids = bfw
    found = bfw_protocol(score, genuine, label, fold, subjects=ids, targets=[0.05], replicates=FEW)
    alone = evaluate_pairs(score, genuine, label, subjects=ids, fmr=0.05, folds=fold, replicates=FEW)
    assert found.common.to_dict() == alone.to_dict()
    assert [p.fmr_interval for p in found.points] == [g.fmr_interval for g in alone.groups]


def test_a_target_with_too_few_impostor_pairs_is_left_out_and_told_unless_it_is_the_first(bfw):
    score, genuine, label, fold, ids = bfw
    found = bfw_protocol(score, genuine, label, fold, targets=[0.05, 1e-4], replicates=FEW)
    assert found.targets == (0.05,)
    assert "fmr_undefined:0.0001" in found.flags
    assert found.comparison is None  # without ids nothing pairs the replicates
    with pytest.raises(InvalidInput, match=r"group asian_females: undefined at 0.001 for fold 0"):
        bfw_protocol(score, genuine, label, fold, subjects=ids, targets=[0.001], replicates=FEW)
    body = json.loads(found.to_json())
    assert (body["schema"], len(body["points"])) == ("fairloop.bfw/1", len(GROUPS))
    assert "intended FMR" in str(found)


def test_wrong_targets_and_thresholds_are_named(bfw):
    score, genuine, label, fold, _ = bfw
    with pytest.raises(InvalidInput, match=r"targets: 1.0 is outside 0–1"):
        bfw_protocol(score, genuine, label, fold, targets=[1.0])
    with pytest.raises(InvalidInput, match="targets: needs at least one"):
        bfw_protocol(score, genuine, label, fold, targets=[0.1, 0.1])
    for wrong in ({"policy": "eer"}, {"fmr": 0.1, "impostors": "all"}):
        with pytest.raises(InvalidInput, match="fold_thresholds: 'per_group' needs"):
            evaluate_pairs(score, genuine, label, folds=fold, fold_thresholds="per_group", **wrong)
    with pytest.raises(InvalidInput, match="fold_thresholds: 'own'"):
        evaluate_pairs(score, genuine, label, folds=fold, fold_thresholds="own", fmr=0.1)
