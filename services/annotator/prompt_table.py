"""A folder of folders of pictures in the columns of the bias-mitigation audit (reference system S3).

`prompt,path,gender,age,race`: the prompt is the name of the subfolder; gender and
age are those of Levi & Hassner's networks, race is deepface's, all of one face,
the largest. `--` stands where there is no face. Pictures with the box and the
labels drawn into them are written on request, in the shape of the originals.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from fairloop.errors import InvalidInput
from fairloop.tables import Guess
from fairloop.taxonomy import vocabulary
from services.annotator.describe import Seen, look
from services.annotator.detectors import FaceDetector
from services.annotator.face import Annotator
from services.annotator.folder_images import TOP, group_of, list_images, read_image
from services.annotator.images import decode
from services.annotator.resumable_csv import ResumableCsv

COLUMNS = ("prompt", "path", "gender", "age", "race")
NOTHING = "--"
BOX = (0, 255, 0)


@dataclass(frozen=True)
class Audited:
    """Pictures of this run, those that are there from before, and how many of this run have no face."""

    images: int
    before: int
    without: int


def audit_prompts(
    root: Path,
    table: Path,
    detector: FaceDetector,
    adience: Annotator,
    deepface: Annotator,
    drawn: Path | None = None,
) -> Iterator[Audited]:
    """Describes the pictures in the subfolders of `root` that the table lacks; yields after each.

    With `drawn`, each picture with a face is written there too, under its own
    path with `.png` behind it where it is no PNG. Raises `InvalidInput` when there
    is no picture in a subfolder, or when `drawn` lies in `root`: the next run would
    take what is drawn for pictures of a prompt.
    """
    if drawn is not None and drawn.resolve().is_relative_to(root.resolve()):
        raise InvalidInput("drawn", f"{drawn} lies in {root}, the folder of pictures; name one beside it")
    listing = list_images(root)
    paths = [path for path in listing.images if group_of(path) != TOP]
    if not paths:
        raise InvalidInput(
            "folder", f"{root} has pictures, but none in a subfolder; each subfolder is a prompt"
        )
    with ResumableCsv(table, COLUMNS, "path") as rows:
        before, images, without = len(rows.done), 0, 0
        for path in paths:
            name = str(root / path)
            if name in rows.done:
                continue
            data = read_image(root / path)
            seen = look(data, detector)
            row = _row(seen, adience, deepface)
            if drawn is not None and seen.looked and isinstance(data, bytes):
                _draw(
                    decode(data),
                    seen,
                    f"{row['gender']},{row['age']}",
                    drawn / (path if path.lower().endswith(".png") else f"{path}.png"),
                )
            rows.add([{"prompt": group_of(path), "path": name, **row}])
            images, without = images + 1, without + (not seen.looked)
            yield Audited(images, before, without)


def _row(seen: Seen, adience: Annotator, deepface: Annotator) -> dict[str, str]:
    """gender, age and race of the one face, in the sources' own words."""
    if not seen.looked:
        return dict.fromkeys(("gender", "age", "race"), NOTHING)
    (first,), (second,) = adience.annotate(seen.faces), deepface.annotate(seen.faces)
    return {
        "gender": _word("adience", "gender", first["gender"]),
        "age": _word("adience", "age_adience", first["age_adience"]),
        "race": _word("deepface", "race6", second["race6"]),
    }


def _word(source: str, attribute: str, guess: Guess) -> str:
    words = vocabulary(source, attribute)
    return words.labels[words.values.index(guess.label)] if guess.label else NOTHING


def _draw(pixels: NDArray[np.uint8], seen: Seen, text: str, path: Path) -> None:
    """Writes the picture with its box and labels; the box is cut off at the border."""
    image = Image.fromarray(pixels)
    left, top, right, bottom = seen.looked[0].detection.box
    edges = (max(left, 0), max(top, 0), min(right, image.width) - 1, min(bottom, image.height) - 1)
    pen = ImageDraw.Draw(image)
    width = max(1, round(max(image.size) / 200))
    if edges[2] > edges[0] and edges[3] > edges[1]:
        pen.rectangle(edges, outline=BOX, width=width)
    size = max(10, image.height // 25)
    pen.text((edges[0], max(edges[1] - 1.2 * size, 0)), text, fill=BOX, font_size=size)
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.part")
    image.save(scratch, "PNG")
    os.replace(scratch, path)
