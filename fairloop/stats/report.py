"""What an evaluation returns: records, summaries, and their text, JSON and data frames."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal

from fairloop.stats.flags import by_sentence, explain
from fairloop.stats.intervals import Interval
from fairloop.stats.measure import Floats
from fairloop.stats.resampling import ImpostorCounts

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class GroupRecord:
    """Error rates of one group. None where the group has no such comparison; `flags` says so.

    Rates are 0–1, intervals 95 %, thresholds cosine similarities.
    """

    group: str
    subjects: int
    images: int
    """All images of the group, failed ones and those without a subject included."""
    genuine: int
    """Genuine comparisons that have a score."""
    impostor: int
    """Impostor comparisons that have a score."""
    false_matches: int
    false_non_matches: int
    fmr: float | None
    fmr_interval: Interval | None
    fnmr: float | None
    fnmr_interval: Interval | None
    own_threshold: float | None
    """Smallest threshold at which this group's own FMR is at most the target."""
    fnmr_at_own_threshold: float | None
    fta: float
    """Failure to acquire: failed images / images."""
    flags: tuple[str, ...]
    fnmr_at_own_threshold_interval: Interval | None
    """The threshold is re-chosen in every replicate."""
    generalised_fmr: float | None
    """Impostor pairs with a failed image count as correct rejections."""
    generalised_fnmr: float | None
    """Genuine pairs with a failed image count as non-matches."""
    fmr_null_interval: Interval | None
    """Where 95 % of this group's FMR would lie if all groups had the pooled rate."""
    fnmr_null_interval: Interval | None
    fnmr_at_own_threshold_null_interval: Interval | None
    fmr_interval_rechosen: Interval | None = None
    """With the common threshold re-chosen in every replicate; None unless asked for beside the fixed one."""
    fnmr_interval_rechosen: Interval | None = None


@dataclass(frozen=True)
class Summary:
    """One summary beside what it would be if all groups had the pooled rate.

    `null_p95` is the value that 5 % of equal worlds exceed in the unfair
    direction. `value` is None where the formula has none; the reason is a flag
    and `value_under_zero_policy` stands beside it.
    """

    name: str
    formula: str
    fair: float
    value: float | None
    interval: Interval | None
    null_mean: float | None
    null_p95: float | None
    p_value: float | None
    flags: tuple[str, ...]
    value_under_zero_policy: float | None = None
    conventions: Mapping[str, str] = field(default_factory=dict)
    interval_rechosen: Interval | None = None
    """With the common threshold re-chosen in every replicate, where that was asked for beside."""


@dataclass(frozen=True)
class Draws:
    """Replicates behind a report, for paired comparisons and plots; not part of its JSON.

    `rates[kind]` is (replicates, groups of `columns[kind]`); `summaries` and
    `null` hold (replicates,) per summary, NaN-free.
    """

    rates: Mapping[str, Floats]
    columns: Mapping[str, tuple[str, ...]]
    summaries: Mapping[str, Floats]
    null: Mapping[str, Floats]
    impostor: Mapping[str, ImpostorCounts]
    """Errors at the common threshold by pair of subjects, which say how a difference varies; empty
    where subjects are unknown, and where replicates move that threshold."""


