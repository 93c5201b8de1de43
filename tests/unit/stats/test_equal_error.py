"""The equal error threshold re-chosen in every replicate, against bootstraps written out in full."""

import numpy as np
import pytest

from fairloop.stats import evaluate_pairs, evaluate_verification

from .worlds import Population, sample

PEOPLE, DRAWS = 60, 1000


def equal_error(genuine, genuine_weight, impostor, impostor_weight):
    """The smallest genuine score at which the weighted FMR is at most the weighted FNMR."""
    levels = np.sort(genuine)
    up, down = np.argsort(genuine), np.argsort(impostor)
    missed = np.concatenate([[0.0], np.cumsum(genuine_weight[up])])
    matched = np.concatenate([np.cumsum(impostor_weight[down][::-1])[::-1], [0.0]])
    fnmr = missed[np.searchsorted(genuine[up], levels)] / missed[-1]
    fmr = matched[np.searchsorted(impostor[down], levels)] / matched[0]
    return levels[np.argmax(fmr <= fnmr)]


def rate(hit, weight):
    return float((hit * weight).sum() / weight.sum())


def test_over_subjects_it_is_where_the_redrawn_rates_meet():
    world = sample([Population(), Population()], [PEOPLE, PEOPLE], 2, seed=4)
    report = evaluate_verification(
        world.embeddings,
        world.subjects,
        world.groups,
        policy="eer",
        threshold_in_replicates="both",
        method="subject_bootstrap",
    )
    rows = world.embeddings / np.linalg.norm(world.embeddings, axis=1, keepdims=True)
    i, j = np.triu_indices(len(rows), 1)
    within = (i // (2 * PEOPLE)) == (j // (2 * PEOPLE))
    i, j = i[within], j[within]
    score, same, group = np.einsum("nd,nd->n", rows[i], rows[j]), i // 2 == j // 2, i // (2 * PEOPLE)
    rng = np.random.default_rng(1)
    found = []
    for _ in range(DRAWS):
        people = np.concatenate([rng.multinomial(PEOPLE, np.full(PEOPLE, 1 / PEOPLE)) for _ in range(2)])
        weight = np.where(same, people[i // 2], people[i // 2] * people[j // 2]).astype(float)
        level = equal_error(score[same], weight[same], score[~same], weight[~same])
        mine, other = same & (group == 0), ~same & (group == 0)
        found.append([rate(score[other] >= level, weight[other]), rate(score[mine] < level, weight[mine])])
    record = report.groups[0]
    expected = np.quantile(found, [0.025, 0.975], axis=0).T
    for interval, (low, high) in zip(
        (record.fmr_interval_rechosen, record.fnmr_interval_rechosen), expected, strict=True
    ):
        assert interval == pytest.approx((low, high), abs=0.15 * (high - low))
    # At a threshold held at its FMR the false matches would hardly vary.
    assert np.ptp(record.fmr_interval_rechosen) > 1.5 * np.ptp(record.fmr_interval)


def test_over_pairs_it_is_where_the_redrawn_rates_meet():
    rng = np.random.default_rng(2)
    same = np.arange(4000) < 400
    score = rng.normal(1.5 * same, 1.0)
    report = evaluate_pairs(score, same, ["g"] * 4000, policy="eer", threshold_in_replicates="both")
    found = []
    for _ in range(DRAWS):
        genuine, impostor = rng.choice(score[same], 400), rng.choice(score[~same], 3600)
        level = equal_error(genuine, np.ones(400), impostor, np.ones(3600))
        found.append(float((impostor >= level).mean()))
    low, high = np.quantile(found, [0.025, 0.975])
    assert report.groups[0].fmr_interval_rechosen == pytest.approx((low, high), abs=0.15 * (high - low))
