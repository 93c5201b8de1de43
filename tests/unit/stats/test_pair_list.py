"""What a list of pairs may hold: failures, unknown people, groups of each side, contradictions."""

from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairloop.errors import InvalidInput
from fairloop.stats.pair_list import similarity_from_distance
from fairloop.stats.pairs import evaluate_pairs
from tests.unit.stats.lists import FEW, assert_close, within


def test_impostor_pairs_across_groups_are_left_out_and_counted_or_count_in_both():
    scores, genuine = [0.9, 0.2, 0.6, 0.1, 0.8], [1, 0, 0, 0, 1]
    groups = (["x", "x", "x", "y", "y"], ["x", "x", "y", "y", "y"])
    ids = (["a", "a", "a", "c", "c"], ["a", "b", "c", "d", "c"])
    options = {"subjects": ids, "threshold": 0.5, "replicates": FEW}
    inside = evaluate_pairs(scores, genuine, groups, **options)
    assert [(g.impostor, g.false_matches) for g in inside.groups] == [(1, 0), (1, 0)]
    assert inside.counts["impostor_across_groups"] == 1
    assert "impostors_across_groups:1" in inside.flags
    touching = evaluate_pairs(scores, genuine, groups, impostors="all", **options)
    assert [(g.impostor, g.false_matches) for g in touching.groups] == [(2, 1), (2, 1)]
    assert touching.counts["impostor"] == 3
    assert touching.fmr == pytest.approx(1 / 3)


def test_genuine_pairs_across_groups_are_left_out_counted_and_name_the_person():
    scores, genuine = [0.9, 0.2, 0.7, 0.1], [1, 0, 1, 0]
    groups = (["x", "x", "x", "y"], ["x", "x", "y", "y"])
    ids = (["a", "a", "a", "a"], ["a", "b", "a", "d"])
    report = evaluate_pairs(scores, genuine, groups, subjects=ids, threshold=0.5, replicates=FEW)
    assert report.counts["genuine"] == 1
    assert report.counts["genuine_across_groups"] == 1
    assert "shared_subjects:1, such as a" in report.flags
    assert "pairs_across_groups:1" in report.flags


def test_failures_count_in_the_generalised_rates_and_nowhere_else():
    scores = [0.9, 0.2, None, None, 0.7, 0.3]
    report = evaluate_pairs(scores, [1, 1, 1, 0, 0, 0], ["x"] * 6, threshold=0.5, replicates=FEW)
    record = report.groups[0]
    assert (record.genuine, record.impostor) == (2, 2)
    assert (record.fnmr, record.fmr) == (0.5, 0.5)
    assert (record.generalised_fnmr, record.generalised_fmr) == (pytest.approx(2 / 3), pytest.approx(1 / 3))
    assert record.fta == pytest.approx(2 / 6)
    assert "failures_counted" in record.flags
    declared = evaluate_pairs(
        np.array([0.9, 0.2, np.nan, np.nan, 0.7, 0.3]),
        [1, 1, 1, 0, 0, 0],
        ["x"] * 6,
        threshold=0.5,
        replicates=FEW,
        failures=[False, False, True, True, False, False],
    )
    assert declared.to_json() == report.to_json()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"scores": [0.9, np.nan, 0.3, 0.2]}, "scores: row 1 is nan"),
        ({"scores": [0.9, np.inf, 0.3, 0.2]}, "scores: row 1 is inf"),
        ({"scores": []}, "scores: needs one score per pair"),
        ({"scores": [0.9, 0.1, None, "high"]}, "scores: row 3 is 'high'; a score is a number or None"),
        (
            {"subjects": ([None] * 4, [*"abcd"])},
            "no impostor pair to compare: of 2, 0 failed, 2 lack a subject",
        ),
        ({"genuine": [1, 0, 7, 0]}, "genuine: row 2 is 7"),
        ({"genuine": [1, 0, None, 0]}, "genuine: row 2 is None"),
        ({"genuine": [1, 1, 0, 0]}, "genuine: row 1 is genuine but names two subjects, 'a' and 'b'"),
        (
            {"genuine": [1, 0, 1, 0], "subjects": (["a", "a", "c", "d"], ["a", "b", "c", "d"])},
            "row 3 is an imp",
        ),
        ({"genuine": [1, 1, 1, 1], "subjects": None}, "genuine: no impostor pair"),
        ({"groups": ["x"]}, "groups: 1 values for 4 pairs"),
        ({"groups": [None] * 4}, "groups: no pair has a group"),
        ({"subjects": (["a"] * 4, ["a"])}, "subjects: 1 values for 4 pairs"),
        ({"subjects": ["a", "b", "c", "d"]}, "subjects: needs the ids of the first sides"),
        ({"failures": [True]}, "failures: shape"),
        ({"threshold": None}, "fmr: give"),
        ({"threshold": None, "fmr": 1e-3}, "fmr: undefined at 0.001: 2 impostor comparisons"),
        ({"threshold": None, "policy": "best"}, "policy: 'best'"),
        ({"threshold": None, "policy": "10_fold_accuracy"}, "folds: 10_fold_accuracy needs"),
        ({"folds": [1, 1, 2, 2]}, "folds: folds choose the threshold"),
        ({"impostors": "some"}, "impostors"),
        ({"method": "subject_bootstrap", "subjects": None}, "method: subject_bootstrap needs `subjects`"),
    ],
)
def test_what_cannot_be_evaluated_is_refused_by_row_or_name(change, says):
    arguments = {
        "scores": [0.9, 0.1, 0.8, 0.3],
        "genuine": [1, 0, 1, 0],
        "groups": ["x"] * 4,
        "subjects": (["a", "a", "c", "c"], ["a", "b", "c", "d"]),
        "threshold": 0.5,
        **change,
    }
    with pytest.raises(InvalidInput) as error:
        evaluate_pairs(**arguments)
    assert says in str(error.value)


