"""Classification fairness: AI-Face's toy, scikit-learn and fairlearn, and what must not change it."""

import json

import numpy as np
import pytest
from fairlearn import metrics
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import accuracy_score, roc_auc_score

from fairloop.errors import InvalidInput
from fairloop.stats.classification import classification_fairness
from fairloop.stats.risk import cvar
from fairloop.stats.separation import separation

TRUTH = [int(c) for c in "0000111100001111"]
CALLS = [int(c) for c in "0001111000111111"]
GROUPS = ["a"] * 8 + ["b"] * 8

RATES = {
    "accuracy": accuracy_score,
    "positive_rate": metrics.selection_rate,
    "fpr": metrics.false_positive_rate,
    "tpr": metrics.true_positive_rate,
    "fnr": metrics.false_negative_rate,
    "tnr": metrics.true_negative_rate,
}

rows = st.lists(
    st.tuples(st.integers(0, 1), st.integers(0, 1), st.sampled_from("xyz")), min_size=4, max_size=60
)


def images(count=600, groups=3, seed=0):
    """Truth, prediction, group and score; the groups differ in their rates."""
    rng = np.random.default_rng(seed)
    group = rng.integers(0, groups, count)
    truth = rng.integers(0, 2, count)
    score = np.round(rng.normal(truth + 0.2 * group, 1.0), 2)
    return truth, (score > 0.6).astype(int), np.array([f"g{g}" for g in group]), score


def people(subjects=60, each=8, spread=1.0, shift=0.0, seed=0):
    """Images of subjects who are easy or hard for the classifier, in two groups."""
    rng = np.random.default_rng(seed)
    subject = np.repeat(np.arange(2 * subjects), each)
    second = subject >= subjects
    truth = rng.integers(0, 2, subject.size)
    score = rng.normal(truth + rng.normal(0, spread, 2 * subjects)[subject] + shift * second, 1.0)
    return truth, (score > 0.5).astype(int), np.where(second, "b", "a"), score, [f"s{s}" for s in subject]


def test_the_toy_of_ai_face():
    found = classification_fairness(TRUTH, CALLS, GROUPS).measures
    assert found["f_meo"].value == pytest.approx(25)
    assert found["f_dp"].value == pytest.approx(25)
    assert found["f_oae"].value == 0
    assert found["f_fpr"].value == pytest.approx(25)
    assert found["f_efpr"].value == pytest.approx(0.25)
    assert found["f_eo"].value == pytest.approx(0.5)


@pytest.mark.parametrize("seed", range(3))
def test_every_rate_is_that_of_fairlearns_metric_frame(seed):
    truth, calls, group, _ = images(seed=seed, groups=2 + seed)
    frame = metrics.MetricFrame(metrics=RATES, y_true=truth, y_pred=calls, sensitive_features=group)
    report = classification_fairness(truth, calls, group, replicates=20)
    for record in report.groups:
        for name in RATES:
            assert getattr(record, name) == pytest.approx(frame.by_group.loc[record.group, name], abs=1e-12)
    for name in RATES:
        assert getattr(report.overall, name) == pytest.approx(frame.overall[name], abs=1e-12)
    gaps = frame.difference(method="between_groups")
    found = {name: report.measures[name].value for name in report.measures}
    assert found["f_fpr"] == pytest.approx(100 * gaps["fpr"])
    assert found["f_oae"] == pytest.approx(100 * gaps["accuracy"])
    assert found["f_dp"] == pytest.approx(100 * gaps["positive_rate"])
    assert found["f_meo"] == pytest.approx(100 * gaps[["fpr", "fnr", "tnr", "tpr"]].max())


def test_the_differences_are_fairlearns():
    truth, calls, group, _ = images(seed=4)
    found = classification_fairness(truth, calls, group, replicates=20).measures
    for name, function, options in (
        ("demographic_parity_difference", metrics.demographic_parity_difference, {}),
        ("equalized_odds_difference", metrics.equalized_odds_difference, {}),
        ("equalized_odds_difference_mean", metrics.equalized_odds_difference, {"agg": "mean"}),
        ("equal_opportunity_difference", metrics.equal_opportunity_difference, {}),
    ):
        expected = function(truth, calls, sensitive_features=group, **options)
        assert found[name].value == pytest.approx(expected, abs=1e-12)


