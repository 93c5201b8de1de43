"""Cross-group false match rates: every pair one by one, and the dyadic variance term by term."""

import itertools
import json

import numpy as np
import pytest
from sklearn import metrics

from fairloop.errors import InvalidInput
from fairloop.stats import clopper_pearson, evaluate_verification, scoring, threshold_at_fmr
from fairloop.stats.cross_group import Across, cross_group_matrix
from fairloop.stats.resampling import ImpostorCounts, pair_errors

from .test_scan import in_two_groups
from .worlds import Population, sample, signs

QUICK = 100


@pytest.mark.parametrize("shared", [False, True])
def test_every_cell_counts_every_pair_of_different_people(shared, monkeypatch):
    monkeypatch.setattr(scoring, "BLOCK", 17)
    world = signs(subjects=30, images=3, groups=3, seed=1)
    world = in_two_groups(world) if shared else world
    rows = world.embeddings / 8.0
    score, group = rows @ rows.T, np.array(world.groups)
    different = np.array(world.subjects)[:, None] != np.array(world.subjects)[None, :]
    matrix = cross_group_matrix(
        world.embeddings, world.subjects, world.groups, threshold=0.25, replicates=QUICK
    )
    for g, h in itertools.product(range(3), repeat=2):
        cell = different & (group[:, None] == matrix.groups[g]) & (group[None, :] == matrix.groups[h])
        half = 2 if g == h else 1
        assert matrix.comparisons[g][h] == cell.sum() / half
        assert matrix.false_matches[g][h] == (score[cell] >= 0.25).sum() / half
        assert matrix.fmr[g][h] == (score[cell] >= 0.25).mean()
        assert matrix.intervals[g][h] == matrix.intervals[h][g]
    assert any(flag.startswith("shared_subjects:") for flag in matrix.flags) == shared


def test_cells_agree_with_scikit_learn():
    world = sample([Population(), Population(noise=1.2)], [20, 25], 2, seed=2)
    matrix = cross_group_matrix(
        world.embeddings, world.subjects, world.groups, threshold=0.3, replicates=QUICK
    )
    rows = world.embeddings / np.linalg.norm(world.embeddings, axis=1, keepdims=True)
    said = ((rows[:40] @ rows[40:].T) >= 0.3).ravel()
    (right, wrong), _ = metrics.confusion_matrix(np.zeros(said.size, bool), said, labels=[False, True])
    assert (matrix.comparisons[0][1], matrix.false_matches[0][1]) == (right + wrong, wrong)


def test_the_diagonal_is_the_evaluation_within_groups_to_its_intervals():
    world = sample([Population(), Population(noise=1.2)], [40, 30], 3, seed=3)
    report = evaluate_verification(
        world.embeddings, world.subjects, world.groups, fmr=0.02, replicates=200, seed=5
    )
    matrix = cross_group_matrix(
        world.embeddings,
        world.subjects,
        world.groups,
        threshold=report.threshold,
        replicates=200,
        seed=5,
    )
    for g, record in enumerate(report.groups):
        assert matrix.fmr[g][g] == record.fmr
        assert matrix.intervals[g][g] == pytest.approx(record.fmr_interval)


def test_a_target_fmr_is_reached_over_all_comparisons():
    world = signs(subjects=30, images=3, groups=3, seed=4)
    rows, subject = world.embeddings / 8.0, np.array(world.subjects)
    i, j = np.triu_indices(len(rows), 1)
    score, same = np.einsum("nd,nd->n", rows[i], rows[j]), subject[i] == subject[j]
    pool = score[~same]
    matrix = cross_group_matrix(world.embeddings, world.subjects, world.groups, fmr=0.02, replicates=QUICK)
    assert matrix.threshold == threshold_at_fmr(pool, 0.02, score[same])
    upper = np.triu_indices(3)
    errors, comparisons = np.array(matrix.false_matches)[upper], np.array(matrix.comparisons)[upper]
    assert errors.sum() / comparisons.sum() == (pool >= matrix.threshold).mean() <= 0.02


