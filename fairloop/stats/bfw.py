"""The BFW protocol: error rates of every subgroup at one global threshold, and at thresholds of its own.

Robinson et al. 2020: at one threshold for all, subgroups (gender × race) run at
false match rates far from the one that was intended; thresholds per subgroup
bring them to it. Both kinds are chosen on the other folds of the list, whose
people are others, so neither is judged on what it was fitted to.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fairloop.errors import InvalidInput
from fairloop.stats.compare import compare_reports
from fairloop.stats.comparison import ComparisonReport
from fairloop.stats.curves import allowed_errors
from fairloop.stats.evaluation import Options
from fairloop.stats.flags import explain
from fairloop.stats.intervals import Interval
from fairloop.stats.lfw import FoldLabels, fold_codes
from fairloop.stats.pair_list import PairGroups, PairScores, pair_list
from fairloop.stats.pairs import evaluate_pairs
from fairloop.stats.report import GroupRecord, VerificationReport, number, rate, table
from fairloop.stats.roster import Labels

TARGETS = (1e-3, 1e-1, 1e-2, 1e-4)
"""False match rates of the published tables; the first is that of the report's own tables."""
ARMS = ("global threshold", "threshold of each subgroup")
MEASURE = "garbe"
SCHEMA = "fairloop.bfw/1"


@dataclass(frozen=True)
class OperatingPoint:
    """One subgroup at one intended FMR: at the global threshold, and at its own. Rates 0–1."""

    target_fmr: float
    group: str
    genuine: int
    impostor: int
    fmr: float | None
    fmr_interval: Interval | None
    off_target: float | None
    """(FMR − intended) / intended at the global threshold: 0 as intended, 1 twice as high."""
    fnmr: float | None
    fnmr_interval: Interval | None
    own_fmr: float | None
    own_fmr_interval: Interval | None
    own_off_target: float | None
    own_fnmr: float | None
    own_fnmr_interval: Interval | None


@dataclass(frozen=True)
class BfwReport:
    """Every subgroup at every intended FMR, and both policies at the first of them in full."""

    points: tuple[OperatingPoint, ...]
    common: VerificationReport
    """At the global threshold, at the first target."""
    own: VerificationReport
    """At each subgroup's own threshold there."""
    comparison: ComparisonReport | None
    """Own minus global, paired; None without subject ids."""
    targets: tuple[float, ...]
    conventions: Mapping[str, str]
    flags: tuple[str, ...]
    arms: tuple[str, str] = field(default=ARMS)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        return {
            "schema": SCHEMA,
            "targets": list(self.targets),
            "points": [asdict(point) for point in self.points],
            "reports": {
                name: report.to_dict()
                for name, report in zip(self.arms, (self.common, self.own), strict=True)
            },
            "comparison": None if self.comparison is None else self.comparison.to_dict(),
            "conventions": dict(self.conventions),
            "flags": list(self.flags),
        }

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), allow_nan=False)

    def __str__(self) -> str:
        head = ["intended FMR", "subgroup", "FMR global (95 %)", "off", "FNMR global", "FMR own", "FNMR own"]
        rows = [head]
        for p in self.points:
            off = "–" if p.off_target is None else f"{100 * p.off_target:+.0f} %"
            own = (rate(p.own_fmr, p.own_fmr_interval), rate(p.own_fnmr, p.own_fnmr_interval))
            both = (rate(p.fmr, p.fmr_interval), off, rate(p.fnmr, p.fnmr_interval), *own)
            rows.append([number(p.target_fmr), p.group, *both])
        notes = [f"{key}: {value}" for key, value in self.conventions.items()]
        lines = ["\n".join(table(rows)), "", *notes, *(explain(flag) for flag in self.flags)]
        if self.comparison is not None:
            lines += ["", str(self.comparison)]
        return "\n".join(lines)