def test_auc_and_balanced_error_gaps_are_scikit_learns():
    truth, calls, group, score = images(seed=5)
    report = classification_fairness(truth, calls, group, scores=score, replicates=20)
    areas = {g: roc_auc_score(truth[group == g], score[group == g]) for g in np.unique(group)}
    errors = {}
    for record in report.groups:
        assert record.auc == pytest.approx(areas[record.group], abs=1e-12)
        errors[record.group] = 1 - (record.tpr + record.tnr) / 2
        assert record.balanced_error == pytest.approx(errors[record.group])
    for name, values in (("auc_gap", areas.values()), ("balanced_error_gap", errors.values())):
        assert report.measures[name].value == pytest.approx(100 * (max(values) - min(values)))
    assert report.overall.auc == pytest.approx(roc_auc_score(truth, score), abs=1e-12)


def test_auc_has_the_variance_of_its_structural_components():
    truth, _, _, score = images(count=80, seed=6)
    ups, downs = score[truth == 1], score[truth == 0]
    wins = (ups[:, None] > downs) + 0.5 * (ups[:, None] == downs)
    expected = wins.mean(axis=1).var(ddof=1) / ups.size + wins.mean(axis=0).var(ddof=1) / downs.size
    found = separation(score, truth == 1)
    assert found.auc == pytest.approx(wins.mean(), abs=1e-12)
    assert found.variance == pytest.approx(expected, rel=1e-9)
    assert found.influence.sum() == pytest.approx(0.0, abs=1e-12)


def test_with_several_classes_one_stands_against_the_rest_and_accuracy_is_over_all():
    rng = np.random.default_rng(7)
    truth, group = rng.choice(list("xyz"), 300), rng.choice(["m", "f"], 300)
    calls = np.where(rng.random(300) < 0.6, truth, rng.choice(list("xyz"), 300))
    report = classification_fairness(truth, calls, group, positive="y", replicates=20)
    for record in report.groups:
        mine = group == record.group
        assert record.accuracy == pytest.approx(accuracy_score(truth[mine], calls[mine]))
        assert record.tpr == pytest.approx(np.mean(calls[mine & (truth == "y")] == "y"))
        assert record.fpr == pytest.approx(np.mean(calls[mine & (truth != "y")] == "y"))
        assert record.true_negatives == np.sum(mine & (truth != "y") & (calls != "y"))
    assert report.classes == ("x", "y", "z")


def test_a_group_without_a_class_is_listed_with_its_counts_and_named_by_the_measures():
    truth, calls, groups = [*TRUTH, 0, 0, 0], [*CALLS, 0, 0, 1], [*GROUPS, "c", "c", "c"]
    report = classification_fairness(truth, calls, groups, scores=calls, replicates=50)
    record = report.group("c")
    assert (record.images, record.positives, record.negatives, record.false_positives) == (3, 0, 3, 1)
    assert (record.tpr, record.auc, record.balanced_error) == (None, None, None)
    assert record.fpr == pytest.approx(1 / 3)
    assert "no_positives" in record.flags
    for name in ("f_meo", "f_eo", "auc_gap", "balanced_error_gap", "equal_opportunity_difference"):
        assert "insufficient:c" in report.measures[name].flags
    assert "insufficient:c" not in report.measures["f_oae"].flags
    assert report.measures["f_fpr"].value == pytest.approx(25)


def test_intersections_are_groups():
    attributes = {"gender": ["m", "f"] * 8, "tone": ["light"] * 8 + ["dark"] * 8}
    report = classification_fairness(TRUTH, CALLS, attributes, replicates=20)
    assert [record.group for record in report.groups] == [
        *("gender=f,tone=dark", "gender=f,tone=light", "gender=m,tone=dark", "gender=m,tone=light")
    ]
    assert sum(record.images for record in report.groups) == 16


def test_intervals_of_independent_images_are_wilsons():
    truth, calls, group, _ = images(seed=8)
    record = classification_fairness(truth, calls, group, replicates=20).groups[0]
    expected = stats.binomtest(record.false_positives, record.negatives).proportion_ci(0.95, "wilson")
    assert record.fpr_interval == pytest.approx((expected.low, expected.high))
    assert record.fnr_interval == pytest.approx((1 - record.tpr_interval[1], 1 - record.tpr_interval[0]))


def test_copies_of_every_image_change_nothing_when_their_subject_is_known():
    truth, calls, group, score = images(count=400, groups=2, seed=9)
    names = [str(i) for i in range(400)]
    once = classification_fairness(truth, calls, group, scores=score, subjects=names, replicates=3000)
    copied = [np.tile(x, 4) for x in (truth, calls, group, score)]
    many = classification_fairness(*copied[:3], scores=copied[3], subjects=names * 4, replicates=3000)
    for first, second in zip(once.groups, many.groups, strict=True):
        for rate in ("fpr", "tpr", "accuracy", "auc", "balanced_error"):
            assert getattr(second, rate) == pytest.approx(getattr(first, rate))
            ends = [getattr(r, f"{rate}_interval") for r in (first, second)]
            assert np.subtract(*ends[1]) == pytest.approx(np.subtract(*ends[0]), rel=0.06)
    for name, measure in once.measures.items():
        assert many.measures[name].null_p95 == pytest.approx(measure.null_p95, rel=0.25)