def test_pairs_of_unknown_people_or_groups_are_left_out_and_counted():
    score, genuine, label, ids = within(5, pairs=400)
    whole = evaluate_pairs(score, genuine, label, subjects=ids, threshold=0.3, replicates=FEW)
    more = evaluate_pairs(
        [*score, 0.9, 0.9, 0.1],
        [*genuine, True, False, True],
        [*label, "a", "a", None],
        subjects=([*ids[0], None, "a/001", "a/001"], [*ids[1], "a/001", "", "a/001"]),
        threshold=0.3,
        replicates=FEW,
    )
    assert more.counts["pairs_without_subject"] == 2
    assert more.counts["pairs_without_group"] == 1
    assert {"pairs_without_subject:2", "pairs_without_group:1"} <= set(more.flags)
    assert more.summaries == whole.summaries
    assert [asdict(g) | {"images": 0} for g in more.groups] == [
        asdict(g) | {"images": 0} for g in whole.groups
    ]


def test_groups_that_lack_something_keep_their_line():
    scores = [0.9, 0.1, 0.3, 0.8, 0.7, 0.6]
    genuine, groups = [1, 0, 0, 1, 0, 1], ["x", "x", "y", "z", "x", "x"]
    ids = (["a", "a", "c", "e", "a", "b"], ["a", "b", "d", "e", "b", "b"])
    report = evaluate_pairs(scores, genuine, groups, subjects=ids, threshold=0.5, replicates=FEW)
    assert [g.group for g in report.groups] == ["x", "y", "z"]
    assert report.group("y").fnmr is None
    assert "no_genuine_pairs" in report.group("y").flags
    assert report.group("z").fmr is None
    assert {"no_impostor_pairs", "one_subject"} <= set(report.group("z").flags)
    assert "insufficient:y" in report.summaries["fnmr_gap"].flags
    assert "nan" not in report.to_json().lower()