@dataclass(frozen=True)
class VerificationReport:
    """Error rates per group at one threshold, and how unequal they are."""

    threshold: float
    groups: tuple[GroupRecord, ...]
    summaries: Mapping[str, Summary]
    target_fmr: float
    """FMR at which the groups' own thresholds are taken."""
    fmr: float
    """Achieved over all impostor comparisons."""
    fnmr: float | None
    """Over all genuine comparisons."""
    conventions: Mapping[str, str]
    counts: Mapping[str, int]
    flags: tuple[str, ...]
    draws: Draws = field(repr=False, compare=False)

    @property
    def worst(self) -> dict[str, tuple[str, ...]]:
        """The groups with the highest rate of each kind that any group has; several when they tie."""
        found = {}
        for kind in ("fmr", "fnmr", "fnmr_at_own_threshold"):
            rates = {g.group: rate for g in self.groups if (rate := getattr(g, kind)) is not None}
            if rates:
                found[kind] = tuple(name for name, rate in rates.items() if rate == max(rates.values()))
        return found

    def group(self, name: str) -> GroupRecord:
        """The record of one group; KeyError for another name."""
        return {record.group: record for record in self.groups}[name]

    def to_dict(self) -> dict[str, Any]:
        """Plain data: what `to_json` writes."""
        return {
            "schema": "fairloop.verification/1",
            "threshold": self.threshold,
            "target_fmr": self.target_fmr,
            "fmr": self.fmr,
            "fnmr": self.fnmr,
            "groups": [asdict(record) for record in self.groups],
            "summaries": {name: asdict(summary) for name, summary in self.summaries.items()},
            "conventions": dict(self.conventions),
            "counts": dict(self.counts),
            "flags": list(self.flags),
            "worst": {kind: list(names) for kind, names in self.worst.items()},
        }

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), allow_nan=False)

    def to_pandas(self, what: Literal["groups", "summaries"] = "groups") -> pandas.DataFrame:
        """A data frame of the groups or of the summaries, one row each (needs pandas)."""
        import pandas

        rows: list[Any] = list(self.groups) if what == "groups" else list(self.summaries.values())
        names = [f.name for f in fields(GroupRecord if what == "groups" else Summary)]
        return pandas.DataFrame([{name: getattr(row, name) for name in names} for row in rows], columns=names)

    def __str__(self) -> str:
        groups = [list(_GROUP_HEADER)]
        for g in self.groups:
            counts = (g.images, g.genuine, g.impostor, g.false_matches, g.false_non_matches)
            groups.append(
                [
                    g.group,
                    "?" if "no_subject_ids" in self.flags else f"{g.subjects:,}",
                    *(f"{n:,}" for n in counts),
                    rate(g.fmr, g.fmr_interval),
                    rate(g.fnmr, g.fnmr_interval),
                    number(g.own_threshold),
                    rate(g.fnmr_at_own_threshold, g.fnmr_at_own_threshold_interval),
                    f"{g.fta:.1%}",
                ]
            )
        summaries = [["summary", "value (95 %)", "if equal: mean", "95 %", "p", "fair"]]
        for s in self.summaries.values():
            numbers = [number(s.null_mean), number(s.null_p95), number(s.p_value)]
            value = rate(s.value, s.interval)
            if s.value_under_zero_policy is not None:
                value = f"undefined; {rate(s.value_under_zero_policy, s.interval)} with zeros replaced"
            summaries.append([s.formula, value, *numbers, f"{s.fair:g}"])
        notes = by_sentence([(r.group, flag) for r in self.groups for flag in r.flags])
        notes += by_sentence([(s.formula, flag) for s in self.summaries.values() for flag in s.flags])
        notes += [explain(flag) for flag in self.flags]
        head = (
            f"threshold {self.threshold:.6g}, FMR {self.fmr:.4g} over all, FNMR {number(self.fnmr)} over all"
        )
        says = [f"worst {kind.replace('_', ' ')}: {', '.join(names)}" for kind, names in self.worst.items()]
        says += [f"{key}: {value}" for key, value in self.conventions.items()]
        return "\n".join([head, "", *table(groups), "", *table(summaries), "", *says, *notes])


_GROUP_HEADER = (
    *("group", "subjects", "images", "genuine", "impostor", "FM", "FNM"),
    *("FMR", "FNMR", "own τ", "FNMR at own τ", "FTA"),
)


def significant(value: float, digits: int = 3) -> str:
    """`value` rounded to so many significant digits, without an exponent from 0.0001 to a million."""
    if value == 0:
        return "0"
    # The exponent after rounding: 9.996 is 10.0, not 10.00.
    size = int(f"{value:.{digits - 1}e}".partition("e")[2])
    if not -4 <= size < 6:
        return f"{value:.{digits - 1}e}"
    return f"{value:.{max(0, digits - 1 - size)}f}"


def number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"


def rate(value: float | None, interval: Interval | None) -> str:
    if value is None:
        return "–"
    return f"{value:.4g}" + (f" [{interval[0]:.3g}, {interval[1]:.3g}]" if interval else "")


def table(rows: list[list[str]]) -> list[str]:
    """Rows as lines: first column left, the others right, header underlined."""
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    lines = [
        "  ".join(
            text.ljust(w) if k == 0 else text.rjust(w)
            for k, (text, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    return [lines[0], "  ".join("─" * w for w in widths), *lines[1:]]
