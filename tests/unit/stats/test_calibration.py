"""Calibration of annotators: closed forms, and scikit-learn's confusion, Brier score and curve."""

import numpy as np
import pytest
from scipy import stats
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss, confusion_matrix

from fairloop.errors import InvalidInput, PreconditionFailed
from fairloop.stats import annotator_error, audit_distribution
from fairloop.stats.calibration import Changed, calibrate, reliability

VALUES = ("light", "medium", "dark")


def world(images=900, seed=0):
    """Truth, noisy labels that are the most probable value, and their probabilities."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 3, images)
    probabilities = rng.dirichlet(np.ones(3), images)
    probabilities[np.arange(images), truth] += rng.random(images)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    return truth, probabilities.argmax(axis=1), probabilities


def named(codes):
    return [VALUES[c] for c in codes]


def test_the_confusion_is_scikit_learns_and_its_intervals_are_wilsons():
    truth, said, _ = world()
    found = calibrate(named(truth), named(said), VALUES)
    expected = confusion_matrix(truth, said)
    assert found.confusion() == expected.tolist()
    for t, row in enumerate(found.rows):
        for o, interval in enumerate(row.intervals):
            wilson = stats.binomtest(int(expected[t, o]), int(expected[t].sum())).proportion_ci(
                method="wilson"
            )
            assert interval == pytest.approx((wilson.low, wilson.high), abs=1e-9)
    assert found.accuracy == pytest.approx((truth == said).mean())


def test_images_without_a_label_are_counted_by_their_truth_and_those_without_a_truth_are_not():
    truth = ["light", "light", "dark", None]
    found = calibrate(truth, ["light", None, "medium", "dark"], VALUES)
    assert (found.images, found.labelled) == (3, 2)
    assert [row.unlabelled for row in found.rows] == [1, 0, 0]
    assert found.confusion() == [[1, 0, 0], [0, 0, 0], [0, 1, 0]]


def test_a_label_that_is_never_said_is_flagged_with_how_many_images_deserve_it():
    truth = ["light"] * 10 + ["medium"] * 10 + ["dark"] * 10
    found = calibrate(truth, ["light"] * 10 + ["medium"] * 20, VALUES)
    assert found.never_predicted == ("dark",)
    assert "never_predicted:dark (10 images are)" in found.flags
    complete = calibrate(truth, truth, VALUES)
    assert complete.never_predicted == ()
    assert complete.flags == ()


def test_brier_score_and_reliability_are_scikit_learns():
    truth, _, probabilities = world()
    found = reliability(probabilities, truth)
    expected = brier_score_loss(truth, probabilities, labels=[0, 1, 2], scale_by_half=False)
    assert found.brier == pytest.approx(expected)
    right = probabilities.argmax(axis=1) == truth
    accuracy, confidence = calibration_curve(right, probabilities.max(axis=1), n_bins=10)
    filled = [b for b in found.bins if b.images]
    assert [b.accuracy for b in filled] == pytest.approx(accuracy.tolist())
    assert [b.confidence for b in filled] == pytest.approx(confidence.tolist())
    weights = np.array([b.images for b in filled]) / len(truth)
    assert found.ece == pytest.approx(float(weights @ np.abs(accuracy - confidence)))


def test_probabilities_that_are_always_right_and_certain_have_no_error():
    certain = reliability(np.eye(3)[[0, 1, 2, 2]], np.array([0, 1, 2, 2]))
    assert (certain.ece, certain.brier) == (0.0, 0.0)
    wrong = reliability(np.eye(3)[[1, 2]], np.array([0, 0]))
    assert (wrong.ece, wrong.brier) == (1.0, 2.0)
    with pytest.raises(InvalidInput, match="does not sum to 1"):
        reliability([[0.5, 0.4, 0.0]], np.array([0]))


def test_intervals_over_subjects_are_wider_when_a_subjects_images_share_their_errors():
    rng = np.random.default_rng(1)
    right = np.repeat(rng.random(40) < 0.7, 20)
    truth = ["light"] * len(right)
    said = ["light" if r else "dark" for r in right]
    who = np.repeat(np.arange(40), 20).tolist()
    alone = calibrate(truth, said, VALUES).rows[0].intervals[0]
    clustered = calibrate(truth, said, VALUES, subjects=who).rows[0].intervals[0]
    # Equal images of a subject are one trial: √20 times as wide, up to the noise of replicates.
    assert (clustered[1] - clustered[0]) / (alone[1] - alone[0]) == pytest.approx(20**0.5, rel=0.2)


def test_stability_counts_kept_flipped_lost_and_untried_labels_of_each_group():
    truth = ["light", "light", "dark", "dark", "dark", "light"]
    said = ["light", "light", "dark", "light", "dark", None]
    after = ["light", "medium", None, "light", "dark", "light"]
    tried = [True, True, True, True, False, True]
    groups = {"gender": ["female", "male", "female", None, "male", "male"]}
    found = calibrate(truth, said, VALUES, groups=groups, changes={"blur": Changed(after, tried)})
    rows = {s.group: (s.images, s.not_tried, s.kept, s.flipped, s.lost) for s in found.stability}
    assert rows["(all)"] == (4, 1, 2, 1, 1)
    assert rows["truth=light"] == (2, 0, 1, 1, 0)
    assert rows["truth=dark"] == (2, 1, 1, 0, 1)
    assert rows["gender=female"] == (2, 0, 1, 0, 1)
    assert rows["gender=male"] == (1, 1, 0, 1, 0)


def test_a_joint_confusion_is_the_product_and_corrects_shares_of_two_attributes():
    first = annotator_error.confusion_matrix([[90, 10], [20, 80]], 2)
    second = annotator_error.confusion_matrix([[70, 20, 10], [10, 80, 10], [5, 15, 80]], 3)
    joint = annotator_error.joint_confusion([first, second])
    np.testing.assert_allclose(joint.matrix, np.kron(first.matrix, second.matrix))
    assert not joint.exact
    draws = joint.draws(4_000, np.random.default_rng(0))
    np.testing.assert_allclose(draws.mean(axis=0), joint.matrix, atol=0.005)
    # One factor's row 0 and the other's: independent, so the variance of the product is known.
    p, q = 0.9, 0.7
    vp, vq = p * (1 - p) / 100, q * (1 - q) / 100
    assert draws[:, 0, 0].var() == pytest.approx(vp * vq + vp * q**2 + vq * p**2, rel=0.1)
    true = np.array([0.3, 0.1, 0.2, 0.1, 0.1, 0.2])
    cells = [f"c{k}" for k in range(6)]
    counts = dict(zip(cells, np.round(true @ joint.matrix * 100_000).astype(int).tolist(), strict=True))
    audit = audit_distribution(counts, cells, confusion=joint)
    assert [cell.corrected_share for cell in audit.cells] == pytest.approx(true.tolist(), abs=1e-4)
    assert "errors_taken_as_independent" in audit.flags
    assert "confusion_taken_as_exact" not in audit.flags


def test_a_joint_confusion_near_singular_is_refused():
    poor = annotator_error.confusion_matrix([[60, 40], [40, 60]], 2)
    with pytest.raises(PreconditionFailed, match="condition number 25"):
        annotator_error.joint_confusion([poor, poor], max_condition=24.0)


def test_what_cannot_be_calibrated_says_what_is_wrong():
    with pytest.raises(InvalidInput, match="no image has a known truth and a label"):
        calibrate(["light", None], [None, "dark"], VALUES)
    with pytest.raises(InvalidInput, match="'pink' at position 1 is none of light, medium, dark"):
        calibrate(["light", "pink"], ["light", "light"], VALUES)
    with pytest.raises(InvalidInput, match="2 labels for 1 images"):
        calibrate(["light"], ["light", "light"], VALUES)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_calibration_on_one_half_corrects_shares_of_another_and_a_shuffled_one_does_not(seed):
    rng = np.random.default_rng(seed)
    errors = np.array([[0.8, 0.15, 0.05], [0.2, 0.7, 0.1], [0.05, 0.25, 0.7]])

    def drawn(images, shares):
        truth = rng.choice(3, images, p=shares)
        return truth, (rng.random(images)[:, None] > errors[truth].cumsum(axis=1)).sum(axis=1)

    truth, said = drawn(2_000, [0.4, 0.35, 0.25])
    held_truth, held_said = drawn(2_000, [0.1, 0.2, 0.7])
    learnt = annotator_error.confusion_matrix(calibrate(named(truth), named(said), VALUES).confusion(), 3)
    nearer = 0
    for _ in range(400):
        some = rng.integers(0, 2_000, 2_000)
        true, raw = (np.bincount(x[some], minlength=3) / 2_000 for x in (held_truth, held_said))
        corrected, _ = annotator_error.corrected_shares(learnt.matrix, raw, "least_squares")
        nearer += np.abs(corrected - true).sum() < np.abs(raw - true).sum()
    assert (1 + 400 - nearer) / 401 < 0.01
    shuffled = calibrate(named(rng.permutation(truth)), named(said), VALUES).confusion()
    with pytest.raises(PreconditionFailed, match="near singular"):
        annotator_error.confusion_matrix(shuffled, 3)