def test_attributes_of_both_sides_may_be_crossed():
    scores, genuine = [0.9, 0.1, 0.8, 0.2], [1, 0, 1, 0]
    side = {"gender": ["F", "F", "M", "M"], "race": ["x", "x", "y", "y"]}
    report = evaluate_pairs(scores, genuine, (side, side), threshold=0.5, replicates=FEW)
    assert [g.group for g in report.groups] == ["gender=F,race=x", "gender=M,race=y"]
    assert [g.group for g in evaluate_pairs(scores, genuine, side, threshold=0.5, replicates=FEW).groups] == [
        "gender=F,race=x",
        "gender=M,race=y",
    ]


def test_distances_become_similarities():
    rng = np.random.default_rng(0)
    a, b = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in rng.standard_normal((2, 50, 8)))
    cosine = (a * b).sum(axis=1)
    distance = np.linalg.norm(a - b, axis=1)
    np.testing.assert_allclose(similarity_from_distance(distance), cosine, atol=1e-12)
    np.testing.assert_allclose(similarity_from_distance(distance**2, "squared_euclidean"), cosine, atol=1e-12)
    np.testing.assert_allclose(similarity_from_distance(1 - cosine, "cosine"), cosine, atol=1e-12)
    with pytest.raises(InvalidInput, match="row 1 is 2"):
        similarity_from_distance([1.0, 2.0001])
    with pytest.raises(InvalidInput, match="metric"):
        similarity_from_distance([1.0], "manhattan")


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**31), known=st.booleans())
def test_the_order_of_rows_sides_and_names_does_not_matter(seed, known):
    score, genuine, label, ids = within(seed % 1000, pairs=300, subjects=8)
    score = score.round(2)
    options = {"fmr": 0.05, "replicates": 100}
    expected = evaluate_pairs(score, genuine, label, subjects=ids if known else None, **options)
    rng = np.random.default_rng(seed)
    order, swap = rng.permutation(300), rng.random(300) < 0.5
    renamed = [np.char.add("person-", side) for side in ids]
    sides = np.where(swap, renamed[0], renamed[1])[order], np.where(swap, renamed[1], renamed[0])[order]
    found = evaluate_pairs(
        score[order], genuine[order], label[order], subjects=sides if known else None, **options
    )
    assert found.threshold == expected.threshold
    for mine, theirs in zip(found.groups, expected.groups, strict=True):
        assert_close(mine, theirs)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_other_names_of_people_change_no_rate(seed):
    score, genuine, label, ids = within(seed % 1000, pairs=300, subjects=8)
    names = np.unique(ids)
    other = dict(zip(names.tolist(), np.random.default_rng(seed).permutation(names).tolist(), strict=True))
    renamed = tuple([other[name] for name in side.tolist()] for side in ids)
    options = {"fmr": 0.05, "replicates": 100}
    rates = [
        [
            (g.subjects, g.fmr, g.fnmr, g.own_threshold, g.fnmr_at_own_threshold, g.flags)
            for g in report.groups
        ]
        for report in (
            evaluate_pairs(score, genuine, label, subjects=ids, **options),
            evaluate_pairs(score, genuine, label, subjects=renamed, **options),
        )
    ]
    assert rates[0] == rates[1]


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_a_duplicated_group_has_the_same_rates_and_changes_no_other(seed):
    score, genuine, label, ids = within(seed % 1000, pairs=300, subjects=8)
    twin = label == "b"
    again = [np.concatenate([side, np.char.add("twin-", side[twin])]) for side in ids]
    options = {"threshold": 0.3, "fmr": 0.1, "replicates": 100}
    alone = evaluate_pairs(score, genuine, label, subjects=ids, **options)
    report = evaluate_pairs(
        np.concatenate([score, score[twin]]),
        np.concatenate([genuine, genuine[twin]]),
        np.concatenate([label, np.full(twin.sum(), "twin")]),
        subjects=tuple(again),
        **options,
    )
    rates = [(g.fmr, g.fnmr, g.own_threshold, g.fnmr_at_own_threshold) for g in report.groups]
    assert rates[1] == rates[2]
    assert rates[:2] == [(g.fmr, g.fnmr, g.own_threshold, g.fnmr_at_own_threshold) for g in alone.groups]
    assert report.summaries["fmr_gap"].value == pytest.approx(alone.summaries["fmr_gap"].value)
