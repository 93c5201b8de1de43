"""Lists of pairs against the evaluation of all pairs, closed forms and other libraries."""

import json

import numpy as np
import pytest
from cimat import UncertaintyEstimator
from pyeer import eer_stats
from scipy import stats
from sklearn.metrics import roc_curve

from fairloop.stats.inequality import gini
from fairloop.stats.lfw import lfw_accuracy
from fairloop.stats.pair_list import pair_list, scores_by_group
from fairloop.stats.pairs import evaluate_pairs
from fairloop.stats.scoring import normalised
from fairloop.stats.verification import evaluate_verification
from tests.unit.stats.lists import FEW, assert_close, within
from tests.unit.stats.worlds import Population, sample


def all_pairs(world):
    rows = normalised(world.embeddings, np.ones(len(world.subjects), dtype=bool), world.subjects)
    i, j = np.triu_indices(len(rows), 1)
    subject, group = np.array(world.subjects), np.array(world.groups)
    sides = {"subjects": (subject[i], subject[j])}
    return (rows @ rows.T)[i, j], subject[i] == subject[j], (group[i], group[j]), sides


@pytest.fixture(scope="module")
def world():
    return sample([Population(), Population(0.3, 0.9)], [30, 20], 3, 1)


@pytest.mark.parametrize("impostors", ["within_group", "all"])
@pytest.mark.parametrize(
    "policy", [{"fmr": 0.02, "threshold_in_replicates": "both"}, {"policy": "eer"}, {"threshold": 0.3}]
)
def test_a_list_of_all_pairs_gives_what_the_embeddings_give(world, impostors, policy):
    options = {"impostors": impostors, "replicates": FEW, **policy}
    expected = evaluate_verification(world.embeddings, world.subjects, world.groups, **options)
    scores, genuine, groups, subjects = all_pairs(world)
    found = evaluate_pairs(scores, genuine, groups, **subjects, **options)
    assert found.threshold == expected.threshold
    assert (found.fmr, found.fnmr, found.target_fmr) == (expected.fmr, expected.fnmr, expected.target_fmr)
    for mine, theirs in zip(found.groups, expected.groups, strict=True):
        assert_close(mine, theirs)
    for name, summary in expected.summaries.items():
        mine = found.summaries[name]
        assert mine.interval == pytest.approx(summary.interval, rel=1e-5)
        numbers = (mine.value, mine.null_mean, mine.null_p95, mine.p_value)
        assert numbers == pytest.approx(
            (summary.value, summary.null_mean, summary.null_p95, summary.p_value), rel=1e-5
        )
    # 90 images of one group and 60 of the other.
    across = ("impostors_across_groups:5400",) if impostors == "within_group" else ()
    assert found.flags == (*expected.flags, *across)


def test_counts_are_those_of_scikit_learn_at_the_thresholds_of_the_report():
    score, genuine, label, ids = within(0)
    score = score.round(2)
    report = evaluate_pairs(score, genuine, label, subjects=ids, fmr=0.01, replicates=FEW)
    for record in report.groups:
        mine = label == record.group
        fpr, tpr, thresholds = roc_curve(genuine[mine], score[mine], drop_intermediate=False)
        for threshold, fmr, fnmr in (
            (report.threshold, record.fmr, record.fnmr),
            (record.own_threshold, None, record.fnmr_at_own_threshold),
        ):
            at = np.flatnonzero(thresholds >= threshold)[-1]
            assert fmr is None or fmr == pytest.approx(fpr[at])
            assert fnmr == pytest.approx(1 - tpr[at])
        assert record.genuine == genuine[mine].sum()
        assert record.impostor == (~genuine[mine]).sum()


