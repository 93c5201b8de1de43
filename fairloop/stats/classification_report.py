"""What an evaluation of a classifier returns, and its text, JSON and data frames."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Literal

from fairloop.stats.flags import by_sentence, explain
from fairloop.stats.intervals import Interval
from fairloop.stats.report import Summary, number, rate, table

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class ClassificationRecord:
    """Counts and rates of one group, the positive class against all others.

    Rates are 0–1, intervals 95 %. None where the group lacks the class a rate
    is taken over; `flags` says so.
    """

    group: str
    images: int
    subjects: int | None
    """None when no subjects were given."""
    positives: int
    negatives: int
    true_positives: int
    false_positives: int
    true_negatives: int
    false_negatives: int
    correct: int
    """Predictions equal to the truth, over all classes."""
    accuracy: float
    accuracy_interval: Interval | None
    positive_rate: float
    """Share called positive."""
    positive_rate_interval: Interval | None
    fpr: float | None
    fpr_interval: Interval | None
    tpr: float | None
    tpr_interval: Interval | None
    fnr: float | None
    fnr_interval: Interval | None
    tnr: float | None
    tnr_interval: Interval | None
    balanced_error: float | None
    """1 − (TPR + TNR) / 2."""
    balanced_error_interval: Interval | None
    auc: float | None
    auc_interval: Interval | None
    flags: tuple[str, ...]


@dataclass(frozen=True)
class ClassificationReport:
    """Rates per group, and measures of how unequal they are."""

    positive: str
    classes: tuple[str, ...]
    groups: tuple[ClassificationRecord, ...]
    overall: ClassificationRecord
    """Over all images that have a group."""
    measures: Mapping[str, Summary]
    conventions: Mapping[str, str]
    counts: Mapping[str, int]
    flags: tuple[str, ...]

    def group(self, name: str) -> ClassificationRecord:
        """The record of one group; KeyError for another name."""
        return {record.group: record for record in self.groups}[name]

    def to_dict(self) -> dict[str, Any]:
        """Plain data: what `to_json` writes."""
        plain = {f.name: getattr(self, f.name) for f in fields(self)}
        plain["groups"] = [asdict(record) for record in self.groups]
        plain["overall"] = asdict(self.overall)
        plain["measures"] = {name: asdict(measure) for name, measure in self.measures.items()}
        return {"schema": "fairloop.classification/1", **plain}

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), allow_nan=False)

    def to_pandas(self, what: Literal["groups", "measures"] = "groups") -> pandas.DataFrame:
        """A data frame of the groups or of the measures, one row each (needs pandas)."""
        import pandas

        rows: list[Any] = list(self.groups) if what == "groups" else list(self.measures.values())
        names = [f.name for f in fields(ClassificationRecord if what == "groups" else Summary)]
        return pandas.DataFrame([{name: getattr(row, name) for name in names} for row in rows], columns=names)

    def __str__(self) -> str:
        groups = [list(_HEADER)]
        for g in (*self.groups, self.overall):
            counts = (g.images, g.positives, g.negatives, g.true_positives, g.false_positives)
            groups.append(
                [
                    g.group,
                    *(f"{n:,}" for n in (*counts, g.true_negatives, g.false_negatives)),
                    rate(g.accuracy, g.accuracy_interval),
                    rate(g.positive_rate, g.positive_rate_interval),
                    rate(g.fpr, g.fpr_interval),
                    rate(g.tpr, g.tpr_interval),
                    rate(g.balanced_error, g.balanced_error_interval),
                    rate(g.auc, g.auc_interval),
                ]
            )
        measures = [["measure (0 is fair)", "value (95 %)", "if equal: mean", "95 %", "p"]]
        for m in self.measures.values():
            numbers = [number(m.null_mean), number(m.null_p95), number(m.p_value)]
            measures.append([m.formula, rate(m.value, m.interval), *numbers])
        notes = [f"{key}: {value}" for key, value in self.conventions.items()]
        notes += [f"{g.group}: {explain(flag)}" for g in self.groups for flag in g.flags]
        notes += by_sentence((n, f) for n, s in self.measures.items() for f in s.flags)
        notes += [explain(flag) for flag in self.flags]
        head = f"{self.counts['images']:,} images, positive class {self.positive!r}"
        return "\n".join([head, "", *table(groups), "", *table(measures), "", *notes])


_HEADER = (
    *("group", "images", "pos.", "neg.", "TP", "FP", "TN", "FN"),
    *("accuracy", "called pos.", "FPR", "TPR", "balanced error", "AUC"),
)
