"""The LFW protocol against brute force, FaceNet's grid and scikit-learn."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score
from sklearn.model_selection import KFold

from fairloop.errors import InvalidInput
from fairloop.stats.lfw import best_accuracy_threshold, interpolated_threshold, lfw_accuracy


def published_list(seed, folds=10, each=30, decimals=None):
    """Cosines of folds of `each` genuine pairs and then `each` impostor pairs, as LFW's list has them."""
    rng = np.random.default_rng(seed)
    genuine = np.tile(np.repeat([True, False], each), folds)
    scores = np.clip(np.where(genuine, 0.55, 0.1) + 0.18 * rng.standard_normal(genuine.size), -1, 1)
    return (scores if decimals is None else scores.round(decimals)), genuine


def brute_force(scores, genuine, folds=10):
    """Accuracy of every fold at the best of all thresholds on the others; the largest of several best."""
    found, thresholds = [], []
    for train, test in KFold(folds).split(scores):
        candidates = sorted(
            {*scores[train].tolist(), np.nextafter(scores[train].max(), np.inf)}, reverse=True
        )
        accuracy = [((scores[train] >= t) == genuine[train]).mean() for t in candidates]
        best = candidates[int(np.argmax(accuracy))]
        thresholds.append(best)
        found.append(accuracy_score(genuine[test], scores[test] >= best))
    return found, thresholds


@pytest.mark.parametrize(("seed", "decimals"), [(0, None), (1, None), (2, 2), (3, 1)])
def test_each_fold_is_scored_at_the_best_threshold_of_the_others(seed, decimals):
    scores, genuine = published_list(seed, each=15, decimals=decimals)
    result = lfw_accuracy(scores, genuine)
    accuracies, thresholds = brute_force(scores, genuine)
    assert result.accuracies == pytest.approx(accuracies, abs=1e-12)
    assert result.thresholds == tuple(thresholds)
    assert result.mean == pytest.approx(np.mean(accuracies))
    assert result.std == pytest.approx(np.std(accuracies))


def facenet(scores, genuine, far):
    """The loops of FaceNet's evaluation over thresholds 0, 0.01 … 4 of d² = 2 − 2cos (VAL: 0.001)."""
    distance = 2 - 2 * scores
    grid, fine = np.arange(0, 4, 0.01), np.arange(0, 4, 0.001)
    best, vals = [], []
    for train, test in KFold(10).split(scores):
        accuracy = [((distance[train] < t) == genuine[train]).mean() for t in grid]
        best.append((max(accuracy), ((distance[test] < grid[np.argmax(accuracy)]) == genuine[test]).mean()))
        other = np.sort(distance[train][~genuine[train]])
        rates = np.searchsorted(other, fine) / other.size
        at = int(np.searchsorted(rates, far))
        part = (far - rates[at - 1]) / (rates[at] - rates[at - 1])
        threshold = fine[at - 1] + part * (fine[at] - fine[at - 1])
        vals.append((distance[test][genuine[test]] < threshold).mean())
    return best, vals


def test_training_accuracy_is_never_below_the_grid_of_facenet_and_test_accuracy_is_near_it():
    scores, genuine = published_list(5, each=100)
    result = lfw_accuracy(scores, genuine, far=1e-2)
    best, vals = facenet(scores, genuine, 1e-2)
    fold = np.repeat(np.arange(10), 200)
    for k, (grid_accuracy, _) in enumerate(best):
        train = fold != k
        assert ((scores[train] >= result.thresholds[k]) == genuine[train]).mean() >= grid_accuracy
    assert result.mean == pytest.approx(np.mean([test for _, test in best]), abs=0.01)
    # Thresholds differ by a grid step of .001 in d² at most: a pair or two of 100.
    assert result.val == pytest.approx(np.mean(vals), abs=0.02)


def test_val_threshold_interpolates_the_far_of_the_other_folds():
    # FAR of .9, .5, .1 is 1/3, 2/3, 1; half way from 1/3 to 2/3 lies half way from .9 to .5.
    assert interpolated_threshold(np.array([0.5, 0.1, 0.9]), 0.5) == pytest.approx(0.7)
    assert interpolated_threshold(np.array([0.5, 0.1, 0.9]), 1 / 3) == pytest.approx(0.9)
    # Ties are one step: .5 twice takes FAR from 1/4 to 3/4.
    assert interpolated_threshold(np.array([0.9, 0.5, 0.5, 0.1]), 0.5) == pytest.approx(0.7)
    assert interpolated_threshold(np.array([0.5, 0.1, 0.9]), 0.2) is None


