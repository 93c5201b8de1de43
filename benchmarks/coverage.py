"""Coverage study: do intervals cover, are p-values uniform, do summaries cover true gaps?

    OMP_NUM_THREADS=1 python -m benchmarks.coverage [--worlds 1000] [--study NAME ...]

Small seeded worlds with known truth: subjects whose false matches differ by far
(how far is printed), images that scatter more for some subjects than for others,
people of one group more alike than people of two, groups of sizes 1 to 10. The
truth of a population is counted on 80,000 subjects (3.2 billion impostor pairs)
and a million genuine pairs. Prints Markdown tables; exits with 1 when a goal is missed.
"""

from __future__ import annotations

import argparse
import functools
import multiprocessing
import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from fairloop.stats import compare_reports, evaluate_verification
from fairloop.stats.summaries import BY_NAME, GroupRates
from tests.unit.stats.worlds import Population, World, sample

KINDS = ("fmr", "fnmr", "fnmr_at_own_threshold")
SUMMARIES = (
    "fmr_gap",
    "fnmr_gap",
    "fnmr_gap_at_own_threshold",
    "garbe",
    "gini_fmr",
    "gini_fnmr",
    "fmr_max_over_geomean",
)
FMR = 0.01
REPLICATES = 400
BINS = 200_000
TRUTH_SUBJECTS = 80_000
MULTIPLES = (0, 1, 2, 5)


@dataclass(frozen=True)
class Truth:
    """Score distributions of a population, as cumulative shares at `BINS` edges of −1…1."""

    genuine: np.ndarray
    within: np.ndarray
    across: np.ndarray

    def at(self, cumulative: np.ndarray, threshold: float) -> float:
        """Share of scores below `threshold`."""
        return float(np.interp(threshold, np.linspace(-1, 1, BINS + 1), cumulative))

    def threshold(self, fmr: float, across: float = 0.0) -> float:
        """Where the FMR is `fmr` when a share `across` of impostor pairs are of two groups."""
        mixed = (1 - across) * self.within + across * self.across
        return float(np.interp(1 - fmr, mixed, np.linspace(-1, 1, BINS + 1)))

    def rates(self, threshold: float, across: float = 0.0) -> dict[str, float]:
        mixed = (1 - across) * self.within + across * self.across
        own = self.threshold(FMR, across)
        return {
            "fmr": 1 - self.at(mixed, threshold),
            "fnmr": self.at(self.genuine, threshold),
            "fnmr_at_own_threshold": self.at(self.genuine, own),
        }


