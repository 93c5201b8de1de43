import numpy as np
import pytest

from fairloop.errors import InvalidInput, PreconditionFailed
from fairloop.stats import correct_for_annotator

C = np.array([[0.9, 0.1, 0.0], [0.15, 0.8, 0.05], [0.0, 0.2, 0.8]])
TRUE = np.array([0.5, 0.3, 0.2])


def test_the_reference_confusion_is_undone():
    np.testing.assert_allclose(TRUE @ C, [0.495, 0.33, 0.175])
    for method in ("least_squares", "em"):
        found = correct_for_annotator([0.495, 0.33, 0.175], C, images=1000, method=method)
        np.testing.assert_allclose(found.shares, TRUE, atol=1e-9)
        assert found.flags == ("confusion_taken_as_exact",)


def test_two_labels_are_corrected_as_rogan_and_gladen():
    sensitivity, specificity, prevalence = 0.85, 0.9, 0.3
    apparent = prevalence * sensitivity + (1 - prevalence) * (1 - specificity)
    matrix = [[specificity, 1 - specificity], [1 - sensitivity, sensitivity]]
    found = correct_for_annotator([1 - apparent, apparent], matrix, images=500)
    assert found.method == "rogan_gladen"
    assert found.shares[1] == pytest.approx(prevalence)


def test_a_perfect_annotator_changes_nothing():
    found = correct_for_annotator([40, 35, 25], np.eye(3))
    np.testing.assert_allclose(found.shares, [0.4, 0.35, 0.25])
    assert found.condition == pytest.approx(1.0)


@pytest.mark.parametrize("method", ["least_squares", "em"])
def test_labels_that_no_shares_explain_stay_on_the_simplex_and_are_flagged(method):
    found = correct_for_annotator([0.0, 0.02, 0.98], C, images=200, method=method)
    assert min(found.shares) >= 0
    assert sum(found.shares) == pytest.approx(1.0)
    assert "outside_simplex" in found.flags
    assert found.shares[2] == pytest.approx(1.0, abs=1e-6)


def test_a_near_singular_confusion_is_refused_with_its_condition_number():
    with pytest.raises(PreconditionFailed, match="condition number"):
        correct_for_annotator([50, 50], [[0.51, 0.49], [0.49, 0.51]])


def test_counts_of_the_labelled_set_widen_the_interval():
    exact = correct_for_annotator([495, 330, 175], C, seed=1)
    counted = correct_for_annotator([495, 330, 175], C * 100, seed=1)
    width = [[high - low for low, high in found.intervals] for found in (exact, counted)]
    assert all(b > a for a, b in zip(*width, strict=True))
    assert counted.flags == ()


def test_intervals_cover_the_true_shares():
    rng = np.random.default_rng(4)
    covered = np.zeros(3)
    worlds = 120
    for world in range(worlds):
        confusion = np.stack([rng.multinomial(150, row) for row in C])
        observed = rng.multinomial(600, TRUE @ C)
        found = correct_for_annotator(observed, confusion, replicates=200, seed=world)
        covered += [low <= p <= high for (low, high), p in zip(found.intervals, TRUE, strict=True)]
    # 0.89 is 3 standard errors under 0.95 in 120 worlds.
    assert (covered / worlds >= 0.89).all()


@pytest.mark.parametrize(
    ("observed", "confusion", "field"),
    [
        ([1, 2], np.eye(3), "confusion"),
        ([1, 2], [[1, 0], [0, 0]], "confusion"),
        ([1, 2], [[0.5, 0.2], [0.1, 0.9]], "confusion"),
        ([0.5, 0.5], np.eye(2), "images"),
        ([0, 0], np.eye(2), "observed"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(observed, confusion, field):
    with pytest.raises(InvalidInput) as error:
        correct_for_annotator(observed, confusion)
    assert error.value.violations[0].field == field


def test_shares_of_no_image_are_refused():
    with pytest.raises(InvalidInput, match="images"):
        correct_for_annotator([0.5, 0.5], [[0.9, 0.1], [0.1, 0.9]], images=0)
