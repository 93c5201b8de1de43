"""Whether a comparison of the size that was asked for says what it was planned to say.

`pytest -m statistics -s tests/long/test_power.py` prints the sizes and how often
each verdict was given. About three minutes on one core.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fairloop.errors import InvalidInput
from fairloop.stats import compare_recognizers, evaluate_verification
from fairloop.stats.comparison import ComparisonReport
from fairloop.stats.power import required_subjects
from tests.unit.stats.worlds import Population, World, sample

pytestmark = [pytest.mark.statistics, pytest.mark.timeout(3600)]

PEOPLE = replace(Population(), noise=0.5)
FMR = 0.01


def recognisers(
    drawn: World, noise: tuple[float, float], runs: int, jitter: float, rng: np.random.Generator
) -> list[np.ndarray]:
    """Training runs: each scatters the same images anew, a little more or less per group."""
    group = np.array([int(name[1:]) for name in drawn.groups])
    found = []
    for _ in range(runs):
        scale = (np.array(noise) * np.exp(jitter * rng.standard_normal(2)))[group]
        found.append(drawn.embeddings + scale[:, None] * rng.standard_normal(drawn.embeddings.shape))
    return found


def true_gap(noise: tuple[float, float]) -> float:
    """FNMR at own thresholds of the first group minus that of the second, of very many people."""
    drawn = sample([PEOPLE, PEOPLE], [500, 500], 5, seed=12345)
    gaps = []
    for rows in recognisers(drawn, noise, 2, 0.0, np.random.default_rng(1)):
        report = evaluate_verification(rows, drawn.subjects, drawn.groups, fmr=FMR, replicates=100)
        first, second = (record.fnmr_at_own_threshold for record in report.groups)
        gaps.append(first - second)
    return float(np.mean(gaps))


def halved(before: tuple[float, float]) -> tuple[float, tuple[float, float]]:
    """The gap, and the noise of the worse group at which half of it is left."""
    gap, low, high = true_gap(before), before[1], before[0]
    for _ in range(7):
        middle = (low + high) / 2
        low, high = (low, middle) if true_gap((middle, before[1])) > gap / 2 else (middle, high)
    return gap, ((low + high) / 2, before[1])


def compared(
    subjects: int,
    before: tuple[float, float],
    after: tuple[float, float],
    runs: int,
    jitter: float,
    world: int,
) -> ComparisonReport:
    rng = np.random.default_rng([7, world])
    drawn = sample([PEOPLE, PEOPLE], [subjects, subjects], 5, seed=world)
    return compare_recognizers(
        recognisers(drawn, before, runs, jitter, rng),
        recognisers(drawn, after, runs, jitter, rng),
        drawn.subjects,
        drawn.groups,
        fmr=FMR,
        replicates=150,
        seed=world,
    )


@pytest.mark.parametrize(("before", "runs", "jitter"), [((1.0, 0.8), 5, 0.02), ((1.15, 0.8), 3, 0.02)])
def test_a_halved_gap_is_called_smaller_at_the_size_that_is_asked_for(before, runs, jitter):
    gap, after = halved(before)
    sizes = []
    for world in range(9):
        pilot = compared(60, before, after, runs, jitter, 200_000 + world)
        try:
            sizes.append(float(required_subjects(pilot=pilot, change=gap / 2).subjects))
        except InvalidInput:  # this pilot saw its runs differ too much for any number of subjects
            sizes.append(np.inf)
    size = int(np.median(sizes))
    print(f"\ngap {gap:.3f}, halved by {before} → {after}; {runs} runs; pilots ask for {sorted(sizes)}")
    smaller = {}
    for subjects in (size, size // 2):
        said: dict[str, int] = {}
        for world in range(120):
            verdict = compared(subjects, before, after, runs, jitter, 50_000 + world).decision.verdict.value
            said[verdict] = said.get(verdict, 0) + 1
        smaller[subjects] = (said.get("smaller", 0) + said.get("closed", 0)) / 120
        print(f"  {subjects} subjects a group: {said}, smaller in {smaller[subjects]:.3f}")
    assert smaller[size] >= 0.8
    # No larger than it has to be: either the promise is not exceeded by much, or half the people fall short.
    assert smaller[size] <= 0.97 or smaller[size // 2] < 0.8
