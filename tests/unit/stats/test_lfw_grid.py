"""insightface's verification protocol, written down again as its loops are."""

import numpy as np
import pytest
from scipy.interpolate import interp1d
from sklearn.decomposition import PCA
from sklearn.model_selection import KFold
from sklearn.preprocessing import normalize

from fairloop.errors import InvalidInput
from fairloop.stats.lfw_grid import lfw_grid_accuracy


def published_pairs(seed, each=30, folds=10, noise=0.9):
    rng = np.random.default_rng(seed)
    same = np.tile(np.repeat([True, False], each), folds)
    first = rng.standard_normal((same.size, 24))
    second = np.where(
        same[:, None], first + noise * rng.standard_normal(first.shape), rng.standard_normal(first.shape)
    )
    return normalize(first), normalize(second), same


def restated(first, second, same, far, components=0):
    """Accuracy per fold and VAL, FAR per fold: `calculate_roc`, `calculate_val` of verification.py."""
    thresholds, fine = np.arange(0, 4, 0.01), np.arange(0, 4, 0.001)
    accuracy, val, fars = [], [], []
    for train, test in KFold(n_splits=10, shuffle=False).split(first):
        dist = np.sum(np.square(first - second), 1)
        if components:
            pca = PCA(n_components=components, svd_solver="full").fit(
                np.concatenate([first[train], second[train]])
            )
            a, b = normalize(pca.transform(first)), normalize(pca.transform(second))
            near = np.sum(np.square(a - b), 1)
        else:
            near = dist
        found = np.mean(np.less(near[train], thresholds[:, None]) == same[train], axis=1)
        best = thresholds[np.argmax(found)]
        accuracy.append(np.mean(np.less(near[test], best) == same[test]))
        far_train = np.mean(np.less(dist[train][~same[train]], fine[:, None]), axis=1)
        threshold = interp1d(far_train, fine, kind="linear")(far) if np.max(far_train) >= far else 0.0
        accepted = np.less(dist[test], threshold)
        val.append(np.sum(accepted & same[test]) / np.sum(same[test]))
        fars.append(np.sum(accepted & ~same[test]) / np.sum(~same[test]))
    return accuracy, val, fars


@pytest.mark.parametrize(("seed", "far", "components"), [(0, 1e-3, 0), (1, 1e-2, 0), (2, 1e-3, 8)])
def test_accuracy_and_val_are_those_of_verification_py(seed, far, components):
    first, second, same = published_pairs(seed)
    found = lfw_grid_accuracy(first, second, same, far=far, components=components)
    accuracy, val, fars = restated(first, second, same, far, components)
    assert found.accuracies == pytest.approx(accuracy, abs=1e-9)
    assert found.accuracy == pytest.approx(np.mean(accuracy), abs=1e-9)
    assert found.accuracy_std == pytest.approx(np.std(accuracy), abs=1e-9)
    assert (found.val, found.val_std) == pytest.approx((np.mean(val), np.std(val)), abs=1e-9)
    assert found.far == pytest.approx(np.mean(fars), abs=1e-9)
    assert 0.6 < found.accuracy < 1
    assert found.val > 0


def test_six_pairs_by_hand():
    # Angles of the pairs; d² = 2 − 2cos: 0 and 0.2679 are people, 2, 0.2679, 2 and 2 are not.
    angles = np.radians([0, 90, 30, 30, 0, 90])
    first = np.tile([[1.0, 0.0]], (6, 1))
    second = np.stack([np.cos(angles), np.sin(angles)], 1)
    same = np.array([True, False, True, False, True, False])
    found = lfw_grid_accuracy(first, second, same, folds=3, far=0.5)
    # Folds 1 and 3 see 0, .2679 against .2679, 2: three of four are right from 0.01 on, as in fold 2.
    assert found.thresholds == pytest.approx((0.01, 0.01, 0.01))
    # The impostor at 30° is rejected below 0.01, and so is the person at 30°.
    assert found.accuracies == pytest.approx((1.0, 0.5, 1.0))
    # Folds 1 and 3 have FAR ½ from 0.268 on, 0 at 0.267: the threshold is 0.268, which takes both people and,
    # in no test fold of theirs, an impostor. Fold 2's others are at 2: FAR 0 to 1 between 2 and 2.001.
    assert found.val == 1.0
    assert found.far == pytest.approx(1 / 3)


def test_separable_pairs_are_all_right_and_random_ones_half():
    first, second, same = published_pairs(4, noise=0.0)
    assert lfw_grid_accuracy(first, second, same).accuracy == 1.0
    rng = np.random.default_rng(5)
    noise = normalize(rng.standard_normal((600, 24)))
    # 600 fair coins: 0.5 with a deviation of 0.0204; five of them either way.
    assert abs(lfw_grid_accuracy(noise, second, same).accuracy - 0.5) < 0.102


def test_a_far_that_no_threshold_of_the_grid_reaches_accepts_nothing():
    # Impostors at 180° are at d² = 4, beyond the grid.
    first = np.tile([[1.0, 0.0]], (20, 1))
    same = np.tile([True, False], 10)
    second = np.where(same[:, None], first, -first)
    found = lfw_grid_accuracy(first, second, same, folds=5)
    assert (found.accuracy, found.val, found.far) == (1.0, 0.0, 0.0)


def test_what_cannot_be_evaluated_is_named():
    first, second, same = published_pairs(0, each=2)
    for change, field in (
        ({"second": second[:, :3]}, "second"),
        ({"first": first * np.nan}, "first"),
        ({"folds": 1}, "folds"),
        ({"folds": 40}, "folds"),
        ({"far": 0.0}, "far"),
        ({"components": 25}, "components"),
        ({"genuine": same[:3]}, "genuine"),
    ):
        given = {"first": first, "second": second, "genuine": same, **change}
        with pytest.raises(InvalidInput, match=field):
            lfw_grid_accuracy(given.pop("first"), given.pop("second"), given.pop("genuine"), **given)