def test_subjects_who_differ_widen_the_null_and_the_intervals():
    truth, calls, group, _, subjects = people(spread=1.5)
    images_only = classification_fairness(truth, calls, group, replicates=500)
    clustered = classification_fairness(truth, calls, group, subjects=subjects, replicates=500)
    for name in ("f_fpr", "f_dp", "f_eo"):
        assert clustered.measures[name].null_p95 > 1.3 * images_only.measures[name].null_p95
    width = [np.subtract(*r.groups[0].positive_rate_interval[::-1]) for r in (images_only, clustered)]
    assert width[1] > 1.3 * width[0]
    assert clustered.groups[0].subjects == 60


def test_equal_groups_are_called_unequal_as_often_as_they_should():
    reports = []
    for seed in range(60):
        truth, calls, group, _, subjects = people(subjects=50, seed=seed)
        reports.append(
            classification_fairness(truth, calls, group, subjects=subjects, replicates=100, seed=seed)
        )
    for name in ("f_fpr", "f_dp", "f_oae", "equal_opportunity_difference"):
        p = [report.measures[name].p_value for report in reports]
        # 60 worlds: more than 8 rejections at .05 have probability .005.
        assert sum(value < 0.05 for value in p) <= 8
        assert stats.kstest(p, "uniform").pvalue > 0.001


def test_a_planted_gap_is_seen_and_its_interval_leaves_zero():
    truth, calls, group, _, subjects = people(subjects=120, shift=0.8, seed=3)
    found = classification_fairness(truth, calls, group, subjects=subjects, replicates=300).measures
    for name in ("f_fpr", "f_dp", "f_meo"):
        assert found[name].p_value < 0.02
        assert found[name].interval[0] > 0


def test_groups_that_share_subjects_are_drawn_together_and_flagged():
    truth, calls, _, _, subjects = people(subjects=40, spread=2.0, seed=4)
    across = np.where(np.arange(truth.size) % 2 == 0, "x", "y")
    report = classification_fairness(truth, calls, across, subjects=subjects, replicates=500)
    assert "shared_subjects" in report.flags
    apart = [f"{s}-{g}" for s, g in zip(subjects, across, strict=True)]
    separate = classification_fairness(truth, calls, across, subjects=apart, replicates=500)
    # What makes a subject hard is in both groups, so less of it is in their difference.
    assert report.measures["f_dp"].null_p95 < 0.85 * separate.measures["f_dp"].null_p95


def test_images_without_truth_or_group_are_counted_and_a_missing_prediction_is_an_error():
    truth, groups = [*TRUTH, None, 1], [*GROUPS, "a", ""]
    report = classification_fairness(truth, [*CALLS, 1, 1], groups, replicates=20)
    assert report.counts["without truth"] == 1
    assert report.counts["without a group"] == 1
    assert report.measures["f_meo"].value == pytest.approx(25)
    with pytest.raises(InvalidInput, match="image 3 has none"):
        classification_fairness(TRUTH, [None if i == 3 else c for i, c in enumerate(CALLS)], GROUPS)


def test_one_group_has_rates_and_no_measure():
    report = classification_fairness(TRUTH, CALLS, ["all"] * 16, scores=CALLS, replicates=20)
    assert report.groups[0].accuracy == 0.75
    for measure in report.measures.values():
        assert measure.value is None
        assert measure.flags == ("one_group",)


def test_scores_that_separate_perfectly_have_no_interval_and_say_so():
    report = classification_fairness(TRUTH, TRUTH, GROUPS, scores=TRUTH, replicates=50)
    record = report.groups[0]
    assert (record.auc, record.auc_interval) == (1.0, None)
    assert "perfect_separation" in record.flags
    assert report.measures["auc_gap"].value == 0.0
    assert record.fpr_interval[0] == 0.0 < record.fpr_interval[1]


