"""Sets of prompts as the reference systems drew them: what is asked, how often, and how files are named.

S0's set per race and its sweep over words for quality, S3's table of prompts.
Each item says what to send and where its n-th image goes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from fairloop import taxonomy
from fairloop.errors import InvalidInput
from fairloop.prompts import Prompt

QUALITIES = ("high resolution", "high quality", "realistic", "highly detailed symmetric", "detailed")
"""Words that S0 tried; it kept the last."""
QUALITY = "detailed"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,99}")


@dataclass(frozen=True)
class Item:
    """A prompt, the id it is sent under, how many images, the cell it asks for, and the files' names.

    `pattern` has `{n}` for the number of the image.
    """

    id: str
    text: str
    images: int
    pattern: str
    cell: str = ""

    def path(self, number: int) -> PurePosixPath:
        """Where the image of this number goes, below the folder of the set."""
        return PurePosixPath(self.pattern.format(n=number))


def slug(text: str) -> str:
    """`East Asian` → `east_asian`."""
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")


def races(images: int, quality: str = QUALITY) -> list[Item]:
    """S0's set: `detailed face of {race} person` to the letter, in the hub's order of races.

    Files are `east_asian/east_asian_0.jpg`. Its race names are raw, so one prompt
    has an underscore (`Latino_Hispanic`).
    """
    return [
        Item(
            slug(race),
            f"{quality} face of {race} person",
            images,
            f"{slug(race)}/{slug(race)}_{{n}}.jpg",
            cell,
        )
        for race, cell in _races()
    ]


def sweep(images: int, qualities: Sequence[str] = QUALITIES) -> list[Item]:
    """S0's comparison of words for quality: every race with each; files `east_asian/high_quality/0.png`."""
    return [
        Item(
            f"{slug(race)}-{slug(quality)}",
            f"{quality} face of {race} person",
            images,
            f"{slug(race)}/{slug(quality)}/{{n}}.png",
            cell,
        )
        for race, cell in _races()
        for quality in qualities
    ]


def table(prompts: Sequence[Prompt], images: int) -> list[Item]:
    """S3's audit: so many images of each prompt of a table; files `ceo_0.png`."""
    return [Item(p.id, p.text, images, f"{p.id}_{{n}}.png") for p in prompts]


def profiles(prompts: Sequence[Prompt], images: int) -> list[Item]:
    """S3's images of a tuned model: a folder for each prompt of a table; files `ceo/profile_0.png`."""
    return [Item(p.id, p.text, images, f"{p.id}/profile_{{n}}.png") for p in prompts]


def playground(text: str, name: str, images: int) -> Item:
    """S0's playground: a prompt verbatim; files `{name}_0.jpg`. `InvalidInput` for a name that is a path."""
    if not _NAME.fullmatch(name) or ".." in name:
        raise InvalidInput(
            "NAME", f"{name!r} is no plain name of a file: letters, digits, spaces and . _ - (no folders)"
        )
    return Item("playground", text, images, f"{name}_{{n}}.jpg")


def _races() -> list[tuple[str, str]]:
    known = taxonomy.VOCABULARIES["fairface_hub", "race"]
    return [(label, f"race={value}") for label, value in zip(known.labels, known.values, strict=True)]
