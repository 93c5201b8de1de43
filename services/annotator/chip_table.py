"""Faces of a list of images as FairFace's `predict.py` and Fairface-Activations leave them.

In: a CSV file with a column `img_path`. Out, in one folder: `detected_faces/` with
a chip for each face, `test_outputs.csv` with a row for each chip, and
`report.csv` with a row for each image, those without a face included. Scores and
boxes are JSON; the box is in pixels of the original image, and belongs to its
chip by name, not by order.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fairloop.errors import InvalidInput, NotFound
from fairloop.tables import Guess
from fairloop.taxonomy import values, vocabulary
from services.annotator import fairface_alignment
from services.annotator.chip_activations import ChipActivations
from services.annotator.describe import look
from services.annotator.detectors import FaceDetector
from services.annotator.fairface import SOURCE, FairFace
from services.annotator.folder_images import read_image
from services.annotator.resumable_csv import LONGEST_QUOTE, ResumableCsv

FACES = "detected_faces"
OUTPUTS = "test_outputs.csv"
REPORT = "report.csv"
COLUMNS = (
    "face_name_align",
    "race",
    "race4",
    "gender",
    "age",
    "race_scores_fair",
    "race_scores_fair_4",
    "gender_scores_fair",
    "age_scores_fair",
    "bbox",
    "img_path",
)
REPORT_COLUMNS = ("img_path", "status", "faces")
SCORES = {
    "race": "race_scores_fair",
    "race4": "race_scores_fair_4",
    "gender": "gender_scores_fair",
    "age": "age_scores_fair",
}
# A path of 100 characters for each of five million images.
LARGEST_TABLE = 512 << 20
# What Pillow writes a chip as, by the ending of the image it comes from.
FORMATS = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".bmp": "BMP", ".webp": "WEBP"}


@dataclass(frozen=True)
class Described:
    """How many images were described by this run, and how many before it; faces of this run."""

    images: int
    before: int
    faces: int
    without: int


def image_paths(table: Path) -> list[str]:
    """The column `img_path` of a CSV file, each path once, in order.

    Raises `NotFound` without the file and `InvalidInput` without the column or a path,
    or where the file is none of CSV.
    """
    if not table.is_file():
        raise NotFound(f"there is no file {table}")
    if table.stat().st_size > LARGEST_TABLE:
        raise InvalidInput(str(table), f"has more than {LARGEST_TABLE >> 20} MB; divide it")
    with table.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        reader = csv.DictReader(file)
        try:
            columns = ", ".join(reader.fieldnames or ["none"])[:LONGEST_QUOTE]
            if "img_path" not in (reader.fieldnames or ()):
                raise InvalidInput(str(table), f"has the columns {columns}; img_path is needed")
            found = dict.fromkeys(row["img_path"] for row in reader if row["img_path"])
        except csv.Error as error:
            raise InvalidInput(
                str(table), f"line {reader.reader.line_num} is none of a CSV file ({error})"
            ) from error
    if not found:
        raise InvalidInput(str(table), "has no path in its column img_path")
    return list(found)


def describe_list(
    paths: Sequence[str],
    output: Path,
    detector: FaceDetector,
    annotators: Sequence[FairFace],
    padding: float = fairface_alignment.PADDING,
    layer: str = "",
) -> Iterator[Described]:
    """Describes the images that the folder's report lacks; yields after each, with the counts so far.

    With `layer`, also writes what the units of this layer of the first annotator
    answer to each chip (`services.annotator.chip_activations`).
    """
    (output / FACES).mkdir(parents=True, exist_ok=True)
    with (
        ResumableCsv(output / REPORT, REPORT_COLUMNS, "img_path") as report,
        ResumableCsv(output / OUTPUTS, COLUMNS, "img_path", report.done) as outputs,
        _activations(output, annotators[0], layer) as activations,
    ):
        before, images, faces, without = len(report.done), 0, 0, 0
        # Chips of earlier runs keep their names, whatever the list has become since.
        stems = chip_stems(list(dict.fromkeys([*report.done, *paths])))
        for path in paths:
            if path in report.done:
                continue
            picture = read_image(Path(path))
            seen = look(picture, detector, policy="all")
            if seen.looked:
                chips = fairface_alignment.chips(seen.faces, padding)
                with activations.watching() if activations else nullcontext() as answers:
                    rows = _rows(chips, annotators)
                for index, (chip, row, one) in enumerate(zip(chips, rows, seen.looked, strict=True)):
                    name = f"{stems[path]}_face{index}{_ending(path)}"
                    _save(chip, output / FACES / name)
                    box = [round(edge, 2) for edge in one.detection.box]
                    row |= {"face_name_align": f"{FACES}/{name}", "bbox": json.dumps(box), "img_path": path}
                outputs.add(rows)
                if activations and answers is not None:
                    activations.add([row["face_name_align"] for row in rows], answers)
            report.add([{"img_path": path, "status": seen.status, "faces": len(seen.looked)}])
            images, faces = images + 1, faces + len(seen.looked)
            without += not seen.looked
            yield Described(images, before, faces, without)


def _activations(
    output: Path, annotator: FairFace, layer: str
) -> ChipActivations | AbstractContextManager[None]:
    """The file of activations, for the chips of the rows that the folder has; nothing without a layer."""
    if not layer:
        return nullcontext()
    with (output / OUTPUTS).open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        chips = [row["face_name_align"] for row in csv.DictReader(file)]
    return ChipActivations(output, annotator, layer, chips)


def chip_stems(paths: Sequence[str]) -> dict[str, str]:
    """The beginning of each image's chip names: its file name without the ending, dots and all.

    Two images of one name get `-2`, `-3`…, in order, whatever their folders and endings.
    """
    stems: dict[str, str] = {}
    used: set[str] = set()
    for path in paths:
        stem = Path(path).stem.replace("\x00", "") or "image"
        found, count = stem, 1
        while found in used:
            count += 1
            found = f"{stem}-{count}"
        used.add(found)
        stems[path] = found
    return stems


def _rows(chips: Sequence[NDArray[np.uint8]], annotators: Sequence[FairFace]) -> list[dict[str, str]]:
    answers: list[dict[str, Guess]] = [{} for _ in chips]
    for annotator in annotators:
        for merged, answer in zip(answers, annotator.describe(chips), strict=True):
            merged.update(answer)
    return [_row(answer) for answer in answers]


def _row(answer: Mapping[str, Guess]) -> dict[str, str]:
    """Labels in FairFace's words and scores in its order, both as its own file has them."""
    row = {}
    for attribute, column in SCORES.items():
        guess, source = answer[attribute], vocabulary(SOURCE, attribute)
        named = dict(zip(values(attribute), guess.probabilities, strict=True))
        row[attribute] = source.labels[source.values.index(str(guess.label))]
        row[column] = json.dumps([named[value] for value in source.values])
    return row


def _ending(path: str) -> str:
    ending = Path(path).suffix
    return ending if ending.lower() in FORMATS else ".png"


def _save(chip: NDArray[np.uint8], path: Path) -> None:
    scratch = path.with_name(f".{path.name}.part")
    Image.fromarray(chip).save(scratch, FORMATS[path.suffix.lower()], quality=95)
    os.replace(scratch, path)
