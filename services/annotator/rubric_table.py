"""Zero-shot labels of a folder of pictures in the columns of the FairFace Generator (reference system S1).

Its `annotate_generated_clip` left out the probabilities of the skin tones; they
follow its own columns here. Whole pictures are looked at, without a detector.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from fairloop.tables import Guess
from fairloop.taxonomy import values
from services.annotator.clip import ClipS1
from services.annotator.folder_images import list_images, read_batches, readable
from services.annotator.images import UnreadableImage, decode
from services.annotator.resumable_csv import ResumableCsv

COLUMNS = (
    "Image Path",
    "GenderPrompt",
    "GenderIdx",
    "GenderProb_man",
    "GenderProb_woman",
    "SkinPrompt",
    "SkinTonePred",
    *(f"SkinProb_{tone}" for tone in range(1, 11)),
)


@dataclass(frozen=True)
class Labelled:
    """Pictures that this run labelled, and those that are there from before; which could not be read."""

    images: int
    before: int
    unreadable: tuple[tuple[str, str], ...]


def label_folder(folder: Path, table: Path, annotator: ClipS1) -> Iterator[Labelled]:
    """Labels the pictures below a folder that the table lacks; yields after each batch.

    Raises `InvalidInput` when the folder holds no picture. One that cannot be
    read has no row; it is listed with its reason.
    """
    listing = list_images(folder)
    with ResumableCsv(table, COLUMNS, "Image Path") as rows:
        before, images = len(rows.done), 0
        unreadable: list[tuple[str, str]] = []
        for batch in read_batches(listing):
            pixels = {}
            for one in batch:
                name = str(listing.root / one.path)
                if name in rows.done:
                    continue
                try:
                    if isinstance(one.picture, UnreadableImage):
                        raise one.picture
                    pixels[name] = decode(one.picture)
                except UnreadableImage as error:
                    unreadable.append((readable(one.path), error.violations[0].description))
            if pixels:
                answers = annotator.describe(list(pixels.values()))
                rows.add(
                    [_row(name, answer, annotator) for name, answer in zip(pixels, answers, strict=True)]
                )
            images += len(pixels)
            yield Labelled(images, before, tuple(unreadable))


def _row(name: str, answer: Mapping[str, Guess], annotator: ClipS1) -> dict[str, object]:
    prompts = annotator.prompts()
    gender, tone = answer["gender"], answer["skin_tone"]
    shares = {
        attribute: dict(zip(values(attribute), answer[attribute].probabilities, strict=True))
        for attribute in ("gender", "skin_tone")
    }
    # The index of its prompts: man is 0, woman is 1.
    order = [value for value, _ in prompts["gender"]]
    return {
        "Image Path": name,
        "GenderPrompt": dict(prompts["gender"])[str(gender.label)],
        "GenderIdx": order.index(str(gender.label)),
        "GenderProb_man": shares["gender"]["male"],
        "GenderProb_woman": shares["gender"]["female"],
        "SkinPrompt": dict(prompts["skin_tone"])[str(tone.label)],
        "SkinTonePred": tone.label,
        **{f"SkinProb_{value}": share for value, share in shares["skin_tone"].items()},
    }