@pytest.mark.parametrize("shared", [0, 2])
def test_the_variance_between_groups_is_the_two_sided_dyadic_one(shared):
    rng = np.random.default_rng(6)
    subjects = 12
    a, b = rng.integers(1, 4, subjects).astype(float), rng.integers(1, 4, subjects).astype(float)
    a[6 + shared :], b[:6] = 0, 0
    # Errors by ordered pair: i with its image in the one group, j with its image in the other.
    n = np.outer(a, b) * (1 - np.eye(subjects))
    k = rng.binomial(n.astype(int), 0.3)
    first, second = np.repeat(np.indices(k.shape).reshape(2, -1), k.ravel(), axis=1)
    counts = ImpostorCounts(pair_errors(first, second, subjects), Across(a, b))
    e = k - k.sum() / n.sum() * n
    assert (counts.comparisons, counts.false_matches) == (n.sum(), k.sum())
    if shared == 0:
        expected = (e.sum(axis=1) ** 2).sum() + (e.sum(axis=0) ** 2).sum() - (e**2).sum()
    else:
        # Two pairs of subjects are correlated when they share anybody at all.
        both = (e + e.T)[np.triu_indices(subjects, 1)]
        i, j = np.triu_indices(subjects, 1)
        touch = (i[:, None] == i) | (i[:, None] == j) | (j[:, None] == i) | (j[:, None] == j)
        expected = (np.outer(both, both) * touch).sum()
    rate = k.sum() / n.sum()
    least = rate * (1 - rate) / n.sum()
    assert counts.dyadic_variance() == pytest.approx(max(expected / n.sum() ** 2, least))
    weights = rng.integers(0, 3, (subjects, 4)).astype(np.float32)
    errors, comparisons = counts.replicates(weights)
    for r in range(4):
        pair = np.outer(weights[:, r], weights[:, r])
        assert errors[r] == pytest.approx((k * pair).sum())
        assert comparisons[r] == pytest.approx((n * pair).sum())


def test_intervals_between_groups_cover():
    people, threshold, covered, worlds = Population(), 0.35, 0, 60
    rng = np.random.default_rng(0)
    rows = [people.draw(3000, 1, rng) for _ in range(2)]
    unit = [r / np.linalg.norm(r, axis=1, keepdims=True) for r in rows]
    truth = (unit[0] @ unit[1].T >= threshold).mean()
    for world in range(worlds):
        drawn = sample([people, people], [70, 50], 2, seed=world)
        matrix = cross_group_matrix(
            drawn.embeddings, drawn.subjects, drawn.groups, threshold=threshold, replicates=QUICK, seed=world
        )
        low, high = matrix.intervals[0][1]
        covered += low <= truth <= high
    # Binomial(60, .90) is below 47 once in 500.
    assert covered >= 47


def test_no_error_has_the_exact_interval_and_one_subject_none():
    world = signs(subjects=12, images=2, groups=2, seed=7)
    matrix = cross_group_matrix(
        world.embeddings, world.subjects, world.groups, threshold=0.99, replicates=QUICK
    )
    assert matrix.intervals[0][1] == clopper_pearson(0, 12 * 12)
    assert "zero_false_matches" in matrix.flags
    alone = cross_group_matrix(
        world.embeddings[:20],
        world.subjects[:20],
        ["a" if s == "s000" else "b" for s in world.subjects[:20]],
        threshold=0.1,
        replicates=QUICK,
    )
    assert (alone.comparisons[0][0], alone.fmr[0][0], alone.intervals[0][0]) == (0, None, None)
    assert 0 < alone.fmr[0][1] < 1
    assert alone.intervals[0][1] is None
    assert "one_subject:a" in alone.flags
    json.dumps(alone.to_dict(), allow_nan=False)


def test_a_threshold_below_every_score_matches_everything_but_a_person_with_itself():
    world = signs(subjects=10, images=2, groups=2, seed=8)
    matrix = cross_group_matrix(
        world.embeddings, world.subjects, world.groups, threshold=-3.0, replicates=QUICK
    )
    assert matrix.false_matches == matrix.comparisons == ((40, 100), (100, 40))


def test_images_without_a_subject_or_group_are_in_no_comparison():
    world = signs(subjects=10, images=2, groups=2, seed=9)
    subjects: list[str | None] = [*world.subjects[:-1], None]
    groups: list[str | None] = [None, *world.groups[1:]]
    matrix = cross_group_matrix(world.embeddings, subjects, groups, threshold=0.1, replicates=QUICK)
    assert matrix.comparisons[0][1] == 9 * 9
    assert {"unknown_subjects:1", "images_without_group:1"} <= set(matrix.flags)


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ({}, "either `threshold` or `fmr`"),
        ({"threshold": 0.1, "fmr": 0.1}, "either `threshold` or `fmr`"),
        ({"fmr": 1.5}, "fmr: 1.5 is outside 0–1"),
        ({"fmr": 1e-9}, "fmr: undefined at 1e-09"),
        ({"threshold": float("nan")}, "not a finite cosine similarity"),
    ],
)
def test_one_threshold_is_needed(policy, message):
    world = signs(subjects=6, images=2, groups=2, seed=10)
    with pytest.raises(InvalidInput, match=message):
        cross_group_matrix(world.embeddings, world.subjects, world.groups, replicates=QUICK, **policy)
