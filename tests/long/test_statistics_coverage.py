"""Coverage study: whether intervals cover, p-values are uniform and verdicts keep their promises.

Seeded worlds with subject effects (some subjects collect several times the
average of false matches) and within-group similarity. `pytest -m statistics -s`
prints the tables. About ten minutes on two cores.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fairloop.stats import Verdict, compare_recognizers, evaluate_verification
from tests.unit.stats.worlds import Population, World, sample

pytestmark = [pytest.mark.statistics, pytest.mark.timeout(3600)]

KINDS = ("fmr", "fnmr", "fnmr_at_own_threshold")
SUMMARIES = ("fmr_gap", "fnmr_gap", "garbe", "fnmr_gap_at_own_threshold")


def truth_of(people: Population, threshold: float, fmr: float) -> dict[str, float]:
    genuine, impostor = people.scores(9000, seed=99)
    own = float(np.quantile(impostor, 1 - fmr))
    return {
        "fmr": float((impostor >= threshold).mean()),
        "fnmr": float((genuine < threshold).mean()),
        "fnmr_at_own_threshold": float((genuine < own).mean()),
    }


@pytest.mark.parametrize(
    ("subjects", "worlds", "lowest"),
    [((250, 250), 300, 0.92), ((100, 100), 300, 0.87), ((250, 50), 200, 0.86)],
)
def test_coverage_and_calibration_in_fair_worlds(subjects, worlds, lowest):
    people, fmr = Population(), 0.01
    threshold = float(np.quantile(people.scores(9000, seed=99)[1], 1 - fmr))
    truth = truth_of(people, threshold, fmr)
    covered = {kind: np.zeros(2) for kind in KINDS}
    p = {name: [] for name in SUMMARIES}
    for world in range(worlds):
        drawn = sample([people, people], list(subjects), 4, seed=world)
        report = evaluate_verification(
            drawn.embeddings,
            drawn.subjects,
            drawn.groups,
            threshold=threshold,
            fmr=fmr,
            replicates=400,
            seed=world,
        )
        for g, group in enumerate(report.groups):
            for kind in KINDS:
                low, high = getattr(group, f"{kind}_interval")
                covered[kind][g] += low <= truth[kind] <= high
        for name in SUMMARIES:
            p[name].append(report.summaries[name].p_value)
    print(f"\n{subjects} subjects, {worlds} fair worlds")
    for kind in KINDS:
        print(f"  {kind:24s} coverage {covered[kind] / worlds}")
        # Two standard errors of the simulation itself.
        assert (covered[kind] / worlds).min() >= lowest - 2 * np.sqrt(lowest * (1 - lowest) / worlds)
    for name in SUMMARIES:
        values = np.sort(p[name])
        distance = np.abs(values - np.arange(1, worlds + 1) / worlds).max()
        rejected = (values < 0.05).mean()
        print(f"  {name:28s} p < .05 {rejected:.3f}, p < .01 {(values < 0.01).mean():.3f}, KS {distance:.3f}")
        assert rejected <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / worlds) + 0.02


@pytest.mark.parametrize("noise", [0.9, 1.1])
def test_summaries_cover_true_gaps(noise):
    people = [Population(), Population(noise=noise)]
    threshold, fmr, worlds = 0.45, 0.01, 200
    truth = [truth_of(person, threshold, fmr) for person in people]
    gaps = {
        name: abs(truth[1][kind] - truth[0][kind])
        for name, kind in (
            ("fmr_gap", "fmr"),
            ("fnmr_gap", "fnmr"),
            ("fnmr_gap_at_own_threshold", "fnmr_at_own_threshold"),
        )
    }
    covered = dict.fromkeys(gaps, 0)
    for world in range(worlds):
        drawn = sample(people, [250, 250], 4, seed=world)
        report = evaluate_verification(
            drawn.embeddings,
            drawn.subjects,
            drawn.groups,
            threshold=threshold,
            fmr=fmr,
            replicates=400,
            seed=world,
        )
        for name, gap in gaps.items():
            low, high = report.summaries[name].interval
            covered[name] += low <= gap <= high
    print(f"\ntrue gaps {gaps}: coverage { ({name: n / worlds for name, n in covered.items()}) }")
    assert min(covered.values()) / worlds >= 0.90


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
        said = verdicts(noise, noise, worlds=150)
        claims = sum(said.get(v.value, 0.0) for v in (Verdict.SMALLER, Verdict.CLOSED, Verdict.LEVELLED_DOWN))
        assert claims <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 150)
        assert said.get(Verdict.CLOSED.value, 0.0) <= 0.05
        assert said.get(Verdict.UNRELIABLE.value, 0.0) <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 150)


def test_a_halved_gap_is_called_smaller():
    said = verdicts((1.4, 0.6), (1.0, 0.6), worlds=60)
    assert said.get("smaller", 0.0) + said.get("closed", 0.0) >= 0.8
