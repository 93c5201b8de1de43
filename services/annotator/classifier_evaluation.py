"""How a classifier is judged: overall, by group, by intersection, and on worse pictures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fairloop.spool import Spool
from fairloop.stats.classification import classification_fairness
from fairloop.stats.classification_report import ClassificationReport
from fairloop.stats.confusion import ALL, confusion_tables
from fairloop.stats.roster import intersection
from services.annotator.classifier_changes import CHANGES, changed

SCHEMA = "fairloop.classifier_evaluation/1"
REPLICATES = 1_000
FEWER_REPLICATES = 200
"""Where the same rates come for every level of every change."""
BATCH = 32

Groups = Mapping[str, Sequence[str | None]]


@dataclass(frozen=True)
class Judged:
    """The images that judge: what each is, who is on it, in which groups it is.

    `probabilities` float64 (N, classes) of the images as they are.
    """

    attribute: str
    classes: tuple[str, ...]
    truth: Sequence[str]
    probabilities: NDArray[np.float64]
    subjects: Sequence[str | None]
    groups: Groups
    seed: int

    @property
    def predicted(self) -> list[str]:
        """The class of each image with the highest probability, the first on a tie."""
        return self.called(self.probabilities)

    @property
    def positive(self) -> str:
        """The class that rates are about: the second of two, else the commonest."""
        if len(self.classes) == 2 and self.classes[1] in self.truth:
            return self.classes[1]
        return Counter(self.truth).most_common(1)[0][0]

    @property
    def scores(self) -> NDArray[np.float64]:
        """The probability of `positive`, (N,)."""
        return self.probabilities[:, self.classes.index(self.positive)]

    def called(self, answers: NDArray[Any]) -> list[str]:
        """The class of each image's largest answer, the first on a tie."""
        return [self.classes[place] for place in answers.argmax(axis=1)]

    def groupings(self) -> dict[str, Sequence[str | None]]:
        """All images, each attribute, and their intersection, by the names that confusion tables have."""
        found: dict[str, Sequence[str | None]] = {"": [ALL] * len(self.truth), **self.groups}
        if len(self.groups) > 1:
            found[" × ".join(self.groups)] = intersection(self.groups)
        return {name: labels for name, labels in found.items() if any(labels)}

    def reports(
        self, predicted: Sequence[str], replicates: int, **more: Any
    ) -> dict[str, ClassificationReport]:
        """Rates and their inequality, of each grouping."""
        return {
            name: classification_fairness(
                self.truth,
                predicted,
                labels,
                positive=self.positive,
                subjects=self.subjects if any(self.subjects) else None,
                replicates=replicates,
                seed=self.seed,
                **more,
            )
            for name, labels in self.groupings().items()
        }


def evaluation(judged: Judged) -> dict[str, Any]:
    """What `evaluation.json` holds: plain data.

    `tables` has the confusion matrix of all images, of each group and of each
    intersection, rows true, columns predicted, both in the order of `classes`;
    accuracy with its 95 % interval, over subjects where they are known; the
    recall of each class, and how many images are called each class. `fairness`
    has the report of `fairloop.stats.classification` for each grouping.
    """
    reports = judged.reports(judged.predicted, REPLICATES, scores=judged.scores)
    tables = []
    for table in confusion_tables(judged.truth, judged.predicted, judged.classes, judged.groups):
        record = reports[table.grouping].group(table.group)
        tables.append(
            {
                "grouping": table.grouping,
                "group": table.group,
                "images": table.images,
                "accuracy": table.accuracy,
                "accuracy_interval": record.accuracy_interval,
                "recall": dict(zip(judged.classes, table.recall, strict=True)),
                "called": dict(zip(judged.classes, table.called, strict=True)),
                "confusion": [list(row) for row in table.counts],
            }
        )
    return {
        "schema": SCHEMA,
        "attribute": judged.attribute,
        "classes": list(judged.classes),
        "axes": {"rows": "true", "columns": "predicted"},
        "images": len(judged.truth),
        "positive": judged.positive,
        "tables": tables,
        "fairness": {name: report.to_dict() for name, report in reports.items() if name},
    }


def robustness(
    judged: Judged,
    chips: Spool,
    answers: Callable[[NDArray[np.uint8]], NDArray[np.float32]],
    names: Sequence[str],
    tell: Callable[[int, int], None] = lambda done, total: None,
) -> list[dict[str, Any]]:
    """Accuracy of each group under each level of each change of `classifier_changes.CHANGES`.

    `chips` holds what the network is shown of each image, `answers` are its
    logits (N, classes). Level None, the first, is the image as it is. `gap` is
    the highest accuracy of a group less the lowest, None where there is one
    group. The same seed gives the same numbers.
    """
    steps = [
        ("", None),
        *((name, level) for name in CHANGES if name in names for level in CHANGES[name].levels),
    ]
    found = []
    for number, (name, level) in enumerate(steps):
        tell(number, len(steps))
        rows = []
        for start in range(0, len(chips), BATCH):
            images = chips(np.arange(start, min(start + BATCH, len(chips))))
            if level is not None:
                images = changed(images, name, level, judged.seed, start)
            rows.append(answers(images))
        found.append(_step(judged, judged.called(np.concatenate(rows)), name, level))
    return found


def _step(judged: Judged, predicted: Sequence[str], name: str, level: float | None) -> dict[str, Any]:
    groupings = []
    for grouping, report in judged.reports(predicted, FEWER_REPLICATES).items():
        shares = [record.accuracy for record in report.groups]
        groupings.append(
            {
                "grouping": grouping,
                "gap": max(shares) - min(shares) if len(shares) > 1 else None,
                "groups": [
                    {
                        "group": record.group,
                        "images": record.images,
                        "accuracy": record.accuracy,
                        "accuracy_interval": record.accuracy_interval,
                    }
                    for record in report.groups
                ],
            }
        )
    return {
        "change": name,
        "what": CHANGES[name].what if name else "as it is",
        "level": level,
        "groupings": groupings,
    }
