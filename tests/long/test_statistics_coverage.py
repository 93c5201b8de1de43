"""Whether intervals cover, p-values are uniform and verdicts keep their promises, in fewer worlds than
`benchmarks/coverage.py`, whose tables are in docs/coverage.md.
"""

from __future__ import annotations

import multiprocessing
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.coverage import FAIR, PERMUTED, Goals, coverage_and_calibration
from fairloop.stats import Verdict, compare_recognizers
from tests.unit.stats.worlds import Population, World, sample

pytestmark = [pytest.mark.statistics, pytest.mark.timeout(3600)]


@pytest.mark.parametrize("study", [FAIR[2], FAIR[3], PERMUTED[0]], ids=lambda study: study.name)
def test_intervals_cover_and_p_values_are_uniform_in_fair_worlds(study):
    goals = Goals()
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        coverage_and_calibration(250, pool, goals, [study], strict=True)
    assert goals.missed == []


def recognisers(
    drawn: World, noise: tuple[float, float], runs: int, rng: np.random.Generator
) -> list[np.ndarray]:
    """Training runs that see the same images: each scatters them anew, a little more or less per group."""
    group = np.array([int(name[1:]) for name in drawn.groups])
    found = []
    for _ in range(runs):
        jitter = np.exp(0.05 * rng.standard_normal(2))
        scale = (np.array(noise) * jitter)[group]
        found.append(drawn.embeddings + scale[:, None] * rng.standard_normal(drawn.embeddings.shape))
    return found


def verdicts(
    before: tuple[float, float], after: tuple[float, float], worlds: int, runs: int = 3
) -> dict[str, float]:
    people = replace(Population(), noise=0.5)
    said: dict[str, float] = {}
    for world in range(worlds):
        rng = np.random.default_rng([7, world])
        drawn = sample([people, people], [60, 60], 5, seed=world)
        report = compare_recognizers(
            recognisers(drawn, before, runs, rng),
            recognisers(drawn, after, runs, rng),
            drawn.subjects,
            drawn.groups,
            fmr=0.01,
            replicates=200,
            seed=world,
        )
        key = report.decision.verdict.value
        said[key] = said.get(key, 0.0) + 1 / worlds
    print(f"\n{before} → {after}, {runs} runs an arm: { {k: round(v, 3) for k, v in sorted(said.items())} }")
    return said


def test_nothing_changed_is_seldom_called_smaller_and_never_closed():
    for noise in ((1.0, 1.0), (1.2, 0.8)):
        said = verdicts(noise, noise, worlds=200)
        claims = sum(said.get(v.value, 0.0) for v in (Verdict.SMALLER, Verdict.CLOSED, Verdict.LEVELLED_DOWN))
        assert claims <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 200)
        assert said.get(Verdict.CLOSED.value, 0.0) <= 0.05
        assert said.get(Verdict.UNRELIABLE.value, 0.0) <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 200)


def test_a_halved_gap_is_called_smaller():
    said = verdicts((1.4, 0.6), (1.0, 0.6), worlds=60)
    assert said.get("smaller", 0.0) + said.get("closed", 0.0) >= 0.8
