"""Counts at many thresholds: against every pair one by one, and against scikit-learn."""

import numpy as np
import pytest
from sklearn import metrics

from fairloop.errors import InvalidInput
from fairloop.stats import scan as scanning
from fairloop.stats import scoring
from fairloop.stats.scan import bucket_edges, bucket_of, rate_curves, scan_scores

from .worlds import Population, World, sample, signs


def every_pair(world, impostors="within_group"):
    """Per group: genuine and impostor scores of all pairs; and all impostor scores once."""
    rows = world.embeddings / np.linalg.norm(world.embeddings, axis=1, keepdims=True)
    score = rows @ rows.T
    subject, group = np.array(world.subjects), np.array(world.groups)
    i, j = np.triu_indices(len(rows), 1)
    s, same = score[i, j], subject[i] == subject[j]
    found, pool = {}, np.zeros(s.size, dtype=bool)
    for name in sorted(set(world.groups)):
        first, second = group[i] == name, group[j] == name
        touched = first & second if impostors == "within_group" else first | second
        found[name] = s[same & first & second], s[~same & touched]
        pool |= ~same & touched
    return found, s[pool]


def in_two_groups(world: World) -> World:
    """The same images, where every third subject carries both labels."""
    groups = list(world.groups)
    for k, name in enumerate(world.subjects):
        if int(name[1:]) % 3 == 0 and k % 2:
            groups[k] = f"g{(int(groups[k][1:]) + 1) % 3}"
    return World(world.embeddings, world.subjects, groups)


@pytest.fixture(params=["people in one group", "people in two groups"])
def world(request, monkeypatch):
    # Blocks and strips far smaller than the data, so that every seam is crossed.
    monkeypatch.setattr(scoring, "BLOCK", 17)
    monkeypatch.setattr(scanning, "STRIP", 50)
    plain = signs(subjects=40, images=4, groups=3, seed=3)
    return plain if request.param == "people in one group" else in_two_groups(plain)


@pytest.mark.parametrize("impostors", ["within_group", "all"])
def test_curves_count_every_pair(world, impostors):
    expected, pool = every_pair(world, impostors)
    scores = scan_scores(world.embeddings, world.subjects, world.groups, impostors=impostors)
    assert scores.impostor[-1] == pool.size
    for curve in scores.curves(200):
        genuine, impostor = expected[curve.group]
        assert (curve.genuine, curve.impostor) == (genuine.size, impostor.size)
        for threshold, fmr, fnmr in zip(curve.thresholds, curve.fmr, curve.fnmr, strict=True):
            assert fmr == (impostor >= threshold).mean()
            assert fnmr == (genuine < threshold).mean()


def test_curves_agree_with_scikit_learn():
    world = sample([Population(dimension=16)], [40], 3, seed=1)
    (curve,) = rate_curves(world.embeddings, world.subjects, world.groups)
    genuine, impostor = every_pair(world)[0]["g0"]
    truth = np.repeat([1, 0], [genuine.size, impostor.size])
    fmr, tmr, at = metrics.roc_curve(truth, np.concatenate([genuine, impostor]), drop_intermediate=False)
    # The first of its thresholds at or above ours accepts the same scores.
    same = np.searchsorted(-at, -np.array(curve.thresholds), side="right") - 1
    np.testing.assert_allclose(curve.fmr, fmr[same], atol=1e-15)
    np.testing.assert_allclose(curve.fnmr, 1 - tmr[same], atol=1e-15)


def test_a_curve_reaches_from_everything_accepted_to_nothing_and_down_to_one_false_match():
    world = sample([Population(dimension=16)], [60], 3, seed=2)
    (curve,) = rate_curves(world.embeddings, world.subjects, world.groups, points=100)
    assert len(curve.thresholds) <= 101
    assert (curve.fmr[0], curve.fnmr[0]) == (1.0, 0.0)
    assert (curve.fmr[-1], curve.fnmr[-1]) == (0.0, 1.0)
    assert list(curve.thresholds) == sorted(set(curve.thresholds))
    few = [rate for rate in curve.fmr if 0 < rate <= 5 / curve.impostor]
    assert few, "the curve does not show the last false matches"


def test_no_score_lies_between_the_edge_of_a_bucket_and_the_number_below_it():
    buckets = np.array([1, 33, 1000, 32767, 32768, 40000, 65000, 65500])
    edges = bucket_edges(buckets)
    below = np.nextafter(edges.astype(np.float32), np.float32(-2))
    assert (bucket_of(edges[(edges > -1) & (edges < 1)]) == buckets[(edges > -1) & (edges < 1)]).all()
    assert (scanning._bucket(below) == buckets - 1).all()


def test_unknown_and_failed_images_are_in_no_count():
    world = signs(subjects=20, images=3, groups=2, seed=4)
    subjects = [None if k == 7 else s for k, s in enumerate(world.subjects)]
    groups = [None if k == 11 else g for k, g in enumerate(world.groups)]
    failures = np.arange(60) == 20
    rows = world.embeddings.copy()
    rows[[7, 11, 20]] = np.nan
    kept = np.setdiff1d(np.arange(60), [7, 11, 20])
    fewer = World(world.embeddings[kept], [world.subjects[k] for k in kept], [world.groups[k] for k in kept])
    expected = rate_curves(fewer.embeddings, fewer.subjects, fewer.groups, impostors="all")
    assert rate_curves(rows, subjects, groups, impostors="all", failures=failures) == expected


def test_a_group_without_comparisons_has_an_empty_curve():
    world = signs(subjects=10, images=2, groups=1, seed=5)
    rows = np.concatenate([world.embeddings, world.embeddings[:1]])
    curves = rate_curves(rows, [*world.subjects, "alone"], [*world.groups, "h"])
    assert (curves[1].thresholds, curves[1].genuine, curves[1].impostor) == ((), 0, 0)


def test_one_image_a_subject_leaves_fnmr_without_a_value():
    world = signs(subjects=12, images=1, groups=1, seed=6)
    (curve,) = rate_curves(world.embeddings, world.subjects, world.groups)
    assert set(curve.fnmr) == {None}
    assert curve.to_dict()["fmr"][0] == 1.0


def test_what_is_wrong_is_named():
    world = signs(subjects=4, images=2, groups=2, seed=7)
    with pytest.raises(InvalidInput, match="points: 1; a curve has at least 2"):
        rate_curves(world.embeddings, world.subjects, world.groups, points=1)
    with pytest.raises(InvalidInput, match="'everyone'; it is 'within_group' or 'all'"):
        rate_curves(world.embeddings, world.subjects, world.groups, impostors="everyone")
    with pytest.raises(InvalidInput, match="no impostor pair"):
        rate_curves(world.embeddings[:2], ["a", "a"], ["g", "g"])
