"""How many subjects it takes to see a gap, or a gap shrink (statistics §6)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from scipy import special

from fairloop.errors import InvalidInput
from fairloop.stats.compare import MEASURE, VERDICT_MEASURES
from fairloop.stats.comparison import ComparisonReport
from fairloop.stats.flags import FEW_SUBJECTS, RULE_OF_30
from fairloop.stats.null import SIGNIFICANT
from fairloop.stats.planning import MOST_RUNS, Pilot, Simulated, pilot_of
from fairloop.stats.report import VerificationReport

MOST_SUBJECTS = 10_000_000
FEWEST_SUBJECTS = 30
"""Variances of a pilot are not carried to fewer people than this, nor below the rule of 30 at its FMR."""


@dataclass(frozen=True)
class Requirement:
    """Subjects of each group, and the comparisons that they make within it.

    After a pilot whose groups differ in size the numbers are those of its smallest
    group, and the others keep their proportion to it. `power` is the one
    reached with so many subjects, at least the one asked for.
    """

    subjects: int
    groups: int
    genuine: int
    """Genuine pairs of a group."""
    impostor: int
    """Impostor pairs of a group."""
    power: float
    conventions: Mapping[str, str]
    flags: tuple[str, ...]

    def __int__(self) -> int:
        return self.subjects

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def required_subjects(
    gap: float | None = None,
    *,
    rate: float | None = None,
    kind: Literal["fnmr", "fmr"] = "fnmr",
    images_per_subject: int = 2,
    between_subject_sd: float = 0.0,
    design_effect: float | None = None,
    groups: int = 2,
    pilot: VerificationReport | ComparisonReport | None = None,
    measure: str | None = None,
    change: float | None = None,
    runs: int | None = None,
    power: float = 0.8,
    alpha: float = SIGNIFICANT,
) -> Requirement:
    """Subjects per group that let a gap of a given size be seen with probability `power`.

    Three questions, by what is given:

    - From rates: `gap` and `rate`. Two groups have the rates `rate` and `rate` +
      `gap`, and a two-sided z test of two proportions at `alpha` (over the number of
      pairs of `groups`: the first step of Holm) compares them. A subject of k =
      `images_per_subject` images is in k(k − 1)/2 genuine pairs, and every two
      subjects in k² impostor pairs. `between_subject_sd` is the standard deviation σ
      of the subjects' own rates, moved between rates on the logit scale: the
      variance of an FNMR is (σ² + (p(1 − p) − σ²)/m)/S with m pairs a subject, that
      of an FMR 4σ²/S + (p(1 − p) − 2σ²)/pairs. `design_effect` instead multiplies
      the variance of independent pairs.
    - From the evaluation of one recogniser: `pilot`, and `gap` when it is another
      one than the pilot's. Power of p < .05 on `measure` (FNMR gap at own thresholds
      unless given), its replicates and its null scaled by 1/√subjects.
    - From a comparison: `pilot`, `change` (how much the gap shrinks; half of what
      the first arm shows unless given, which is as uncertain as the pilot) and
      `runs` per arm (the pilot's unless given). Comparisons are simulated as
      `compare_recognizers` judges them, control and null included; power is the
      share that is said to be smaller. What a run adds shrinks with `runs`, what
      subjects add with subjects, what subjects add to each run with both; that few
      runs tell little of how runs differ is part of the simulation.

    Raises InvalidInput naming the field: neither or both of `rate` and `pilot`, a
    rate or a gap outside its range, a comparison with one run in an arm, and `runs`
    when no number of subjects is enough (it says how many runs could be).

    >>> required_subjects(0.05, rate=0.10).subjects
    686
    """
    for field, value in (("power", power), ("alpha", alpha)):
        if not 0.0 < value < 1.0:
            raise InvalidInput(field, f"{value} is outside 0–1, both excluded")
    if (rate is None) == (pilot is None):
        raise InvalidInput("rate", "give a `rate` (planning from rates) or a `pilot`, not both")
    if pilot is None:
        assert rate is not None
        if change is not None or runs is not None or measure is not None:
            raise InvalidInput("pilot", "`change`, `runs` and `measure` are about a pilot; none was given")
        return _from_rates(
            gap, rate, kind, images_per_subject, between_subject_sd, design_effect, groups, power, alpha
        )
    if alpha != SIGNIFICANT:
        raise InvalidInput("alpha", f"{alpha}; reports are judged at {SIGNIFICANT}")
    if measure is not None and measure not in VERDICT_MEASURES:
        raise InvalidInput("measure", f"{measure!r}; it is one of {', '.join(VERDICT_MEASURES)}")
    if isinstance(pilot, ComparisonReport):
        if gap is not None:
            raise InvalidInput("gap", "a comparison is planned by `change`, how much its gap shrinks")
        return _from_comparison(pilot, measure or pilot.measure, change, runs, power)
    if change is not None or runs is not None:
        raise InvalidInput("pilot", "`change` and `runs` need the pilot of a comparison")
    return _from_evaluation(pilot, measure or MEASURE, gap, power)


def _smallest(reaches: Callable[[int], float], power: float, least: int) -> int | None:
    """The smallest number of subjects whose power suffices, by bisection; None beyond `MOST_SUBJECTS`."""
    low, high = least - 1, least
    while reaches(high) < power:
        low, high = high, 2 * high
        if high > MOST_SUBJECTS:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if reaches(middle) >= power else (middle, high)
    return high


def _flags(subjects: int) -> list[str]:
    return ["few_subjects"] if subjects < FEW_SUBJECTS else []


def _from_rates(
    gap: float | None,
    rate: float,
    kind: str,
    images: int,
    sd: float,
    design_effect: float | None,
    groups: int,
    power: float,
    alpha: float,
) -> Requirement:
    if kind not in ("fnmr", "fmr"):
        raise InvalidInput("kind", f"{kind!r}; it is 'fnmr' or 'fmr'")
    if gap is None or gap == 0 or not (0.0 <= rate <= 1.0 and 0.0 <= rate + gap <= 1.0):
        raise InvalidInput("gap", f"{gap} from {rate}; both rates lie in 0–1 and differ")
    least = 2 if kind == "fnmr" else 1
    if images < least:
        raise InvalidInput("images_per_subject", f"{images}; an {kind.upper()} needs at least {least}")
    if groups < 2:
        raise InvalidInput("groups", f"{groups}; a gap needs at least 2")
    if sd < 0 or (sd > 0 and design_effect is not None):
        raise InvalidInput("between_subject_sd", f"{sd}; 0 or above, and not together with `design_effect`")
    if design_effect is not None and design_effect <= 0:
        raise InvalidInput("design_effect", f"{design_effect}; above 0, 1 when pairs are independent")
    limit = math.sqrt(rate * (1 - rate) / (1 if kind == "fnmr" else 2))
    if 0.0 < rate < 1.0 and sd > limit:
        raise InvalidInput("between_subject_sd", f"{sd}; at a rate of {rate} it is at most {limit:.4g}")
    pairs = groups * (groups - 1) // 2
    critical = float(special.ndtri(1 - alpha / pairs / 2))
    per_subject = images * (images - 1) // 2

    def comparisons(subjects: int) -> int:
        return subjects * per_subject if kind == "fnmr" else subjects * (subjects - 1) // 2 * images * images

    def variance(p: float, subjects: int) -> float:
        spread, n = p * (1 - p), comparisons(subjects)
        if design_effect is not None:
            return design_effect * spread / n
        inner = rate * (1 - rate)
        own = (sd * spread / inner) ** 2 if inner else sd**2
        # No more than rates between 0 and 1 allow.
        own = min(own, spread if kind == "fnmr" else spread / 2)
        shared, within = (own, spread - own) if kind == "fnmr" else (4 * own, spread - 2 * own)
        return shared / subjects + within / n

    def reached(subjects: int) -> float:
        if comparisons(subjects) == 0:
            return 0.0
        null = math.sqrt(2 * variance(rate + gap / 2, subjects))
        spread = math.sqrt(variance(rate, subjects) + variance(rate + gap, subjects))
        shift, size = critical * null, abs(gap)
        if spread == 0:
            return 1.0 if size >= shift else 0.0
        return float(special.ndtr((size - shift) / spread) + special.ndtr((-size - shift) / spread))

    found = _smallest(reached, power, 2)
    if found is None:
        raise InvalidInput(
            "gap", f"{gap:g} at a rate of {rate:g} needs more than {MOST_SUBJECTS:,} subjects a group"
        )
    return Requirement(
        subjects=found,
        groups=groups,
        genuine=found * per_subject,
        impostor=found * (found - 1) // 2 * images * images,
        power=reached(found),
        conventions={
            "question": f"{kind.upper()} of {rate:g} against {rate + gap:g} in two of {groups} groups",
            "test": f"two proportions, two-sided, at {alpha:g}"
            + (f" / {pairs} pairs of groups (Holm's first step)" if pairs > 1 else ""),
            "images per subject": str(images),
            "pairs": f"design effect {design_effect:g}"
            if design_effect is not None
            else f"standard deviation of subjects' own rates {sd:g}"
            if sd
            else "taken as independent",
            "power": f"at least {power:g}",
        },
        flags=(
            *_flags(found),
            *(["independent_pairs"] if not sd and design_effect is None else []),
        ),
    )


def _from_evaluation(pilot: VerificationReport, measure: str, gap: float | None, power: float) -> Requirement:
    summary = pilot.summaries[measure]
    if summary.value is None or summary.null_p95 is None:
        raise InvalidInput("pilot", f"{measure} has no value or no null: {', '.join(summary.flags)}")
    size = summary.value if gap is None else gap
    if size <= 0:
        raise InvalidInput("gap", f"{size:g}; a gap to be seen is above 0")
    spread, floor = float(pilot.draws.summaries[measure].std()), summary.null_p95
    have = pilot_of(pilot)

    def reached(subjects: int) -> float:
        scale = math.sqrt(have.subjects / subjects)
        if spread == 0:
            return 1.0 if size >= floor * scale else 0.0
        return float(special.ndtr((size - floor * scale) / (spread * scale)))

    found = _smallest(reached, power, _least(have))
    if found is None:
        raise InvalidInput("gap", f"{size:g} needs more than {MOST_SUBJECTS:,} subjects a group")
    return _requirement(
        have,
        found,
        reached(found),
        {
            "question": f"{summary.formula} of {size:.4g}, called a gap (p < {SIGNIFICANT:g})",
            "power": f"at least {power:g}",
        },
    )


def _from_comparison(
    pilot: ComparisonReport, measure: str, change: float | None, runs: int | None, power: float
) -> Requirement:
    if measure not in pilot.differences:
        raise InvalidInput("pilot", f"{measure} has no value in it")
    seen = pilot.arms[0].values[measure].value
    size = seen / 2 if change is None else abs(change)
    if not 0.0 < size <= seen:
        raise InvalidInput("change", f"{size:g}; above 0 and at most the gap of the arm before, {seen:.4g}")
    have = pilot_of(pilot.arms[0].runs[0])
    simulated = Simulated.of(pilot, measure, size)
    each = min(len(arm.runs) for arm in pilot.arms) if runs is None else runs
    if not 2 <= each <= MOST_RUNS:
        raise InvalidInput("runs", f"{each} per arm; 2–{MOST_RUNS} (one run is not a claim about the method)")

    def reached(subjects: int) -> float:
        return simulated.power(subjects / have.subjects, each)

    found = _smallest(reached, power, _least(have))
    if found is None:
        most = MOST_SUBJECTS / have.subjects
        enough = next((k for k in range(each + 1, MOST_RUNS + 1) if simulated.power(most, k) >= power), None)
        more = f"at least {enough} runs could" if enough else f"nor are {MOST_RUNS} runs"
        raise InvalidInput("runs", f"{each} an arm are not enough with any number of subjects; {more}")
    return _requirement(
        have,
        found,
        reached(found),
        {
            "question": f"{pilot.differences[measure].formula} shrinking by {size:.4g} from {seen:.4g}, "
            "said to be smaller or closed",
            "runs": f"{each} per arm",
            "power": f"at least {power:g} of simulated comparisons, control and null included",
        },
    )


def _least(have: Pilot) -> int:
    """Fewest subjects that a plan may name: below them variances no longer follow the pilot's."""
    per_pair = have.impostor / (have.subjects * (have.subjects - 1) / 2)
    pairs = RULE_OF_30 / (have.target * per_pair) if have.target and per_pair else 0.0
    return max(FEWEST_SUBJECTS, math.ceil(0.5 + math.sqrt(0.25 + 2 * pairs)))


def _requirement(have: Pilot, subjects: int, power: float, conventions: Mapping[str, str]) -> Requirement:
    factor = subjects / have.subjects
    return Requirement(
        subjects=subjects,
        groups=have.groups,
        genuine=round(have.genuine * factor),
        impostor=round(have.impostor * factor * (subjects - 1) / (have.subjects - 1)),
        power=power,
        conventions={
            **conventions,
            "pilot": f"{have.subjects} subjects in its smallest group; variances shrink as subjects grow",
        },
        flags=(*_flags(subjects), *(["fewest_planned"] if subjects == _least(have) else [])),
    )
