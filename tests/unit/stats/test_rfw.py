"""RFW's accuracies against a second count of every fold, closed forms and the tables' reference values."""

import json

import numpy as np
import pytest
from scipy import stats

from fairloop.errors import InvalidInput
from fairloop.stats.rfw import rfw_protocol
from tests.unit.stats.lists import FEW, within

PAIRS = 200
"""Of each race in `planted`: ten folds of ten genuine and ten impostor pairs."""


def planted(**errors):
    """Races with so many genuine pairs that no threshold can save; all others are told apart at once."""
    scores, genuine, races = [], [], []
    for race, count in errors.items():
        same = np.arange(PAIRS) % 2 == 0
        score = np.where(same, 0.9, 0.1)
        score[np.flatnonzero(same)[:: max(1, 100 // max(count, 1))][:count]] = -0.5
        scores.append(score)
        genuine.append(same)
        races += [race] * PAIRS
    return np.concatenate(scores), np.concatenate(genuine), races


def by_hand(score, genuine, folds):
    """Accuracy of each fold at the most accurate of the other folds' scores, the largest of several."""
    found = []
    for fold in range(folds):
        test = np.repeat(np.arange(folds), len(score) // folds) == fold
        right = [((score[~test] >= at) == genuine[~test]).mean() for at in np.unique(score[~test])]
        at = np.unique(score[~test])[np.flatnonzero(right == np.max(right))[-1]]
        found.append(((score[test] >= at) == genuine[test]).mean())
    return np.array(found)


def test_mean_deviation_and_skewed_error_ratio_are_those_of_the_reference_accuracies():
    # 93, 94, 95 and 98 % right: mean 95, population STD 1.870829, SER 3.5.
    found = rfw_protocol(*planted(African=14, Asian=12, Caucasian=4, Indian=10), replicates=FEW)
    assert [race.accuracy for race in found.races] == pytest.approx([0.93, 0.94, 0.98, 0.95])
    assert [race.errors for race in found.races] == [14, 12, 4, 10]
    assert found.mean == pytest.approx(0.95)
    assert found.summaries["accuracy_std"].value == pytest.approx(0.01870829)
    assert found.summaries["skewed_error_ratio"].value == pytest.approx(3.5)
    assert found.summaries["accuracy_gap"].value == pytest.approx(0.05)


def test_every_race_is_judged_by_thresholds_of_its_own_other_folds():
    score, genuine, races, _ = within(1, pairs=2000, groups=("a", "b", "c"))
    found = rfw_protocol(score, genuine, races, folds=np.arange(2000) % 5, replicates=FEW)
    assert [race.race for race in found.races] == ["a", "b", "c"]
    for race in found.races:
        mine = races == race.race
        order = np.argsort(np.arange(2000)[mine] % 5, kind="stable")
        own, same = score[mine][order], genuine[mine][order]
        sizes = np.bincount(np.arange(2000)[mine] % 5)
        expected = []
        for fold in range(5):
            test = np.repeat(np.arange(5), sizes) == fold
            levels = np.unique(own[~test])
            right = np.array([((own[~test] >= at) == same[~test]).mean() for at in levels])
            at = levels[np.flatnonzero(right == right.max())[-1]]
            expected.append(((own[test] >= at) == same[test]).mean())
        assert race.accuracy == pytest.approx(np.mean(expected))
        assert race.accuracy_std == pytest.approx(np.std(expected))


def test_consecutive_folds_are_cut_race_by_race():
    score, genuine, races, _ = within(2, pairs=1000, groups=("a", "b"))
    keep = np.concatenate([np.flatnonzero(races == race)[:400] for race in ("b", "a")])
    found = rfw_protocol(score[keep], genuine[keep], races[keep].tolist(), replicates=FEW)
    for race in found.races:
        mine = races[keep] == race.race
        expected = by_hand(score[keep][mine], genuine[keep][mine], 10)
        assert (race.accuracy, race.accuracy_std) == pytest.approx((expected.mean(), expected.std()))


def test_val_is_the_true_accept_rate_where_the_other_folds_false_accepts_are_the_target():
    score, genuine, races, _ = within(3, pairs=2000, groups=("a", "b"))
    (first, _) = rfw_protocol(
        score, genuine, races, folds=np.arange(2000) % 4, far=0.05, replicates=FEW
    ).races
    mine, fold = races == "a", np.arange(2000) % 4
    vals = []
    for k in range(4):
        other = np.sort(score[mine & (fold != k) & ~genuine])[::-1]
        at = np.interp(0.05, np.arange(1, other.size + 1) / other.size, other)
        vals.append((score[mine & (fold == k) & genuine] >= at).mean())
    assert (first.val, first.val_std) == pytest.approx((np.mean(vals), np.std(vals)))


def test_intervals_of_pairs_without_ids_are_about_as_wide_as_binomial_ones():
    found = rfw_protocol(*planted(a=40, b=40), replicates=2000)
    exact = stats.binomtest(40, PAIRS).proportion_ci(0.95)
    assert found.races[0].accuracy_interval == pytest.approx((1 - exact.high, 1 - exact.low), abs=0.015)
    assert "no_subject_ids" in found.flags
    assert found.races[0].subjects is None


def test_a_planted_difference_goes_beyond_chance_and_none_ends_at_the_fair_value():
    unequal = rfw_protocol(*planted(a=5, b=50), replicates=500).summaries
    assert all(summary.p_value < 0.05 and summary.interval[0] > summary.fair for summary in unequal.values())
    equal = rfw_protocol(*planted(a=20, b=20), replicates=500).summaries
    assert all(summary.p_value > 0.5 and summary.interval[0] == summary.fair for summary in equal.values())


def test_a_race_without_an_error_leaves_the_ratio_undefined_and_says_what_stands_in():
    ratio = rfw_protocol(*planted(a=0, b=10), replicates=FEW).summaries["skewed_error_ratio"]
    assert ratio.value is None
    # 5 % of errors over the one-sided bound of none in 200.
    assert ratio.value_under_zero_policy == pytest.approx(0.05 / (1 - 0.05 ** (1 / PAIRS)))
    assert "undefined_zero_error" in ratio.flags


def test_people_make_intervals_wider_and_those_of_two_races_are_told():
    # Each person's pairs are all right or all wrong: ten persons are worth ten pairs, not two hundred.
    score, genuine, races = planted(a=0, b=0)
    who = [f"{race}{row % PAIRS // 20}" for row, race in enumerate(races)]
    score = np.where(np.array([name in ("a1", "b2", "b5") for name in who]) & genuine, -0.5, score)
    others = [f"{name}x" if not same else name for name, same in zip(who, genuine, strict=True)]
    folds = [row % 10 for row in range(len(races))]
    alone = rfw_protocol(score, genuine, races, folds=folds, replicates=500).races[1].accuracy_interval
    known = rfw_protocol(score, genuine, races, subjects=(who, others), folds=folds, replicates=500)
    low, high = known.races[1].accuracy_interval
    assert high - low > 1.5 * (alone[1] - alone[0])
    assert known.flags == ()
    both = [name.replace("b1", "a1") for name in who], [name.replace("b1", "a1") for name in others]
    shared = rfw_protocol(score, genuine, races, subjects=both, folds=folds, replicates=FEW)
    assert shared.flags == ("shared_subjects:2, such as a1",)


def test_a_report_is_plain_json_and_readable():
    found = rfw_protocol(*planted(a=5, b=50), replicates=FEW)
    assert json.loads(found.to_json())["schema"] == "fairloop.rfw/1"
    assert "skewed error ratio (SER)" in str(found)


def test_what_is_no_list_of_races_is_refused():
    score, genuine, races = planted(a=5, b=50)
    with pytest.raises(InvalidInput, match="races: row 3 has no race"):
        rfw_protocol(score, genuine, [*races[:3], None, *races[4:]])
    with pytest.raises(InvalidInput, match="races: 1 race; inequality needs at least 2"):
        rfw_protocol(score, genuine, ["a"] * len(races))
    with pytest.raises(InvalidInput, match="folds: a: 300 folds of 200 pairs"):
        rfw_protocol(score, genuine, races, folds=300)
