"""Thresholds per group against retraining: fitted on others, counted by hand, in known worlds."""

import json

import numpy as np
import pytest

from fairloop.errors import InvalidInput
from fairloop.seeds import child_seed
from fairloop.stats import Verdict, evaluate_verification
from fairloop.stats.group_thresholds import calibration_half, evaluate_at_thresholds, fit_thresholds
from fairloop.stats.threshold_baseline import AFTER, EACH, ONE, compare_thresholds
from tests.unit.stats.lists import FEW
from tests.unit.stats.worlds import Population, sample

PEOPLE, IMAGES = 40, 4
SUBJECTS = [f"{group}{i:02}" for group in "ab" for i in range(PEOPLE) for _ in range(IMAGES)]
GROUPS = [name[0] for name in SUBJECTS]


def runs(count, seed, kinship=(0.0, 0.0), noise=(0.8, 0.8)):
    """Recognisers of one population; `kinship` of a group makes its strangers look alike."""
    found = []
    for k in range(count):
        populations = [
            Population(kinship=kin, noise=scatter) for kin, scatter in zip(kinship, noise, strict=True)
        ]
        found.append(sample(populations, [PEOPLE, PEOPLE], IMAGES, 100 * seed + k).embeddings)
    return found


def scored(embeddings, rows):
    """All scores among some images with their group and whether they show one person, within groups."""
    unit = embeddings[rows] / np.linalg.norm(embeddings[rows], axis=1, keepdims=True)
    i, j = np.triu_indices(len(rows), 1)
    who, group = np.array(SUBJECTS)[rows], np.array(GROUPS)[rows]
    inside = group[i] == group[j]
    return (unit @ unit.T)[i, j][inside], group[i][inside], (who[i] == who[j])[inside]


def test_fitted_thresholds_are_the_smallest_scores_that_keep_the_rate():
    embeddings = runs(1, 1, kinship=(0.0, 0.5))[0]
    rows = np.arange(len(SUBJECTS))
    fitted = fit_thresholds(embeddings, SUBJECTS, GROUPS, fmr=0.02)
    score, group, same = scored(embeddings, rows)
    for name, at in (("a", fitted.own["a"]), ("b", fitted.own["b"]), ("", fitted.common)):
        mine = (group == name) | (name == "")
        other, below = score[mine & ~same], score[mine][score[mine] < at - 1e-6]
        assert (other >= at - 1e-6).mean() <= 0.02
        assert (other >= below.max() - 1e-6).mean() > 0.02
    assert fitted.own["b"] > fitted.common > fitted.own["a"]


def test_rates_at_given_thresholds_are_the_shares_of_pairs_beyond_them():
    embeddings = runs(1, 2, kinship=(0.0, 0.5))[0]
    given = {"a": 0.31, "b": 0.52}
    found = evaluate_at_thresholds(embeddings, SUBJECTS, GROUPS, given, fmr=0.02, replicates=FEW)
    score, group, same = scored(embeddings, np.arange(len(SUBJECTS)))
    for record in found.groups:
        mine, at = group == record.group, given[record.group]
        assert record.false_matches == (score[mine & ~same] >= at).sum()
        assert record.false_non_matches == (score[mine & same] < at).sum()
        assert (record.genuine, record.impostor) == ((mine & same).sum(), (mine & ~same).sum())
    assert "a 0.31, b 0.52" in found.conventions["thresholds of groups"]


def test_one_threshold_for_every_group_is_the_evaluation_at_that_threshold():
    embeddings = runs(1, 3)[0]
    plain = evaluate_verification(embeddings, SUBJECTS, GROUPS, threshold=0.4, fmr=0.02, replicates=FEW)
    same = evaluate_at_thresholds(
        embeddings, SUBJECTS, GROUPS, {"a": 0.4, "b": 0.4}, fmr=0.02, replicates=FEW
    )
    for mine, theirs in zip(same.groups, plain.groups, strict=True):
        assert (mine.fmr, mine.fnmr) == (theirs.fmr, theirs.fnmr)
        assert mine.fmr_interval == pytest.approx(theirs.fmr_interval)
        assert mine.fnmr_interval == pytest.approx(theirs.fnmr_interval)
        assert mine.fnmr_at_own_threshold == theirs.fnmr_at_own_threshold
        assert mine.own_threshold == pytest.approx(theirs.own_threshold - 0.4)
    assert same.summaries["garbe"].value == pytest.approx(plain.summaries["garbe"].value)


def test_nobody_both_fits_and_judges_and_every_group_is_split():
    fitting, judging = calibration_half(SUBJECTS, GROUPS, share=0.25, seed=3)
    first = {name for name, inside in zip(SUBJECTS, fitting, strict=True) if inside}
    second = {name for name, inside in zip(SUBJECTS, judging, strict=True) if inside}
    assert not first & second
    assert first | second == set(SUBJECTS)
    assert sorted(sum(name[0] == group for name in first) for group in "ab") == [10, 10]
    other = calibration_half(SUBJECTS, GROUPS, share=0.25, seed=4)[0]
    assert (other != fitting).any()
    with pytest.raises(InvalidInput, match=r"calibration_share: 0.03 leaves 1 people of a to fit thresholds"):
        calibration_half(SUBJECTS, GROUPS, share=0.03)


