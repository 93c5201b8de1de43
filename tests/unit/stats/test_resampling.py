"""Subject weights and the dyadic-robust variance, against their definitions."""

import numpy as np
import pytest
from scipy import sparse

from fairloop.stats.design import Complete
from fairloop.stats.resampling import ImpostorCounts, pair_errors, subject_weights


def definition(share, comparisons):
    """V = (Σᵢ(Σⱼeᵢⱼ)² − Σᵢ<ⱼ eᵢⱼ²) / M² of §6, e_ij = k_ij − p, one comparison per pair of subjects."""
    i, j = np.triu_indices(len(share), 1)
    p = share[i, j].mean()
    e = share - p
    np.fill_diagonal(e, 0.0)
    return ((e.sum(axis=1) ** 2).sum() - (e[i, j] ** 2).sum()) / comparisons**2


def errors_of(share, images):
    i, j = np.triu_indices(len(share), 1)
    return sparse.csr_array((share[i, j] * images**2, (i, j)), shape=share.shape)


def subjects_share(seed, subjects=25, images=3):
    """Shares of errors k_ij/images² with a subject effect."""
    rng = np.random.default_rng(seed)
    effect = rng.gamma(1.0, 1.0, subjects)
    rate = np.clip(0.05 * effect[:, None] * effect[None, :], 0, 0.9)
    k = np.triu(rng.binomial(images**2, rate), 1)
    return (k + k.T) / images**2


@pytest.mark.parametrize("images", [1, 3])
def test_dyadic_variance_is_the_formula_over_pairs_of_subjects(images):
    share = subjects_share(0, images=images)
    counts = ImpostorCounts(errors_of(share, images), Complete(np.full(25, float(images)), np.zeros(25)))
    assert counts.comparisons == 300 * images**2
    assert counts.dyadic_variance() == pytest.approx(definition(share, 300), rel=1e-9)


def test_dyadic_variance_of_pairs_that_touch_a_group_is_the_formula_over_those_pairs():
    rng = np.random.default_rng(1)
    n, inside = rng.integers(1, 4, 20).astype(float), np.arange(20) < 8
    a, b = n, np.where(inside, 0.0, n)
    pairs = np.triu(np.outer(a, a) - np.outer(b, b), 1)
    errors = rng.binomial(pairs.astype(int), 0.2).astype(float)
    counts = ImpostorCounts(sparse.csr_array(errors), Complete(a, b))
    p = errors.sum() / pairs.sum()
    e = errors - p * pairs
    full = e + e.T
    expected = ((full.sum(axis=1) ** 2).sum() - (e**2).sum()) / pairs.sum() ** 2
    assert counts.comparisons == pairs.sum()
    assert counts.dyadic_variance() == pytest.approx(max(expected, p * (1 - p) / pairs.sum()), rel=1e-6)


def test_dyadic_variance_is_never_less_than_that_of_independent_comparisons():
    errors = sparse.csr_array(([1.0], ([0], [1])), shape=(4, 4))
    counts = ImpostorCounts(errors, Complete(np.ones(4), np.zeros(4)))
    assert counts.dyadic_variance() >= (1 / 6) * (5 / 6) / 6


def test_replicates_weigh_a_pair_by_the_product_of_its_subjects():
    share = subjects_share(2, images=2)
    counts = ImpostorCounts(errors_of(share, 2), Complete(np.full(25, 2.0), np.zeros(25)))
    weights = subject_weights([np.arange(25)], 25, 50, np.random.default_rng(0))
    errors, comparisons = counts.replicates(weights)
    for r in range(50):
        w = np.triu(np.outer(weights[:, r], weights[:, r]), 1)
        assert errors[r] == pytest.approx((w * share * 4).sum(), rel=1e-5)
        assert comparisons[r] == pytest.approx(4 * w.sum(), rel=1e-6)


def test_weights_are_multinomial_within_every_stratum():
    strata = [np.array([0, 2, 4]), np.array([1, 3, 5, 6])]
    weights = subject_weights(strata, 8, 4000, np.random.default_rng(1))
    assert (weights[strata[0]].sum(axis=0) == 3).all()
    assert (weights[strata[1]].sum(axis=0) == 4).all()
    assert (weights[7] == 1).all()
    # Multinomial(n, 1/n): mean 1, variance 1 − 1/n.
    np.testing.assert_allclose(weights[strata[1]].mean(axis=1), 1.0, atol=0.06)
    np.testing.assert_allclose(weights[strata[1]].var(axis=1), 0.75, atol=0.08)


def test_errors_by_pair_of_subjects_add_up():
    errors = pair_errors(np.array([3, 1, 3, 0]), np.array([1, 3, 2, 1]), 4)
    assert errors[1, 3] == 2
    assert errors[2, 3] == 1
    assert errors[0, 1] == 1
    assert errors.sum() == 4


def test_degrees_of_freedom_fall_when_few_subjects_cause_most_errors():
    even = ImpostorCounts(errors_of(subjects_share(3), 3), Complete(np.full(25, 3.0), np.zeros(25)))
    share = np.zeros((25, 25))
    share[0, 1:] = share[1:, 0] = np.linspace(0, 1, 24)
    wolf = ImpostorCounts(errors_of(share, 3), Complete(np.full(25, 3.0), np.zeros(25)))
    assert wolf.degrees_of_freedom() < 3 < even.degrees_of_freedom()
