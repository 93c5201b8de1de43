"""A folder on disk as `fairloop audit` reads it: which files are images, and their bytes.

Nothing here writes, and nothing trusts what it finds: a name may hold any
character, a file may be a pipe, a link to itself or larger than memory.
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from fairloop.bombs import MAX_PIXELS
from fairloop.errors import InvalidInput
from services.annotator.images import CorruptImage, ImageTooLarge, UnreadableImage

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
BATCH_IMAGES = 64
# Ten large photographs: what is decoded at the same time stays far under a gigabyte.
BATCH_BYTES = 32 * 2**20
# Sixteen bits of four channels, uncompressed: no image that is looked at needs more.
LARGEST_FILE = 8 * MAX_PIXELS
EXAMPLES = 50
MOST_GROUPS = 200
"""More subfolders than this are hardly groups or prompts (people, rather): counted only when asked for."""
TOP = "."
"""Group of the images that lie in no subfolder, where subfolders are groups."""


@dataclass(frozen=True)
class Listing:
    """What lies in a folder.

    `images` are paths relative to `root`, sorted, with `/` between folders;
    bytes of a name that are no UTF-8 are surrogates, as `os.fsdecode` leaves
    them (`readable` gives a text). `skipped` counts the rest by the reason, and
    `examples` names the first of them.
    """

    root: Path
    images: tuple[str, ...]
    skipped: Mapping[str, int]
    examples: tuple[tuple[str, str], ...]

    def subfolders(self) -> list[str]:
        """The first folder of every path that has one, each once, in order."""
        return list(dict.fromkeys(path.split("/", 1)[0] for path in self.images if "/" in path))


@dataclass(frozen=True)
class ImageFile:
    """One file of a listing: its bytes, or why it has none."""

    path: str
    picture: bytes | UnreadableImage


def list_images(folder: Path) -> Listing:
    """All images below a folder.

    Hidden files and folders (a leading dot) are skipped, and so are links to
    folders, which could lead anywhere, in circles too. A link to a file is
    that file.

    Raises `InvalidInput` when the folder is none, cannot be listed, or holds no image.
    """
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "does not exist"
        raise InvalidInput("folder", f"{folder} {what}; name a folder with images")
    images: list[str] = []
    skipped: Counter[str] = Counter()
    examples: list[tuple[str, str]] = []

    def skip(path: Path, reason: str) -> None:
        skipped[reason] += 1
        if len(examples) < EXAMPLES:
            examples.append((path.relative_to(folder).as_posix(), reason))

    def unlisted(error: OSError) -> None:
        path = Path(error.filename)
        if path == folder:
            raise InvalidInput("folder", f"{folder} cannot be listed ({error.strerror})") from error
        skip(path, f"folder that cannot be listed ({error.strerror})")

    for parent, folders, files in os.walk(folder, onerror=unlisted):
        here = Path(parent)
        for name in sorted(folders):
            if name.startswith("."):
                skip(here / name, "hidden")
            elif (here / name).is_symlink():
                skip(here / name, "link to a folder")
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if name.startswith("."):
                skip(here / name, "hidden")
            elif name.lower().endswith(SUFFIXES):
                images.append((here / name).relative_to(folder).as_posix())
            else:
                skip(here / name, "no image by its name")
    if not images:
        others = f"; it has {skipped.total():,} other files" if skipped else "; it is empty"
        raise InvalidInput("folder", f"{folder} has no image ({', '.join(SUFFIXES)}){others}")
    return Listing(folder, tuple(sorted(images)), dict(sorted(skipped.items())), tuple(examples))


def read_batches(listing: Listing) -> Iterator[list[ImageFile]]:
    """The files in order, in batches of at most 64 images and about 32 MiB."""
    batch: list[ImageFile] = []
    size = 0
    for path in listing.images:
        picture = read_image(listing.root / path)
        batch.append(ImageFile(path, picture))
        size += len(picture) if isinstance(picture, bytes) else 0
        if len(batch) == BATCH_IMAGES or size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def read_image(path: Path) -> bytes | UnreadableImage:
    """The bytes of a file, or why there are none; waits for nothing and reads at most 320 MB."""
    try:
        # Opening a pipe that nobody writes to would wait for ever.
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                return CorruptImage("is no regular file")
            if found.st_size > LARGEST_FILE:
                return ImageTooLarge(f"{found.st_size:,} bytes; a file has at most {LARGEST_FILE:,}")
            return file.read(LARGEST_FILE)
    except OSError as error:
        return CorruptImage(f"cannot be read ({error.strerror})")


def group_of(path: str) -> str:
    """The first subfolder of an image's path, `.` when it lies in none."""
    first, separator, _ = path.partition("/")
    return first if separator else TOP


def readable(path: str) -> str:
    """A path as text that can be written anywhere: bytes that are no UTF-8 become `\\xff`."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")
