import json

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from fairloop.errors import InvalidInput
from fairloop.stats import Verdict, compare_recognizers, evaluate_verification
from fairloop.stats.compare import levelling_down

PEOPLE, IMAGES, DIMENSION = 50, 4, 24


def arm(noise, runs, seed, jitter=0.03):
    """`runs` recognisers of the same people and images; `noise` per group is how much they scatter them."""
    people = np.random.default_rng(7)
    centre = people.standard_normal((2 * PEOPLE, DIMENSION))
    image = people.standard_normal((2 * PEOPLE * IMAGES, DIMENSION))
    group = np.repeat([0, 1], PEOPLE * IMAGES)
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(runs):
        scale = np.array(noise)[group] * np.exp(jitter * rng.standard_normal())
        scatter = image + 0.3 * rng.standard_normal(image.shape)
        found.append((np.repeat(centre, IMAGES, axis=0) + scale[:, None] * scatter).astype(np.float32))
    return found


SUBJECTS = [f"s{i}" for i in range(2 * PEOPLE) for _ in range(IMAGES)]
GROUPS = ["dark"] * (PEOPLE * IMAGES) + ["light"] * (PEOPLE * IMAGES)
QUICK = {"fmr": 0.02, "replicates": 200, "names": ("generated", "balanced")}


def compare(before, after, **options):
    return compare_recognizers(before, after, SUBJECTS, GROUPS, **{**QUICK, **options})


@pytest.fixture(scope="module")
def halved():
    return compare(arm((1.4, 0.8), 3, seed=1), arm((1.0, 0.8), 3, seed=2))


def test_a_planted_smaller_gap_is_called_smaller(halved):
    assert halved.decision.verdict is Verdict.SMALLER
    assert halved.differences["fnmr_gap_at_own_threshold"].interval[1] < 0


def test_the_difference_is_that_of_the_mean_over_runs(halved):
    d = halved.differences["fnmr_at_own_threshold:dark"]
    runs = [[run.group("dark").fnmr_at_own_threshold for run in a.runs] for a in halved.arms]
    assert d.before == pytest.approx(np.mean(runs[0]))
    assert d.after == pytest.approx(np.mean(runs[1]))
    assert d.value == pytest.approx(d.after - d.before)
    assert d.by_seed == pytest.approx(np.subtract(runs[1], runs[0]))


def test_below_five_runs_the_interval_is_welchs(halved):
    d = halved.differences["fnmr:dark"]
    before, after = ([run.group("dark").fnmr for run in a.runs] for a in halved.arms)
    expected = stats.ttest_ind(after, before, equal_var=False).confidence_interval(0.95)
    assert d.interval == d.seed_interval == pytest.approx((expected.low, expected.high))


def test_the_shares_of_seeds_and_subjects_add_to_one(halved):
    for d in halved.differences.values():
        assert d.seed_share + d.subject_share == pytest.approx(1.0)
        assert 0 <= d.seed_share <= 1


def test_runs_are_the_evaluations_of_their_embeddings(halved):
    embeddings = arm((1.4, 0.8), 3, seed=1)[1]
    alone = evaluate_verification(embeddings, SUBJECTS, GROUPS, fmr=0.02, replicates=200)
    assert halved.arm("generated").runs[1].to_json() == alone.to_json()


def test_an_arm_against_itself_is_no_difference():
    same = arm((1.4, 0.8), 3, seed=3)
    report = compare(same, same)
    assert all(d.value == 0 for d in report.differences.values())
    assert all(d.joint_interval[0] <= 0 <= d.joint_interval[1] for d in report.differences.values())
    assert report.decision.verdict is Verdict.NOT_SHOWN


def test_two_fair_arms_have_no_gap_and_say_the_smallest_that_could_be_seen():
    report = compare(arm((0.9, 0.9), 2, seed=4), arm((0.9, 0.9), 2, seed=5))
    assert report.decision.verdict is Verdict.NO_GAP
    floor = report.arms[0].values["fnmr_gap_at_own_threshold"].null_p95
    assert f"{floor:.3f}" in report.decision.sentence


def test_a_gap_closed_by_hurting_the_best_group_is_called_that():
    report = compare(arm((1.4, 0.8), 3, seed=6), arm((1.45, 1.25), 3, seed=7))
    assert report.decision.verdict is Verdict.LEVELLED_DOWN
    assert "levelling_down" in report.flags


def test_one_run_is_never_a_claim():
    report = compare(arm((1.4, 0.8), 1, seed=8), arm((1.0, 0.8), 3, seed=9))
    assert report.decision.verdict is Verdict.ONE_RUN
    assert report.differences["garbe"].interval is None
    assert "one_run" in report.flags
    json.loads(report.to_json())


def test_labels_of_the_steering_annotator_are_self_graded():
    report = compare(arm((1.4, 0.8), 2, seed=10), arm((1.0, 0.8), 2, seed=11), self_graded=True)
    assert report.decision.verdict is Verdict.SELF_GRADED


def test_a_control_that_moves_makes_the_verdict_unreliable():
    odd = arm((3.0, 0.8), 1, seed=12, jitter=0)
    before = odd + arm((1.4, 0.8), 2, seed=13, jitter=0)
    report = compare(before, arm((0.9, 0.8), 3, seed=14, jitter=0))
    assert report.control.called_change
    assert report.decision.verdict is Verdict.UNRELIABLE