def test_error_rates_at_the_usual_operating_points_are_those_of_pyeer():
    rng = np.random.default_rng(3)
    mated, other = rng.normal(2.5, 1, 700), rng.normal(0, 1, 2000)
    score, genuine = np.concatenate([mated, other]), np.arange(2700) < 700
    levels, fmr, fnmr = eer_stats.calculate_roc(mated, other)
    for target in (0.01, 0.001):
        # 20 and 2 of 2,000 distinct scores: the nearest point, which pyeer takes, has the rate exactly.
        report = evaluate_pairs(score, genuine, ["all"] * 2700, fmr=target, replicates=FEW)
        at, _ = eer_stats.get_fmr_op(fmr, fnmr, target)
        assert report.fmr == fmr[at] == target
        assert report.threshold == levels[at]
        assert report.fnmr == pytest.approx(fnmr[at])
    report = evaluate_pairs(score, genuine, ["all"] * 2700, policy="eer", replicates=FEW)
    assert (report.fmr + report.fnmr) / 2 == pytest.approx(
        eer_stats.get_eer_values(fmr, fnmr)[3], abs=1 / 700
    )


def test_variances_over_subjects_are_those_of_cimat():
    """Fogliato et al. 2024: their plug-in variance of an FPR is the dyadic-robust one."""
    score, genuine, label, ids = within(4, pairs=600, subjects=16, groups=("a",), gap=0.35)
    nested = {name: {} for name in np.unique(ids)}
    for value, first, second in zip(score.tolist(), *ids, strict=True):
        for one, other in {(first, second), (second, first)}:
            nested[one].setdefault(other, []).append(value)
    threshold = 0.2
    theirs = UncertaintyEstimator(nested)
    var_fnmr, var_fmr = theirs.compute_variance(threshold)
    scores = scores_by_group(pair_list(score, genuine, label, ids, None), score, "within_group").groups[0]
    assert scores.counts(threshold).dyadic_variance() == pytest.approx(var_fmr, rel=1e-6)
    report = evaluate_pairs(score, genuine, label, subjects=ids, threshold=threshold, replicates=20_000)
    assert (report.fmr, report.fnmr) == (
        pytest.approx(theirs.fp / (theirs.fp + theirs.tn)),
        pytest.approx(theirs.fn / (theirs.fn + theirs.tp)),
    )
    # Ours has t quantiles of 16 subjects; a plug-in variance is linear, and leaves out (S − 1)/S.
    low, high = report.groups[0].fnmr_interval
    half = stats.t.ppf(0.975, 15) * np.sqrt(var_fnmr * 16 / 15)
    assert (high - low) / 2 == pytest.approx(half, rel=0.08)


def test_one_person_with_all_genuine_pairs_has_a_rate_and_no_interval():
    score, genuine, label, ids = within(6, pairs=600, groups=("a",))
    kept = ~genuine | (ids[0] == ids[0][genuine][0])
    report = evaluate_pairs(
        score[kept],
        genuine[kept],
        label[kept],
        subjects=(ids[0][kept], ids[1][kept]),
        fmr=0.05,
        replicates=FEW,
    )
    assert report.groups[0].fnmr is not None
    assert report.groups[0].fnmr_interval is None or report.groups[0].fnmr in (0.0, 1.0)
    assert "one_genuine_subject" in report.groups[0].flags


@pytest.mark.parametrize("known", [True, False])
def test_no_errors_and_all_errors_have_exact_intervals(known):
    _, genuine, label, ids = within(7, pairs=400)
    subjects = ids if known else None
    right = evaluate_pairs(np.where(genuine, 1.0, 0.0), genuine, label, subjects=subjects, threshold=0.5)
    wrong = evaluate_pairs(np.where(genuine, 0.0, 1.0), genuine, label, subjects=subjects, threshold=0.5)
    for record in right.groups:
        # Clopper–Pearson of 0 errors in n: 1 − 0.025^(1/n).
        assert record.fmr_interval == (0.0, pytest.approx(1 - 0.025 ** (1 / record.impostor)))
        assert record.fnmr_interval == (0.0, pytest.approx(1 - 0.025 ** (1 / record.genuine)))
    for record in wrong.groups:
        assert record.fmr_interval == (pytest.approx(0.025 ** (1 / record.impostor)), 1.0)
        assert "all_false_matches" in record.flags
    assert "degenerate" in right.summaries["gini_fmr"].flags


