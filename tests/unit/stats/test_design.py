"""The comparisons of a list against sums over all pairs of subjects, and against a complete design."""

import numpy as np
import pytest
from scipy import sparse

from fairloop.stats.design import PRODUCT, Complete, Listed, weighted_pairs
from fairloop.stats.resampling import ImpostorCounts, pair_errors, subject_weights


def random_list(seed, subjects=20, comparisons=150, errors=30):
    rng = np.random.default_rng(seed)
    first = rng.integers(subjects, size=comparisons)
    second = (first + rng.integers(1, subjects, size=comparisons)) % subjects
    wrong = rng.choice(comparisons, errors, replace=False)
    listed = Listed(pair_errors(first, second, subjects))
    return ImpostorCounts(pair_errors(first[wrong], second[wrong], subjects), listed)


def everything(subjects, images):
    i, j = np.triu_indices(subjects, 1)
    return Listed(sparse.csr_array((images[i] * images[j], (i, j)), shape=(subjects, subjects)))


def test_a_list_of_all_comparisons_is_the_complete_design():
    images = np.random.default_rng(0).integers(1, 5, 12).astype(np.float32)
    complete, listed = Complete(images.astype(float), np.zeros(12)), everything(12, images)
    weights = subject_weights([np.arange(12)], 12, 40, np.random.default_rng(1))
    first, second = np.array([3, 0, 7]), np.array([1, 11, 9])
    assert listed.total() == complete.total()
    assert listed.squares() == pytest.approx(complete.squares())
    np.testing.assert_allclose(listed.per_subject(), complete.per_subject())
    np.testing.assert_allclose(listed.between(first, second), complete.between(first, second))
    np.testing.assert_allclose(listed.weighted(weights), complete.weighted(weights), rtol=1e-6)
    np.testing.assert_array_equal(listed.takes_part(), complete.takes_part())
    part = np.array([1, 4, 5, 10])
    assert listed.among(part).total() == complete.among(part).total()


@pytest.mark.parametrize("seed", range(4))
def test_the_variance_of_a_list_is_the_formula_over_its_pairs_of_subjects(seed):
    counts = random_list(seed)
    n, k = counts.design.counts.toarray(), counts.errors.toarray()
    p = k.sum() / n.sum()
    e = k - p * n
    full = e + e.T
    expected = ((full.sum(axis=1) ** 2).sum() - (e**2).sum()) / n.sum() ** 2
    assert counts.fmr == pytest.approx(p)
    assert counts.dyadic_variance() == pytest.approx(max(expected, p * (1 - p) / n.sum()), rel=1e-6)


def test_replicates_of_a_list_weigh_a_pair_by_the_product_of_its_subjects():
    counts = random_list(5)
    weights = subject_weights([np.arange(20)], 20, 30, np.random.default_rng(0))
    errors, comparisons = counts.replicates(weights)
    for r in range(30):
        product = np.outer(weights[:, r], weights[:, r])
        assert errors[r] == pytest.approx((product * counts.errors.toarray()).sum())
        assert comparisons[r] == pytest.approx((product * counts.design.counts.toarray()).sum())


def test_pairs_that_a_list_lacks_have_no_comparisons():
    listed = Listed(pair_errors(np.array([0, 2]), np.array([1, 1]), 4))
    np.testing.assert_array_equal(listed.between(np.array([1, 0, 1]), np.array([0, 3, 2])), [1, 0, 1])
    np.testing.assert_array_equal(listed.takes_part(), [True, True, True, False])
    empty = Listed(pair_errors(np.empty(0, dtype=int), np.empty(0, dtype=int), 4))
    np.testing.assert_array_equal(empty.between(np.array([1]), np.array([0])), [0])


def test_one_comparison_for_each_pair_of_strangers_has_the_binomial_variance():
    """Nobody is in two comparisons: nothing is shared, and the robust variance is that of a proportion."""
    first, second = np.arange(0, 200, 2), np.arange(1, 200, 2)
    counts = ImpostorCounts(pair_errors(first[:7], second[:7], 200), Listed(pair_errors(first, second, 200)))
    assert counts.dyadic_variance() == pytest.approx(0.07 * 0.93 / 100)


def test_sums_in_parts_are_the_sums_at_once(monkeypatch):
    counts = random_list(6)
    weights = subject_weights([np.arange(20)], 20, 33, np.random.default_rng(0))
    at_once = weighted_pairs(counts.errors, weights)
    assert weights.size < PRODUCT
    monkeypatch.setattr("fairloop.stats.design.PRODUCT", 20 * 5)
    np.testing.assert_array_equal(weighted_pairs(counts.errors, weights), at_once)