def test_the_people_who_judge_have_no_part_in_the_thresholds():
    embeddings = runs(1, 4)[0]
    plain = compare_thresholds([embeddings], [embeddings], SUBJECTS, GROUPS, fmr=0.02, replicates=FEW)
    fitted = plain.thresholds["before"][0]
    # The judges' own images become noise: their rates change, no threshold does.
    rng = np.random.default_rng(0)
    _, judging = calibration_half(SUBJECTS, GROUPS, seed=child_seed(0, "calibration", 0))
    broken = embeddings.copy()
    broken[judging] = rng.standard_normal(broken[judging].shape)
    again = compare_thresholds([broken], [broken], SUBJECTS, GROUPS, fmr=0.02, replicates=FEW)
    assert again.thresholds["before"][0] == fitted
    assert again.arms[0].runs[0].fnmr > plain.arms[0].runs[0].fnmr
    # And the rates are those of the judges alone, at the thresholds of the others.
    rows = np.flatnonzero(judging)
    score, group, same = scored(embeddings, rows)
    for record in plain.arms[1].runs[0].groups:
        mine, at = group == record.group, fitted.own[record.group]
        assert record.fmr == pytest.approx((score[mine & ~same] >= at).mean(), abs=1e-3)
        assert record.fnmr == pytest.approx((score[mine & same] < at).mean(), abs=5e-3)
    for record in plain.arms[0].runs[0].groups:
        mine = group == record.group
        assert record.fmr == pytest.approx((score[mine & ~same] >= fitted.common).mean(), abs=1e-3)


@pytest.fixture(scope="module")
def shifted():
    """One group's strangers look alike: thresholds per group mend that, and the retrained networks do not."""
    return compare_thresholds(
        runs(3, 5, kinship=(0.0, 0.6)),
        runs(3, 5, kinship=(0.0, 0.6)),
        SUBJECTS,
        GROUPS,
        fmr=0.02,
        measure="gini_fmr",
        replicates=FEW,
    )


def test_retraining_that_changes_nothing_does_not_beat_thresholds_per_group(shifted):
    one, each, after = (arm.values["gini_fmr"].value for arm in shifted.arms)
    assert one == pytest.approx(after)
    assert each < 0.5 * one
    # Equal false match rates: the group that had fewer gets more.
    assert shifted.comparisons[0].decision.verdict is Verdict.LEVELLED_DOWN
    assert shifted.decision.verdict is Verdict.NOT_SHOWN
    assert shifted.sentence.startswith("Retraining leaves a larger gap than thresholds per group")


def test_retraining_that_removes_the_cause_beats_thresholds_per_group():
    # One group's images scatter more: no threshold mends that, and the retrained networks do not have it.
    found = compare_thresholds(
        runs(3, 6, noise=(0.6, 1.6)),
        runs(3, 7, noise=(0.6, 0.6)),
        SUBJECTS,
        GROUPS,
        fmr=0.02,
        measure="fnmr_gap",
        replicates=FEW,
    )
    assert found.decision.verdict in (Verdict.SMALLER, Verdict.CLOSED)
    assert found.sentence.startswith("Retraining leaves a smaller gap than thresholds per group")
    difference = found.comparisons[2].differences["fnmr_gap"]
    assert difference.interval[1] < 0
    assert difference.value == pytest.approx(
        found.arms[2].values["fnmr_gap"].value - found.arms[1].values["fnmr_gap"].value
    )


def test_one_training_run_is_no_claim_and_steered_labels_are_told():
    before, after = runs(3, 8), runs(3, 9)
    single = compare_thresholds(before[:1], after[:1], SUBJECTS, GROUPS, fmr=0.02, replicates=FEW)
    assert single.decision.verdict is Verdict.ONE_RUN
    graded = compare_thresholds(before, after, SUBJECTS, GROUPS, fmr=0.02, replicates=FEW, self_graded=True)
    assert graded.decision.verdict is Verdict.SELF_GRADED
    assert graded.comparisons[0].decision.verdict is not Verdict.SELF_GRADED


def test_the_report_has_three_arms_and_three_comparisons_as_plain_json(shifted):
    body = json.loads(shifted.to_json())
    assert [arm["name"] for arm in body["arms"]] == [ONE, EACH, AFTER]
    assert [(one["before"], one["after"]) for one in body["comparisons"]] == [
        (ONE, EACH),
        (ONE, AFTER),
        (EACH, AFTER),
    ]
    assert body["split"] == {"fitted_on": {"a": 20, "b": 20}, "judged_by": {"a": 20, "b": 20}}
    assert "people fitted on and judged by: a 20 and 20, b 20 and 20" in str(shifted)


def test_what_cannot_be_compared_is_refused_by_name():
    embeddings = runs(1, 10)[0]
    with pytest.raises(InvalidInput, match=r"measure: 'fnmr_gap_at_own_threshold'; at the arms' thresholds"):
        compare_thresholds(
            [embeddings], [embeddings], SUBJECTS, GROUPS, fmr=0.02, measure="fnmr_gap_at_own_threshold"
        )
    with pytest.raises(InvalidInput, match=r"after: run 0 has the shape \(8, 24\)"):
        compare_thresholds([embeddings], [embeddings[:8]], SUBJECTS, GROUPS, fmr=0.02, replicates=FEW)
    with pytest.raises(InvalidInput, match=r"fmr: before, run 0: undefined at 0.0002 for group a: 3040"):
        compare_thresholds([embeddings], [embeddings], SUBJECTS, GROUPS, fmr=0.0002, replicates=FEW)
    with pytest.raises(InvalidInput, match="thresholds: none for group b"):
        evaluate_at_thresholds(embeddings, SUBJECTS, GROUPS, {"a": 0.5}, fmr=0.02)
    with pytest.raises(InvalidInput, match="after: no training run"):
        compare_thresholds([embeddings], [], SUBJECTS, GROUPS, fmr=0.02)