def test_equal_scores_are_all_accepted_or_all_rejected():
    genuine = np.tile([True, False], 100)
    report = evaluate_pairs(np.full(200, 0.5), genuine, ["x", "x", "y", "y"] * 50, fmr=0.1, replicates=FEW)
    assert report.threshold == np.nextafter(0.5, 1)
    assert (report.fmr, report.fnmr) == (0.0, 1.0)


def test_without_ids_intervals_are_exact_and_the_lost_guarantees_are_named():
    score, genuine, label, _ = within(8)
    report = evaluate_pairs(score, genuine, label, fmr=0.02)
    for record in report.groups:
        for errors, trials, interval in (
            (record.false_matches, record.impostor, record.fmr_interval),
            (record.false_non_matches, record.genuine, record.fnmr_interval),
        ):
            exact = stats.binomtest(errors, trials).proportion_ci(method="exact")
            assert interval == pytest.approx((exact.low, exact.high))
        assert record.subjects == 0
        assert "few_subjects" not in record.flags
    assert "no_subject_ids" in report.flags
    assert "too narrow" in report.conventions["guarantees lost"]
    assert "redraw pairs" in report.conventions["intervals"]


def test_without_ids_the_null_is_binomial():
    """§6: 4 × 30,000 independent pairs at FMR 1e-3 have E[Gini(FMR)] .103 and 95th percentile .181."""
    scores = np.concatenate([np.tile(np.arange(30_000) / 30_000, 4), np.ones(40)])
    genuine, groups = np.arange(120_040) >= 120_000, np.repeat(["a", "b", "c", "d"], 30_000)
    labels = np.concatenate([groups, np.repeat(["a", "b", "c", "d"], 10)])
    summary = evaluate_pairs(scores, genuine, labels, fmr=1e-3, replicates=4000).summaries["gini_fmr"]
    assert summary.null_mean == pytest.approx(0.103, abs=0.004)
    assert summary.null_p95 == pytest.approx(0.181, abs=0.008)
    binomial = np.random.default_rng(0).binomial(30_000, 1e-3, (4000, 4)) / 30_000
    assert summary.null_mean == pytest.approx(np.mean([gini(row) for row in binomial]), abs=0.004)


def test_without_ids_equal_groups_of_independent_pairs_are_rarely_called_unequal():
    called = {"fmr_gap": 0, "fnmr_gap": 0, "fnmr_gap_at_own_threshold": 0}
    for seed in range(60):
        rng = np.random.default_rng(seed)
        genuine, label = rng.random(4000) < 0.5, rng.choice(["a", "b"], 4000)
        score = np.where(genuine, 2.0, 0.0) + rng.standard_normal(4000)
        report = evaluate_pairs(score, genuine, label, fmr=0.03, replicates=FEW, seed=seed)
        for name in called:
            called[name] += report.summaries[name].p_value < 0.05
    # Of 60, 5 % are 3; 9 or more have probability .003.
    assert max(called.values()) < 9, called


def test_subjects_who_cause_errors_make_intervals_wider_than_independent_pairs_do():
    score, genuine, label, ids = within(9, subjects=25)
    with_ids = evaluate_pairs(score, genuine, label, subjects=ids, fmr=0.05)
    without = evaluate_pairs(score, genuine, label, fmr=0.05)
    assert with_ids.threshold == without.threshold
    for mine, theirs in zip(with_ids.groups, without.groups, strict=True):
        assert (mine.fmr, mine.fnmr) == (theirs.fmr, theirs.fnmr)
        assert np.ptp(mine.fmr_interval) > 1.3 * np.ptp(theirs.fmr_interval)
        assert np.ptp(mine.fnmr_interval) > 1.3 * np.ptp(theirs.fnmr_interval)