@functools.cache
def truth_of(people: Population, subjects: int = TRUTH_SUBJECTS) -> Truth:
    """The distributions, counted (seconds to a minute; once per population and process)."""

    def unit(rows: np.ndarray) -> np.ndarray:
        rows = rows.astype(np.float32)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    def counted(scores: np.ndarray) -> np.ndarray:
        return np.bincount(((scores.ravel() + 1) * (BINS / 2)).astype(np.int32), minlength=BINS + 1)[
            : BINS + 1
        ]

    # The same draws whatever the recogniser adds, so that differences of two truths are paired.
    genuine, within, across = (np.zeros(BINS + 1) for _ in range(3))
    for chunk in range(20):
        rows = unit(people.draw(50_000, 2, np.random.default_rng([99, chunk])))
        genuine += counted(np.einsum("nd,nd->n", rows[0::2], rows[1::2]))
    rows = unit(people.draw(subjects, 1, np.random.default_rng([98, 0])))
    step = 2000
    for top in range(0, len(rows), step):
        for left in range(top, len(rows), step):
            block = rows[top : top + step] @ rows[left : left + step].T
            within += counted(block[np.triu_indices(len(block), 1)] if top == left else block)
    if people.kinship:
        other = unit(people.draw(subjects // 4, 1, np.random.default_rng([98, 1]), 1))
        for top in range(0, len(rows) // 4, step):
            for left in range(0, len(other), step):
                across += counted(rows[top : top + step] @ other[left : left + step].T)
    else:
        across = within

    def cumulative(counts: np.ndarray) -> np.ndarray:
        return np.concatenate([[0.0], np.cumsum(counts)[:-1]]) / counts.sum()

    return Truth(cumulative(genuine), cumulative(within), cumulative(across))


@dataclass(frozen=True)
class Study:
    """One kind of world. `second` is the noise that a second recogniser adds to the same images."""

    name: str
    people: tuple[Population, ...]
    subjects: tuple[int, ...]
    images: int = 3
    impostors: str = "within_group"
    second: float = 0.3
    null: str = "resampled"

    def across(self) -> list[float]:
        """Per group, the share of its impostor comparisons that are with other groups."""
        if self.impostors == "within_group":
            return [0.0] * len(self.subjects)
        total = sum(self.subjects)
        shares = []
        for n in self.subjects:
            inside, outside = n * (n - 1) / 2, n * (total - n)
            shares.append(outside / (inside + outside))
        return shares


def noisier(people: Population, by: float) -> Population:
    """The population as a recogniser sees it that scatters every image by `by` more."""
    return replace(people, extra=by)


def scattered(drawn: World, by: float, seed: int) -> World:
    rng = np.random.default_rng([seed, 1])
    rows = drawn.embeddings + by * rng.standard_normal(drawn.embeddings.shape)
    return replace(drawn, embeddings=rows.astype(np.float32))


def one_world(
    study: Study, threshold: float, truths: Sequence[Sequence[Mapping[str, float]]], world: int
) -> dict:
    """Which intervals covered, and the p-values, in one world."""
    drawn = sample(list(study.people), list(study.subjects), study.images, seed=world)
    settings = {
        "threshold": threshold,
        "fmr": FMR,
        "impostors": study.impostors,
        "replicates": REPLICATES,
        "seed": world,
        "null": study.null,
    }
    reports = [
        evaluate_verification(w.embeddings, w.subjects, w.groups, **settings)
        for w in (drawn, scattered(drawn, study.second, world))
    ]
    found: dict[str, list] = defaultdict(list)
    first = reports[0]
    for g, group in enumerate(first.groups):
        for kind in KINDS:
            low, high = getattr(group, f"{kind}_interval")
            found[f"{kind}:{g}"].append(low <= truths[0][g][kind] <= high)
    if study.null == "resampled":
        differences = compare_reports(reports[:1], reports[1:], seed=world).differences
        for g, group in enumerate(first.groups):
            for kind in KINDS:
                low, high = differences[f"{kind}:{group.group}"].joint_interval
                found[f"difference {kind}:{g}"].append(low <= truths[1][g][kind] - truths[0][g][kind] <= high)
    for name in SUMMARIES:
        summary = first.summaries[name]
        if summary.p_value is None:
            continue
        low, high = summary.interval
        # The fair end of an interval may differ from the truth by rounding.
        found[f"summary {name}"].append(low - 1e-9 <= true_summary(name, truths[0]) <= high + 1e-9)
        found[f"p {name}"].append(summary.p_value)
        found[f"null {name}"].append(summary.null_p95)
    if study.impostors == "within_group":
        shares = false_match_shares(drawn, threshold)
        found["hub"].append(max(shares))
    return dict(found)


def false_match_shares(drawn: World, threshold: float) -> list[float]:
    """Per group, the largest number of a subject's false matches over the group's mean."""
    rows = drawn.embeddings / np.linalg.norm(drawn.embeddings, axis=1, keepdims=True)
    groups = np.array(drawn.groups)
    found = []
    for name in sorted(set(drawn.groups)):
        part = rows[groups == name][:1500]
        who = np.array(drawn.subjects)[groups == name][:1500]
        matched = (part @ part.T >= threshold) & (who[:, None] != who[None, :])
        _, code = np.unique(who, return_inverse=True)
        by_subject = np.bincount(code, weights=matched.sum(axis=1))
        found.append(float(by_subject.max() / max(by_subject.mean(), 1e-9)))
    return found


def true_summary(name: str, truths: Sequence[Mapping[str, float]]) -> float:
    rates = {kind: np.array([t[kind] for t in truths]) for kind in KINDS}
    tiny = np.full(len(truths), 1e-12)
    return float(BY_NAME[name].rows(GroupRates(**rates, fmr_bound=tiny, fnmr_bound=tiny, alpha=0.5)))


def run(study: Study, worlds: int, pool: multiprocessing.pool.Pool) -> tuple[dict[str, np.ndarray], dict]:
    """All worlds of a study: what happened per world, and the facts of the population."""
    before = [truth_of(people) for people in study.people]
    after = [truth_of(noisier(people, study.second)) for people in study.people]
    across = study.across()
    threshold = before[0].threshold(FMR, across[0])
    truths = [[t.rates(threshold, a) for t, a in zip(side, across, strict=True)] for side in (before, after)]
    work = functools.partial(one_world, study, threshold, truths)
    found: dict[str, list] = defaultdict(list)
    for result in pool.imap_unordered(work, range(worlds), chunksize=10):
        for key, values in result.items():
            found[key] += values
    facts = {"threshold": threshold, "truths": truths}
    return {key: np.array(values, dtype=float) for key, values in found.items()}, facts


def ks(p: np.ndarray) -> float:
    """Kolmogorov–Smirnov distance of p-values to the uniform."""
    ordered = np.sort(p)
    n = len(p)
    return float(max((np.arange(1, n + 1) / n - ordered).max(), (ordered - np.arange(n) / n).max()))


class Goals:
    """What was promised, and what was missed. A goal allows two standard errors of the simulation."""

    def __init__(self) -> None:
        self.missed: list[str] = []

    def between(self, what: str, value: float, low: float, high: float, worlds: int) -> None:
        # The simulation's error at the bounds, not at the value: near 0 that would be nothing.
        slack = [2 * np.sqrt(bound * (1 - bound) / worlds) for bound in (low, high)]
        if not low - slack[0] <= value <= high + slack[1]:
            self.missed.append(f"{what}: {value:.3f} is outside {low:g}–{high:g}")

    def at_most(self, what: str, distance: float, high: float, worlds: int) -> None:
        # With few worlds uniform p-values have a distance themselves (95 % below 1.36/√n).
        slack = 0.0 if worlds >= 1000 else 1.36 / np.sqrt(worlds)
        if distance > high + slack:
            self.missed.append(f"{what}: {distance:.3f} is above {high:g}")


def row(cells: Iterable[object]) -> None:
    print("| " + " | ".join(str(cell) for cell in cells) + " |", flush=True)


def header(cells: Sequence[str]) -> None:
    row(cells)
    row(["---"] * len(cells))


def fair_people(kinship: float = 0.0) -> Population:
    return Population(reach=0.27, noise=0.6, kinship=kinship)


FAIR = (
    Study("alike, 1:10", (fair_people(0.2),) * 2, (250, 2500), images=2),
    Study("not alike, 1:10", (fair_people(),) * 2, (250, 2500), images=2),
    Study("four groups, 1:4", (fair_people(0.2),) * 4, (250, 400, 700, 1000)),
    Study("alike, all impostors", (fair_people(0.2),) * 4, (250,) * 4, impostors="all"),
    Study("not alike, all impostors", (fair_people(),) * 3, (250, 350, 500), impostors="all"),
)
SMALL = (
    Study("100 subjects", (fair_people(0.2),) * 2, (100, 100), images=4),
    Study("50 subjects", (fair_people(0.2),) * 2, (50, 50), images=4),
)
PERMUTED = (
    Study(
        "permuted, all impostors",
        (fair_people(),) * 3,
        (250, 250, 500),
        impostors="all",
        null="permutation",
    ),
    Study("permuted, within groups", (fair_people(0.2),) * 2, (250, 500), null="permutation"),
)


def coverage_and_calibration(worlds: int, pool, goals: Goals, studies: Sequence[Study], strict: bool) -> None:
    print(
        f"\n### Fair worlds{'' if strict else ', fewer subjects'} ({worlds:,} each): "
        "coverage of 95 % intervals, worst and best group\n"
    )
    header(
        [
            "worlds",
            "subjects",
            "largest subject",
            "FMR",
            "FNMR",
            "FNMR, own τ",
            "Δ FMR",
            "Δ FNMR",
            "Δ FNMR, own τ",
        ]
    )
    calibration = []
    for study in studies:
        found, _ = run(study, worlds, pool)
        cells: list[str] = []
        for kind in (*KINDS, *(f"difference {k}" for k in KINDS)):
            rates = [v.mean() for k, v in found.items() if k.rpartition(":")[0] == kind]
            cells.append(f"{min(rates):.3f}–{max(rates):.3f}" if rates else "–")
            if strict:
                for rate in rates:
                    goals.between(f"{study.name}, coverage of {kind}", rate, 0.93, 0.97, worlds)
        hub = f"{np.median(found['hub']):.1f} × mean" if "hub" in found else "–"
        row([study.name, ", ".join(map(str, study.subjects)), hub, *cells])
        calibration.append((study, found))
    print(
        "\n### The same worlds: p-values (share below .05 and .01, Kolmogorov–Smirnov distance to "
        "uniform), and coverage of the fair value\n"
    )
    header(["worlds", *SUMMARIES])
    for study, found in calibration:
        cells = []
        for name in SUMMARIES:
            if f"p {name}" not in found:
                cells.append("refused")
                continue
            p = found[f"p {name}"]
            five, one, distance = (p < 0.05).mean(), (p < 0.01).mean(), ks(p)
            covers = found[f"summary {name}"].mean()
            cells.append(f".05: {five:.3f}, .01: {one:.3f}, KS {distance:.3f}, covers {covers:.3f}")
            if strict:
                goals.between(f"{study.name}, p < .05 of {name}", five, 0.03, 0.07, worlds)
                goals.between(f"{study.name}, p < .01 of {name}", one, 0.0, 0.02, worlds)
                goals.at_most(f"{study.name}, KS of {name}", distance, 0.06, worlds)
        row([study.name, *cells])


def with_true_gap(name: str) -> Callable[[float], Population]:
    field = "noise" if name.startswith("fnmr") else "reach"
    return lambda by: replace(fair_people(0.2), **{field: getattr(fair_people(), field) + by})


def unequal(measure: str, multiple: float, p95: float, threshold: float) -> Population:
    """The population whose true gap to the fair one is `multiple` times the null's 95th percentile."""
    if multiple == 0:
        return fair_people(0.2)
    kind = {"fmr_gap": "fmr", "fnmr_gap": "fnmr", "fnmr_gap_at_own_threshold": "fnmr_at_own_threshold"}[
        measure
    ]
    # A smaller count is enough to find the population; its truth is counted in full.
    fair = truth_of(fair_people(0.2), 8000).rates(threshold)[kind]
    low, high = 0.0, 1.0
    make = with_true_gap(measure)
    for _ in range(9):
        middle = (low + high) / 2
        gap = abs(truth_of(make(middle), 8000).rates(threshold)[kind] - fair)
        low, high = (middle, high) if gap < multiple * p95 else (low, middle)
    return make((low + high) / 2)


def true_gaps(worlds: int, pool, goals: Goals) -> None:
    subjects = (250, 500)
    fair = Study("fair", (fair_people(0.2),) * 2, subjects)
    found, facts = run(fair, 100, pool)
    print(
        f"\n### True gaps ({worlds:,} worlds each, {subjects[0]} and {subjects[1]} subjects): "
        "coverage of the true value\n"
    )
    header(["gap in", "true gap / null's 95th percentile", "true value", *SUMMARIES])
    for measure in ("fmr_gap", "fnmr_gap_at_own_threshold"):
        p95 = float(found[f"null {measure}"].mean())
        for multiple in MULTIPLES:
            people = unequal(measure, multiple, p95, facts["threshold"])
            study = Study(f"{measure} × {multiple}", (fair_people(0.2), people), subjects)
            seen, here = run(study, worlds, pool)
            value = true_summary(measure, here["truths"][0])
            shares = [seen[f"summary {name}"].mean() for name in SUMMARIES]
            row([measure, f"{value / p95:.2f}", f"{value:.4f}", *(f"{share:.3f}" for share in shares)])


STUDIES: Mapping[str, Callable] = {
    "fair": lambda n, pool, goals: coverage_and_calibration(n, pool, goals, FAIR, True),
    "small": lambda n, pool, goals: coverage_and_calibration(n, pool, goals, SMALL, False),
    "permuted": lambda n, pool, goals: coverage_and_calibration(n, pool, goals, PERMUTED, True),
    "gaps": true_gaps,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--worlds", type=int, default=1000, help="worlds of each kind")
    parser.add_argument("--study", choices=sorted(STUDIES), action="append")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    options = parser.parse_args()
    goals = Goals()
    started = time.perf_counter()
    with multiprocessing.get_context("spawn").Pool(options.processes) as pool:
        for name in options.study or STUDIES:
            STUDIES[name](options.worlds, pool, goals)
    print(f"\n{(time.perf_counter() - started) / 60:.0f} minutes on {options.processes} processes.")
    print("\n".join(f"MISSED {line}" for line in goals.missed) or "All goals met.")
    return 1 if goals.missed else 0


if __name__ == "__main__":
    raise SystemExit(main())