def test_val_is_none_and_flagged_where_training_folds_cannot_resolve_the_far():
    scores, genuine = published_list(0)
    result = lfw_accuracy(scores, genuine, far=1e-3)
    assert result.val is None
    assert result.far is None
    assert "val_undefined" in result.flags
    fold = lfw_accuracy(scores, genuine, far=0.01).folds[0]
    assert fold.val is not None
    assert fold.far is not None


def test_separable_pairs_have_accuracy_one_and_no_deviation():
    genuine = np.tile([True, False], 50)
    result = lfw_accuracy(np.where(genuine, 0.8, 0.2), genuine)
    assert (result.mean, result.std) == (1.0, 0.0)
    assert result.thresholds == (0.8,) * 10


def test_scores_that_say_nothing_are_right_half_of_the_time():
    genuine = np.tile([True, False], 50)
    result = lfw_accuracy(np.full(100, 0.5), genuine)
    assert result.mean == 0.5
    # Accepting everything and accepting nothing are equally right; the larger threshold is taken.
    assert result.thresholds[0] == np.nextafter(0.5, 1)


def test_best_threshold_is_the_largest_of_several():
    # .6 misses one genuine pair, .4 none but takes an impostor, .3 is worse.
    assert best_accuracy_threshold(np.array([0.6, 0.4]), np.array([0.5, 0.2])) == 0.6


def test_labelled_folds_are_those_of_consecutive_pairs_when_they_are_the_same():
    scores, genuine = published_list(7)
    fold = np.repeat([f"f{k}" for k in range(10)], 60)
    order = np.random.default_rng(0).permutation(600)
    by_label = lfw_accuracy(scores[order], genuine[order], fold[order])
    by_place = lfw_accuracy(scores, genuine, 10)
    named = {f.fold: f.accuracy for f in by_label.folds}
    assert [named[f"f{k}"] for k in range(10)] == list(by_place.accuracies)
    assert by_label.mean == pytest.approx(by_place.mean)


def test_uneven_folds_are_those_of_scikit_learn():
    scores, genuine = published_list(8, folds=1, each=26)
    order = np.random.default_rng(1).permutation(52)
    result = lfw_accuracy(scores[order], genuine[order], 10)
    assert [f.genuine + f.impostor for f in result.folds] == [len(t) for _, t in KFold(10).split(order)]


def test_a_fold_of_one_class_keeps_its_accuracy_and_is_flagged():
    result = lfw_accuracy([0.9, 0.8, 0.3, 0.2, 0.7, 0.1], [1, 1, 1, 0, 1, 0], [*"aabbcc"], far=0.5)
    assert "fold_of_one_class:a" in result.flags
    assert result.folds[0].impostor == 0
    assert result.folds[0].far is None


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"scores": [0.1, np.nan, 0.3, 0.4]}, "scores"),
        ({"genuine": [True, False]}, "genuine"),
        ({"genuine": [True, False, 2, False]}, "genuine"),
        ({"folds": 1}, "folds"),
        ({"folds": 5}, "folds"),
        ({"folds": ["a", "a", "a", "a"]}, "folds"),
        ({"folds": ["a", None, "b", "b"]}, "folds"),
        ({"folds": ["a", "b"]}, "folds"),
        ({"genuine": [True, True, False, False]}, "folds"),
        ({"far": 0.0}, "far"),
    ],
)
def test_what_is_no_protocol_is_refused_by_name(change, field):
    arguments = {"scores": [0.9, 0.1, 0.8, 0.2], "genuine": [1, 0, 1, 0], "folds": 2, **change}
    with pytest.raises(InvalidInput) as error:
        lfw_accuracy(**arguments)
    assert error.value.violations[0].field == field


def test_the_result_is_plain_data():
    scores, genuine = published_list(0)
    data = json.loads(json.dumps(lfw_accuracy(scores, genuine, far=0.01).to_dict(), allow_nan=False))
    assert len(data["folds"]) == 10
    assert data["conventions"]["std"] == "population, over folds"


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31), scale=st.floats(0.1, 10), shift=st.floats(-5, 5))
def test_accuracy_does_not_depend_on_the_scale_of_scores(seed, scale, shift):
    rng = np.random.default_rng(seed)
    # Multiples of 1/64 keep ties and order under the change.
    scores, genuine = rng.integers(0, 64, 60) / 64, rng.random(60) < 0.5
    genuine[[0, 59]], genuine[[1, 58]] = True, False
    moved = lfw_accuracy(scores * scale + shift, genuine, 5)
    assert moved.accuracies == lfw_accuracy(scores, genuine, 5).accuracies
