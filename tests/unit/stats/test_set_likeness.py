"""How alike images are, and how far sets lie apart: closed forms, and what redrawing subjects says."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from fairloop.errors import InvalidInput
from fairloop.stats.set_likeness import kernel_distance, mean_similarity


def test_the_mean_cosine_is_over_pairs_of_two_subjects() -> None:
    features = np.array([[3.0, 0], [0, 1], [0, 2], [1, 1]])
    subjects = np.array([0, 1, 1, 2])
    pairs = [(i, j) for i, j in itertools.combinations(range(4), 2) if subjects[i] != subjects[j]]
    cosines = [
        features[i] @ features[j] / np.linalg.norm(features[i]) / np.linalg.norm(features[j])
        for i, j in pairs
    ]
    assert len(pairs) == 5
    assert mean_similarity(features, subjects, 0).value == pytest.approx(np.mean(cosines))


def test_images_that_are_all_alike_have_1_and_orthogonal_ones_0() -> None:
    alone = np.arange(6)
    same = mean_similarity(np.tile([0.3, 0.4], (6, 1)), alone, 0)
    assert same.value == pytest.approx(1)
    assert same.interval == pytest.approx((1, 1))
    assert mean_similarity(np.eye(6), alone, 0).value == 0


def test_the_kernel_distance_is_the_unbiased_one_of_its_definition() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(7, 5)), rng.normal(0.3, size=(9, 5))

    def kernel(a: np.ndarray, b: np.ndarray) -> float:
        return float((a @ b / 5 + 1) ** 3)

    wanted = (
        np.mean([kernel(a, b) for a, b in itertools.permutations(x, 2)])
        + np.mean([kernel(a, b) for a, b in itertools.permutations(y, 2)])
        - 2 * np.mean([kernel(a, b) for a in x for b in y])
    )
    found = kernel_distance(x, np.arange(7), y, np.arange(9), 0)
    assert found.value == pytest.approx(wanted)
    assert found.interval is not None
    assert found.interval[0] <= found.value <= found.interval[1]


def test_intervals_of_equal_sets_hold_0_and_of_different_ones_do_not() -> None:
    rng = np.random.default_rng(3)
    alone = np.arange(80)
    first, second = rng.normal(size=(80, 8)), rng.normal(size=(80, 8))
    equal = kernel_distance(first, alone, second, alone, 1).interval
    moved = kernel_distance(first, alone, second + 1.0, alone, 1).interval
    assert equal is not None
    assert moved is not None
    assert equal[0] < 0 < equal[1]
    assert moved[0] > 0
    assert moved == kernel_distance(first, alone, second + 1.0, alone, 1).interval


def test_a_hundred_images_of_few_subjects_are_no_hundred_images() -> None:
    rng = np.random.default_rng(4)
    people = rng.normal(size=(10, 16)) + 0.5
    features = np.repeat(people, 10, axis=0) + 0.05 * rng.normal(size=(100, 16))
    widths = []
    for subjects in (np.repeat(np.arange(10), 10), np.arange(100)):
        interval = mean_similarity(features, subjects, 0).interval
        assert interval is not None
        widths.append(interval[1] - interval[0])
    assert widths[0] > 2 * widths[1]


def test_what_has_no_pair_or_no_direction_is_refused() -> None:
    with pytest.raises(InvalidInput, match="fewer than two"):
        mean_similarity(np.ones((3, 2)), np.zeros(3, np.int64), 0)
    with pytest.raises(InvalidInput, match="row 1 is 0"):
        mean_similarity(np.array([[1.0, 0], [0, 0]]), np.arange(2), 0)
    with pytest.raises(InvalidInput, match="are of 2 and 3 numbers"):
        kernel_distance(np.ones((2, 2)), np.arange(2), np.ones((2, 3)), np.arange(2), 0)
