"""The index of exported images as a CSV: one row per image with all facts and labels."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from fairloop.dataset import INDEX, PLACE
from fairloop.exports.journal import Growing
from fairloop.selection import label_names, own_subject

FIRST = ("file", "subject")
"""Path below the folder; the person without the namespace, as an import takes it."""
FACTS = tuple(name for name in INDEX.names if name not in PLACE | {"labels"})


def label_columns(index: pa.Table, taken: tuple[str, ...]) -> dict[str, str]:
    """Label → its column: its own name, or `label_{name}` where that is taken (`file` is)."""
    return {name: f"label_{name}" if name in taken else name for name in label_names(index)}


class IndexCsv:
    """Writes `file, subject, image_id, …, labels` row by row (UTF-8, commas, `\\n`)."""

    def __init__(self, file: Growing, index: pa.Table) -> None:
        self._labels = label_columns(index, (*FIRST, *FACTS))
        self._writer = csv.writer(file, lineterminator="\n")
        if not file.length:
            self._writer.writerow([*FIRST, *FACTS, *self._labels.values()])

    def add(self, file: str, row: Mapping[str, Any]) -> None:
        labels = dict(row["labels"] or ())
        facts = {**row, "parents": " ".join(row["parents"] or ())}
        self._writer.writerow(
            [
                file,
                own_subject(row["subject_id"]),
                *(facts[name] for name in FACTS),
                *(labels.get(name) for name in self._labels),
            ]
        )