def bfw_protocol(
    scores: PairScores,
    genuine: Sequence[bool] | NDArray[Any],
    groups: PairGroups,
    folds: FoldLabels,
    *,
    subjects: tuple[Labels, Labels] | None = None,
    targets: Sequence[float] = TARGETS,
    failures: Sequence[bool] | NDArray[np.bool_] | None = None,
    alpha: float = 0.5,
    replicates: int = 1000,
    seed: int = 0,
) -> BfwReport:
    """FMR and FNMR per subgroup at a global threshold and at its own, at every target FMR.

    Inputs as in `evaluate_pairs`; `folds` is one label per pair. Impostor pairs across
    subgroups are left out and counted. A target at which some subgroup has fewer
    than 1/FMR impostor pairs outside a fold is left out with the flag
    `fmr_undefined`, the first one of `targets` is then an error.

    Raises
    ------
    InvalidInput naming the field: what `evaluate_pairs` refuses; no target, or one
    outside 0–1 or named twice.
    """
    wanted = [float(target) for target in targets]
    if not wanted or len(set(wanted)) < len(wanted):
        raise InvalidInput("targets", "needs at least one false match rate, each once")
    for target in wanted:
        if not 0.0 < target < 1.0:
            raise InvalidInput("targets", f"{target} is outside 0–1, both excluded")
    fewest = _fewest(scores, genuine, groups, folds, subjects, failures)
    possible = [t for k, t in enumerate(wanted) if k == 0 or allowed_errors(t, fewest) >= 1]
    options = Options(alpha, replicates, seed=seed)
    shared: dict[str, Any] = {
        "subjects": subjects,
        "failures": failures,
        "folds": folds,
        "alpha": alpha,
        "replicates": replicates,
        "seed": seed,
    }
    both = [
        (
            evaluate_pairs(scores, genuine, groups, fmr=target, **shared),
            evaluate_pairs(scores, genuine, groups, fmr=target, fold_thresholds="per_group", **shared),
        )
        for target in possible
    ]
    common, own = both[0]
    comparison = None
    if subjects is not None and len(common.groups) > 1:
        comparison = compare_reports([common], [own], measure=MEASURE, names=ARMS, seed=seed)
    points = [
        _point(target, first, second)
        for target, pair in zip(possible, both, strict=True)
        for first, second in zip(pair[0].groups, pair[1].groups, strict=True)
    ]
    return BfwReport(
        points=tuple(points),
        common=common,
        own=own,
        comparison=comparison,
        targets=tuple(possible),
        conventions={
            "protocol": "BFW: global thresholds and thresholds per subgroup, both chosen on the other folds",
            "global threshold": f"smallest with FMR ≤ {common.target_fmr:g} over the listed impostor pairs "
            "of all subgroups",
            "own thresholds": f"smallest with FMR ≤ {common.target_fmr:g} over the subgroup's",
            "off": "achieved FMR over the intended one, minus 1, at the global threshold",
            **options.conventions(independent=subjects is None),
        },
        flags=(
            *common.flags,
            *(f"fmr_undefined:{number(target)}" for target in wanted if target not in possible),
        ),
    )


def _fewest(
    scores: PairScores,
    genuine: Sequence[bool] | NDArray[Any],
    groups: PairGroups,
    folds: FoldLabels,
    subjects: tuple[Labels, Labels] | None,
    failures: Sequence[bool] | NDArray[np.bool_] | None,
) -> int:
    """The smallest number of impostor pairs that any subgroup has outside any fold."""
    pairs = pair_list(scores, genuine, groups, subjects, failures)
    names, codes = fold_codes(folds, pairs.score.size)
    used = pairs.compared("within_group") & ~pairs.failed & ~pairs.genuine
    sizes = [
        int((used & (pairs.first_group == group) & (codes != fold)).sum())
        for group in range(len(pairs.people.group_names))
        for fold in range(len(names))
        if (used & (pairs.first_group == group)).any()
    ]
    return min(sizes, default=0)


def _point(target: float, common: GroupRecord, own: GroupRecord) -> OperatingPoint:
    return OperatingPoint(
        target_fmr=target,
        group=common.group,
        genuine=common.genuine,
        impostor=common.impostor,
        fmr=common.fmr,
        fmr_interval=common.fmr_interval,
        off_target=None if common.fmr is None else common.fmr / target - 1.0,
        fnmr=common.fnmr,
        fnmr_interval=common.fnmr_interval,
        own_fmr=own.fmr,
        own_fmr_interval=own.fmr_interval,
        own_off_target=None if own.fmr is None else own.fmr / target - 1.0,
        own_fnmr=own.fnmr,
        own_fnmr_interval=own.fnmr_interval,
    )