def test_the_control_is_a_t_test_with_the_variance_pooled_over_both_arms(halved):
    name = "fnmr_gap_at_own_threshold"
    before, after = (np.array(a.values[name].by_seed) for a in halved.arms)
    squares = ((before[1:] - before[1:].mean()) ** 2).sum() + ((after - after.mean()) ** 2).sum()
    half = stats.t.ppf(0.975, 3) * np.sqrt(squares / 3 * 1.5)
    value = before[0] - before[1:].mean()
    assert halved.control.value == pytest.approx(value)
    assert halved.control.interval == pytest.approx((value - half, value + half))
    assert not halved.control.called_change


def test_without_three_runs_there_is_no_control_and_it_is_said():
    report = compare(arm((1.4, 0.8), 2, seed=15), arm((1.0, 0.8), 2, seed=16))
    assert report.control is None
    assert "no_control" in report.flags


def test_from_five_runs_on_seeds_and_subjects_decide_together():
    report = compare(arm((1.4, 0.8), 5, seed=17), arm((1.0, 0.8), 5, seed=18))
    d = report.differences["fnmr_gap_at_own_threshold"]
    assert d.interval == d.joint_interval != d.seed_interval


def test_levelling_down_needs_most_of_the_shrinking_to_be_harm():
    assert levelling_down({"a": 0.05, "b": 0.20}, {"a": 0.15, "b": 0.20})
    assert levelling_down({"a": 0.05, "b": 0.20}, {"a": 0.12, "b": 0.19})
    assert not levelling_down({"a": 0.05, "b": 0.20}, {"a": 0.06, "b": 0.10})
    assert not levelling_down({"a": 0.05, "b": 0.20}, {"a": 0.10, "b": 0.30})


def test_a_broken_run_names_its_arm_and_number():
    broken = arm((1.0, 1.0), 2, seed=19)
    broken[1][5] = np.nan
    with pytest.raises(InvalidInput, match=r"arm balanced, run 1: row 5 \(subject 's1'\)"):
        compare(arm((1.0, 1.0), 2, seed=20), broken)


@pytest.mark.parametrize(
    "options", [{"measure": "beauty"}, {"measure": "inequity_rate"}, {"names": ("a", "a")}]
)
def test_options_that_make_no_sense_are_refused(options):
    with pytest.raises(InvalidInput):
        compare(arm((1, 1), 1, 0), arm((1, 1), 1, 1), **options)


def test_an_arm_without_runs_is_refused_by_name():
    with pytest.raises(InvalidInput, match="generated"):
        compare([], arm((1, 1), 1, 1))


def test_a_measure_without_a_value_is_refused():
    with pytest.raises(InvalidInput, match="no value"):
        compare_recognizers(arm((1, 1), 1, 0), arm((1, 1), 1, 1), SUBJECTS, ["same"] * len(GROUPS), fmr=0.02)


def test_a_report_prints_and_converts(halved):
    text = str(halved)
    assert text.startswith("Smaller: ")
    assert "control (generated)" in text
    plain = json.loads(halved.to_json())
    assert plain["verdict"] == "smaller"
    assert set(plain["arms"][0]["values"]) == set(plain["differences"])


def test_every_two_groups_are_compared_with_holms_correction():
    thirds = [f"g{i % 3}" for i in range(2 * PEOPLE) for _ in range(IMAGES)]
    report = compare_recognizers(
        arm((1.4, 0.8), 3, seed=1), arm((1.0, 0.8), 3, seed=2), SUBJECTS, thirds, **QUICK
    )
    assert [(p.first, p.second) for p in report.pairs] == [("g0", "g1"), ("g0", "g2"), ("g1", "g2")]
    for pair in report.pairs:
        gaps = [
            [
                run.group(pair.first).fnmr_at_own_threshold - run.group(pair.second).fnmr_at_own_threshold
                for run in a.runs
            ]
            for a in report.arms
        ]
        expected = stats.ttest_ind(gaps[1], gaps[0], equal_var=False)
        assert pair.value == pytest.approx(np.mean(gaps[1]) - np.mean(gaps[0]))
        assert pair.p_value == pytest.approx(expected.pvalue)
        assert pair.interval == pytest.approx(tuple(expected.confidence_interval(0.95)))
    corrected = multipletests([pair.p_value for pair in report.pairs], method="holm")[1]
    assert [pair.p_holm for pair in report.pairs] == pytest.approx(list(corrected))
    assert "g0 − g1" in str(report)


def test_a_planted_change_of_one_pair_is_seen(halved):
    (pair,) = halved.pairs
    assert (pair.first, pair.second, pair.p_holm) == ("dark", "light", pair.p_value)
    assert pair.value < 0
    assert pair.p_value < 0.05
    assert json.loads(halved.to_json())["pairs"][0]["value"] == pair.value


def test_with_one_run_the_p_value_is_that_of_subjects():
    report = compare(arm((1.4, 0.8), 1, seed=1), arm((1.0, 0.8), 1, seed=2))
    (pair,) = report.pairs
    assert "one_run" in pair.flags
    assert 0 < pair.p_value < 0.05
