import json
from math import comb

import numpy as np
import pytest

from fairloop.errors import InvalidInput
from fairloop.stats import compare_reports, evaluate_pairs, evaluate_verification
from fairloop.stats.intervals import t_widening
from fairloop.stats.paired import difference_spread
from tests.unit.stats.worlds import signs

PEOPLE, IMAGES = 14, 3
WORLD = signs(PEOPLE, IMAGES, 1, seed=3)
OPTIONS = {"threshold": 0.25, "replicates": 200}


def run(seed, failures=None):
    """One recogniser of these people: rows of ±1, so that counting pairs one by one gives the same scores."""
    rng = np.random.default_rng(seed)
    rows = np.where(rng.random(WORLD.embeddings.shape) < 0.1, -WORLD.embeddings, WORLD.embeddings)
    report = evaluate_verification(rows, WORLD.subjects, ["g"] * len(rows), failures=failures, **OPTIONS)
    return rows, report


def errors(rows):
    """False matches by pair of people, (people, people), symmetric."""
    score = rows @ rows.T / rows.shape[1]
    found = np.zeros((PEOPLE, PEOPLE))
    for i, first in enumerate(WORLD.subjects):
        for j, second in enumerate(WORLD.subjects):
            if first != second and score[i, j] >= OPTIONS["threshold"]:
                found[int(first[1:]), int(second[1:])] += 1
    return found


def test_the_spread_of_a_difference_is_the_dyadic_formula_also_with_unequal_numbers_of_runs():
    arms = [[run(seed) for seed in seeds] for seeds in ((1, 2), (3, 4, 5))]
    found = difference_spread(*([report.draws.impostor["g"] for _, report in arm] for arm in arms))
    before, after = (np.mean([errors(rows) for rows, _ in arm], axis=0) for arm in arms)
    pairs = comb(PEOPLE, 2)
    residual = (after - before) / IMAGES**2
    residual -= residual.sum() / 2 / pairs
    np.fill_diagonal(residual, 0.0)
    by_person = residual.sum(axis=1)
    own = (np.triu(residual, 1) ** 2).sum()
    variance = max((by_person**2).sum() - own, own) / pairs**2
    squares = by_person**2
    freedom = 2 * squares.sum() ** 2 / ((squares**2).sum() - squares.sum() ** 2 / PEOPLE)
    widened = t_widening(min(PEOPLE - 1, freedom))
    assert found == pytest.approx(np.sqrt(variance * PEOPLE / (PEOPLE - 2)) * widened, rel=1e-9)


def test_runs_in_which_other_people_failed_are_not_taken_as_the_same_comparisons():
    failed = [np.array([name == who for name in WORLD.subjects]) for who in ("s000", "s005")]
    some, others, everybody = (
        run(seed, mask)[1] for seed, mask in ((1, failed[0]), (2, failed[1]), (3, None))
    )
    counts = [report.draws.impostor["g"] for report in (some, others, everybody)]
    assert difference_spread(counts[:1], counts[1:2]) is None
    assert difference_spread(counts[:1], counts[2:]) is None
    assert difference_spread(counts[:1], counts[:1]) is None


def test_reports_with_other_failures_compare():
    first = np.array([name == "s000" for name in WORLD.subjects])
    rows = signs(PEOPLE, IMAGES, 2, seed=3)
    reports = [
        evaluate_verification(rows.embeddings, rows.subjects, rows.groups, failures=mask, **OPTIONS)
        for mask in (first, None)
    ]
    difference = compare_reports(reports[:1], reports[1:]).differences["fmr:g0"]
    assert difference.value == reports[1].group("g0").fmr - reports[0].group("g0").fmr


def listed(seed, subjects):
    rng = np.random.default_rng(seed)
    people = np.random.default_rng(0)
    first = people.integers(20, size=600)
    second = np.where(people.random(600) < 0.5, first, (first + people.integers(1, 20, size=600)) % 20)
    scores = rng.normal(2.0 * (first == second), 1.0)
    names = (first.astype(str), second.astype(str)) if subjects else None
    groups = [f"g{k % 2}" for k in range(600)]
    return evaluate_pairs(scores, first == second, groups, subjects=names, fmr=0.1, replicates=200)


def test_evaluations_of_one_list_of_pairs_compare():
    before, after = listed(1, True), listed(2, True)
    report = compare_reports([before], [after])
    json.loads(report.to_json())
    assert report.differences["fmr:g0"].value == after.group("g0").fmr - before.group("g0").fmr


def test_lists_without_subject_ids_do_not_compare():
    with pytest.raises(InvalidInput, match="without subject ids"):
        compare_reports([listed(1, False)], [listed(2, False)])


def test_reports_on_other_groups_do_not_compare():
    reports = [
        evaluate_verification(WORLD.embeddings, WORLD.subjects, names, **OPTIONS)
        for names in (["g"] * len(WORLD.subjects), ["h"] * len(WORLD.subjects))
    ]
    with pytest.raises(InvalidInput, match="the same images"):
        compare_reports(reports[:1], reports[1:])


def test_equal_runs_are_not_evidence_of_no_variance_between_seeds():
    world = signs(PEOPLE, IMAGES, 2, seed=3)
    noisy = np.where(np.random.default_rng(1).random(world.embeddings.shape) < 0.2, -1, 1) * world.embeddings
    runs = [
        [evaluate_verification(rows, world.subjects, world.groups, fmr=0.05, replicates=200)] * 2
        for rows in (noisy, world.embeddings)
    ]
    difference = compare_reports(*runs, measure="fnmr_gap").differences["fnmr:g0"]
    assert difference.flags[0] == "equal_runs"
    assert difference.interval == difference.joint_interval
    assert difference.interval[0] < difference.value < difference.interval[1]


def test_replicates_that_move_the_threshold_are_not_brought_to_the_variance_at_a_fixed_one():
    world = signs(40, IMAGES, 2, seed=3)
    noisy = np.where(np.random.default_rng(1).random(world.embeddings.shape) < 0.15, -1, 1) * world.embeddings
    reports = [
        evaluate_verification(
            rows, world.subjects, world.groups, fmr=0.05, replicates=400, threshold_in_replicates="rechosen"
        )
        for rows in (noisy, world.embeddings)
    ]
    drawn = [report.draws.rates["fmr"][:, 0] for report in reports]
    difference = compare_reports(reports[:1], reports[1:]).differences["fmr:g0"]
    width = np.ptp(np.quantile(drawn[1] - drawn[0], [0.025, 0.975]))
    assert np.ptp(difference.joint_interval) == pytest.approx(width, rel=1e-9)
