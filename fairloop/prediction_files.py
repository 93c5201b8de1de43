"""A classifier's predictions attribute by attribute: its fairness, and the predictions themselves as files.

The files are those of AI-Face FairnessBench (`genderlabels.npy`,
`genderpredictions.npy`, plain arrays that need no pickle), and one CSV with all
of it.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from fairloop.errors import InvalidInput, PreconditionFailed
from fairloop.exports.safe_names import safe_name
from fairloop.selection import label, label_names
from fairloop.stats import ClassificationReport, classification_fairness

NO_PREDICTION = "no_prediction"
"""What an image without a prediction counts as: a detector that drops some faces must not look fair."""
JOINT = ","
"""Between the attributes of an intersection."""

Groups = Mapping[str, Sequence[str | None]]
"""Attribute, or several joined by commas → the group of each row of a prediction table."""


def groups_of(table: pa.Table, index: pa.Table, attributes: Sequence[str]) -> Groups:
    """The groups that the labels of a dataset's index give to the images of a prediction table.

    An image that lacks a label has no group. Raises `InvalidInput` for an attribute that no image
    carries, and `PreconditionFailed` naming an image that the dataset does not have.
    """
    row_of = {image: row for row, image in enumerate(index["image_id"].to_pylist())}
    images = table["image_id"].to_pylist()
    missing = next((image for image in images if image not in row_of), None)
    if missing is not None:
        raise PreconditionFailed(f"the dataset has no image {missing}, which is among the predictions")
    known = label_names(index)
    columns = {}
    for name in dict.fromkeys(part for attribute in attributes for part in attribute.split(JOINT)):
        if name not in known:
            raise InvalidInput("--by", f"no image carries the label {name!r}; there are {', '.join(known)}")
        values = label(index, name).to_pylist()
        columns[name] = [values[row_of[image]] for image in images]
    found: dict[str, list[str | None]] = {}
    for attribute in attributes:
        rows = zip(*(columns[name] for name in attribute.split(JOINT)), strict=True)
        found[attribute] = [None if None in values else JOINT.join(map(str, values)) for values in rows]
    return found


def file_name(attribute: str) -> str:
    """What the files of an attribute are called: its commas are `-`, and it leads nowhere."""
    return safe_name(attribute.replace(JOINT, "-"))


def fairness(
    table: pa.Table, groups: Groups, positive: str, replicates: int, seed: int = 0
) -> dict[str, ClassificationReport]:
    """The report of each attribute; raises as `fairloop.stats.classification_fairness` does."""
    subjects, scores = table["subject_id"].to_pylist(), table["score"].to_pylist()
    told = [np.nan if score is None else score for score in scores]
    return {
        attribute: classification_fairness(
            table["truth"].to_pylist(),
            [said or NO_PREDICTION for said in table["predicted"].to_pylist()],
            list(of_image),
            scores=told if table["score"].null_count < len(told) else None,
            positive=positive,
            subjects=subjects if any(subjects) else None,
            replicates=replicates,
            seed=seed,
        )
        for attribute, of_image in groups.items()
    }


def prediction_files(table: pa.Table, groups: Groups, positive: str) -> dict[str, bytes]:
    """Name → bytes of `{attribute}labels.npy`, `{attribute}predictions.npy` and `predictions.csv`.

    The arrays have one element per image with a truth and a group, in the table's
    order: int8, 1 for the positive class; float64, the score, or 1 and 0 where the
    classifier gives none, NaN for an image without a prediction. The CSV has all
    images.
    """
    truth, said = table["truth"].to_pylist(), table["predicted"].to_pylist()
    scores = table["score"].to_pylist()
    if table["score"].null_count == len(scores):
        scores = [None if one is None else float(one == positive) for one in said]
    files: dict[str, bytes] = {}
    for attribute, of_image in groups.items():
        used = [row for row, group in enumerate(of_image) if group is not None and truth[row] is not None]
        labels = np.array([truth[row] == positive for row in used], np.int8)
        values = np.array([np.nan if scores[row] is None else scores[row] for row in used], np.float64)
        name = file_name(attribute)
        files |= {f"{name}labels.npy": _array(labels), f"{name}predictions.npy": _array(values)}
    return {**files, "predictions.csv": _csv(table, groups)}


def _array(
    values: np.ndarray[tuple[int], np.dtype[np.int8]] | np.ndarray[tuple[int], np.dtype[np.float64]],
) -> bytes:
    sink = io.BytesIO()
    np.save(sink, values, allow_pickle=False)
    return sink.getvalue()


def _csv(table: pa.Table, groups: Groups) -> bytes:
    sink = io.StringIO(newline="")
    writer = csv.writer(sink, lineterminator="\n")
    writer.writerow([*table.column_names, *groups])
    columns = [table[name].to_pylist() for name in table.column_names]
    writer.writerows(zip(*columns, *groups.values(), strict=True))
    return sink.getvalue().encode()