@pytest.mark.parametrize("known", [True, False])
def test_rechosen_thresholds_stand_beside_the_fixed_one(known):
    score, genuine, label, ids = within(10)
    options = {"subjects": ids if known else None, "fmr": 0.02, "replicates": 500}
    both = evaluate_pairs(score, genuine, label, threshold_in_replicates="both", **options)
    fixed = evaluate_pairs(score, genuine, label, **options)
    for mine, theirs in zip(both.groups, fixed.groups, strict=True):
        assert mine.fmr_interval == theirs.fmr_interval
        # Both groups' FMR move together with a threshold that keeps their mean.
        assert np.ptp(mine.fmr_interval_rechosen) < np.ptp(mine.fmr_interval)
        assert np.ptp(mine.fnmr_interval_rechosen) >= 0.9 * np.ptp(mine.fnmr_interval)
        assert mine.fmr_interval_rechosen[0] < mine.fmr < mine.fmr_interval_rechosen[1]


def folds_of(ids, count=5):
    """Folds without common people: pairs whose people fall into two folds are dropped."""
    number = [np.char.partition(side, "/")[:, 2].astype(int) % count for side in ids]
    return number[0], number[0] == number[1]


def test_each_fold_is_judged_at_the_threshold_of_the_others():
    score, genuine, label, ids = within(11, pairs=20_000)
    fold, kept = folds_of(ids)
    score, genuine, label, fold = score[kept], genuine[kept], label[kept], fold[kept]
    ids = ids[0][kept], ids[1][kept]
    report = evaluate_pairs(score, genuine, label, subjects=ids, fmr=0.02, folds=fold, replicates=FEW)
    false_matches, false_non_matches = 0, 0
    for k in range(5):
        others = np.sort(score[(fold != k) & ~genuine])[::-1]
        threshold = min(s for s in score[fold != k] if s > others[int(0.02 * others.size)])
        mine = fold == k
        false_matches += int((score[mine & ~genuine] >= threshold).sum())
        false_non_matches += int((score[mine & genuine] < threshold).sum())
    assert sum(g.false_matches for g in report.groups) == false_matches
    assert sum(g.false_non_matches for g in report.groups) == false_non_matches
    assert report.fmr == false_matches / (~genuine).sum()
    assert report.threshold == 0.0
    assert "thresholds of folds" in report.conventions
    assert not any(flag.startswith("folds_share") for flag in report.flags)


def test_people_in_several_folds_are_flagged():
    score, genuine, label, ids = within(12, pairs=1000)
    fold = np.arange(1000) % 5
    report = evaluate_pairs(score, genuine, label, subjects=ids, policy="eer", folds=fold, replicates=FEW)
    assert any(flag.startswith("folds_share_subjects:80, such as a/000") for flag in report.flags)


def test_best_accuracy_on_the_other_folds_is_the_lfw_protocol():
    score, genuine, label, _ = within(13, pairs=2000)
    fold = np.repeat(np.arange(10), 200)
    report = evaluate_pairs(
        score, genuine, label, policy="10_fold_accuracy", folds=fold, threshold_in_replicates="fixed"
    )
    wrong = sum(g.false_matches + g.false_non_matches for g in report.groups)
    assert 1 - wrong / 2000 == pytest.approx(lfw_accuracy(score, genuine, fold).mean)


def test_a_report_of_pairs_prints_and_converts():
    score, genuine, label, ids = within(14, pairs=600)
    report = evaluate_pairs(score, genuine, label, subjects=ids, fmr=0.05, replicates=FEW)
    data = json.loads(report.to_json())
    assert data["counts"]["pairs"] == 600
    assert "FNMR" in str(report)
    assert len(report.to_pandas()) == 2