def test_one_subject_in_a_group_has_no_interval_and_is_flagged():
    subjects = ["only"] * 8 + [f"s{i}" for i in range(8)]
    record = classification_fairness(TRUTH, CALLS, GROUPS, subjects=subjects, replicates=50).group("a")
    assert record.accuracy_interval is None
    assert "one_subject" in record.flags


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"predicted": CALLS[:-1]}, "15 labels, truth has 16"),
        ({"groups": GROUPS[:-1]}, "15 values for 16 images"),
        ({"positive": "fake"}, "'fake' does not occur; truth and predicted have 0, 1"),
        ({"scores": [0.5] * 15}, "one number for each of 16 images"),
        ({"scores": [0.5] * 15 + [float("nan")]}, "image 15 has none"),
        ({"subjects": ["s"] * 3}, "3 values for 16 images"),
        ({"groups": [None] * 16}, "no image has a known group"),
        ({"truth": [None] * 16}, "no image has both a truth and a group"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(change, message):
    arguments = {"truth": TRUTH, "predicted": CALLS, "groups": GROUPS, **change}
    with pytest.raises(InvalidInput, match=message):
        classification_fairness(**arguments)


def test_the_report_is_plain_json_a_table_and_the_same_for_the_same_seed():
    truth, calls, group, score = images(count=100)
    one, other = (
        classification_fairness(truth, calls, group, scores=score, replicates=50, seed=1) for _ in range(2)
    )
    assert one.to_json() == other.to_json()
    plain = json.loads(one.to_json())
    assert plain["measures"]["f_meo"]["null_p95"] == one.measures["f_meo"].null_p95
    assert "F_MEO" in str(one)
    assert list(one.to_pandas()["group"]) == ["g0", "g1", "g2"]
    assert len(one.to_pandas("measures")) == len(one.measures)


@settings(max_examples=40, deadline=None)
@given(rows, st.randoms(use_true_random=False))
def test_the_order_of_images_and_the_names_of_groups_do_not_matter(cases, random):
    mixed = list(cases)
    random.shuffle(mixed)
    if not any(t or p for t, p, _ in cases):
        return

    def values(some, rename):
        truth, calls, groups = zip(*some, strict=True)
        report = classification_fairness(truth, calls, [rename[g] for g in groups], replicates=2)
        return {name: measure.value for name, measure in report.measures.items()}

    first = values(cases, {g: g for g in "xyz"})
    second = values(mixed, {"x": "z", "y": "x", "z": "y"})
    for name, value in first.items():
        assert second[name] == (None if value is None else pytest.approx(value, abs=1e-9))


@settings(max_examples=40, deadline=None)
@given(rows)
def test_a_duplicated_group_changes_no_gap(cases):
    if not any(t or p for t, p, _ in cases):
        return
    truth, calls, groups = zip(*cases, strict=True)
    again = [(t, c, "copy") for t, c, g in cases if g == groups[0]]
    longer = zip(*[*cases, *again], strict=True)
    first = classification_fairness(truth, calls, groups, replicates=2).measures
    second = classification_fairness(*longer, replicates=2).measures
    for name in ("f_fpr", "f_oae", "f_dp", "f_meo", "equalized_odds_difference"):
        if first[name].value is not None:
            assert second[name].value == pytest.approx(first[name].value, abs=1e-9)


def test_cvar_of_the_reference_losses():
    assert cvar([1, 2, 3, 4], 0.5) == 3.5
    assert cvar([1, 2, 3, 4], 1.0) == 2.5
    assert cvar([1, 2, 3, 4], 0.1) == 4.0


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(-10, 10), min_size=1, max_size=20), st.floats(0.05, 1.0))
def test_cvar_is_the_minimum_over_the_losses(losses, alpha):
    # The minimum over λ is at one of the losses, where the slope changes sign.
    x = np.array(losses)
    expected = min(level + np.maximum(x - level, 0).mean() / alpha for level in x)
    assert cvar(losses, alpha) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(("losses", "alpha"), [([], 0.5), ([1.0, float("inf")], 0.5), ([1.0], 0.0)])
def test_losses_without_a_mean_of_the_worst_are_refused(losses, alpha):
    with pytest.raises(InvalidInput):
        cvar(losses, alpha)


def test_a_class_of_one_subject_has_no_interval_and_says_so():
    truth, called = [1, 1, 0, 0, 0, 0] * 2, [1, 0, 0, 1, 0, 0] * 2
    subjects = ["x", "x", "x", "y", "y", "z", "u", "v", "u", "v", "w", "w"]
    report = classification_fairness(truth, called, ["a"] * 6 + ["b"] * 6, subjects=subjects, replicates=100)
    assert report.group("a").tpr_interval is None
    assert "one_subject_with_positives" in report.group("a").flags
    assert report.group("b").tpr_interval is not None
    assert "one_subject_with_positives" not in report.group("b").flags
