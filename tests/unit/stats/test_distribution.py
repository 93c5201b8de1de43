import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.spatial.distance import jensenshannon

from fairloop.errors import InvalidInput
from fairloop.stats import distribution

weights = st.lists(st.integers(0, 50), min_size=2, max_size=8).filter(any)


def test_reference_shares_have_the_reference_measures():
    d = distribution([0.7, 0.1, 0.1, 0.1])
    assert d.entropy == pytest.approx(0.940448, abs=1e-6)
    assert d.normalised_entropy == pytest.approx(0.678390, abs=1e-6)
    assert d.kl_to_target == pytest.approx(0.445846, abs=1e-6)
    assert d.mean_absolute_deviation == pytest.approx(0.225, abs=1e-12)
    assert d.total_variation == pytest.approx(0.45, abs=1e-12)


def test_measures_agree_with_scipy():
    rng = np.random.default_rng(3)
    counts, target = rng.integers(1, 200, 6), rng.dirichlet(np.ones(6))
    p, n = counts / counts.sum(), counts.sum()
    d = distribution(counts, target)
    assert d.entropy == pytest.approx(stats.entropy(p))
    assert d.kl_to_target == pytest.approx(stats.entropy(p, target))
    assert d.jensen_shannon == pytest.approx(jensenshannon(p, target) ** 2)
    assert d.chi_square == pytest.approx(stats.chisquare(counts, target * n).statistic)
    assert d.images == n


def test_closed_forms_of_the_other_measures():
    d = distribution([30, 10])
    assert d.miller_madow_entropy == pytest.approx(d.entropy + 1 / 80)
    assert d.gini_simpson == pytest.approx(1 - 0.75**2 - 0.25**2)
    assert d.mean_pairwise_gap == pytest.approx(0.5)
    assert d.imbalance_ratio == pytest.approx(3.0)


def test_mean_pairwise_gap_is_the_mean_over_pairs():
    p = np.array([0.5, 0.3, 0.15, 0.05])
    gaps = [abs(a - b) for i, a in enumerate(p) for b in p[i + 1 :]]
    assert distribution(p).mean_pairwise_gap == pytest.approx(np.mean(gaps))


def test_everything_in_one_cell_is_the_largest_distance():
    d = distribution([9, 0, 0])
    assert d.total_variation == pytest.approx(2 / 3)
    assert d.kl_to_target == pytest.approx(np.log(3))
    assert d.imbalance_ratio is None
    assert "empty_cell" in d.flags


def test_a_cell_outside_the_target_leaves_kl_undefined_with_a_flag():
    d = distribution([1, 1], [1, 0])
    assert d.kl_to_target is None
    assert d.chi_square is None
    assert "outside_target" in d.flags


def test_shares_without_a_number_of_images_have_no_chi_square():
    assert distribution([0.5, 0.5]).chi_square is None
    assert distribution([0.5, 0.5], images=10).chi_square == 0.0


@settings(max_examples=80, deadline=None)
@given(weights)
def test_distances_are_zero_on_target_and_bounded(counts):
    on_target = distribution(counts, counts)
    assert on_target.total_variation == pytest.approx(0.0, abs=1e-12)
    assert on_target.jensen_shannon == pytest.approx(0.0, abs=1e-12)
    d = distribution(counts)
    assert 0 <= d.total_variation <= 1 - 1 / len(counts) + 1e-12
    assert 0 <= d.jensen_shannon <= np.log(2) + 1e-12
    assert d.entropy <= np.log(len(counts)) + 1e-12


@settings(max_examples=50, deadline=None)
@given(weights, st.randoms(use_true_random=False))
def test_the_order_of_cells_does_not_matter(counts, random):
    mixed = list(counts)
    random.shuffle(mixed)
    first, second = distribution(counts).to_dict(), distribution(mixed).to_dict()
    for name in ("entropy", "kl_to_target", "total_variation", "mean_pairwise_gap", "gini_simpson"):
        assert first[name] == pytest.approx(second[name], abs=1e-12)


@pytest.mark.parametrize(
    ("counts", "target"), [([0, 0], None), ([1, -1], None), ([1, 1], [1, 1, 1]), ([1, 1], [0, 0])]
)
def test_counts_that_are_none_are_refused(counts, target):
    with pytest.raises(InvalidInput):
        distribution(counts, target)
