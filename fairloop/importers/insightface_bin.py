"""InsightFace's `.bin` files: a pickled pair (images, same), two images a pair, such as lfw.bin."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import PurePosixPath

from fairloop.errors import InvalidInput
from fairloop.importers import restricted_pickle
from fairloop.importers.catalogued import PUBLISHED_HELP, details_of, terms_of, told
from fairloop.importers.contents import Contents
from fairloop.importers.record import Kind, Layout, Pair, Problem, Record
from fairloop.importers.restricted_pickle import Span
from fairloop.importers.source import LARGEST_IMAGE, Folder, UnusableFileError


@dataclass(frozen=True)
class Options:
    """Which file, and of which set it is."""

    file: str = field(default="", metadata={"help": "The .bin file, in PATH or anywhere."})
    published: str = field(default="", metadata={"help": PUBLISHED_HELP})


@dataclass(frozen=True)
class BinFile:
    """The images of a file, two to a pair, in its order, and whether each pair shows one person."""

    contents: Contents
    images: tuple[Span | bytes | None, ...]
    same: tuple[bool, ...]

    def read(self, number: int) -> bytes:
        """The bytes of one image; `UnusableFileError` when they are none, or the file has changed."""
        image = self.images[number]
        if image is None:
            raise UnusableFileError("is no bytes")
        if isinstance(image, bytes):
            return image
        if image.size > LARGEST_IMAGE:
            raise UnusableFileError(f"has {image.size:,} bytes; an image has at most {LARGEST_IMAGE:,}")
        try:
            with self.contents.reading() as pread:
                data = pread(image.size, image.offset)
        except OSError as error:
            raise UnusableFileError(f"{self.contents.name} cannot be read ({error.strerror})") from None
        self.contents.check()  # after it was read: what was read is of the file that was opened
        return data


def read_bin(contents: Contents) -> BinFile:
    """The images and pairs of a file; `InvalidInput` when it is none, or the two lists do not fit."""
    name = contents.name
    held = restricted_pickle.elements(restricted_pickle.load(contents))
    if held is None or len(held) != 2:
        raise InvalidInput(name, "is no pair of a list of images and a list of what they show")
    bins, same = (restricted_pickle.elements(one) for one in held)
    if bins is None or same is None:
        raise InvalidInput(name, "is no pair of a list of images and a list of what they show")
    if len(bins) != 2 * len(same) or not same:
        raise InvalidInput(name, f"has {len(bins):,} images for {len(same):,} pairs; two make a pair")
    strange = [n for n, value in enumerate(same) if not isinstance(value, int) or value not in (0, 1)]
    if strange:
        raise InvalidInput(name, f"says neither true nor false of pair {strange[0]}")
    images = tuple(restricted_pickle.span_of(value) for value in bins)
    return BinFile(contents, images, tuple(bool(value) for value in same))


def open_bin(folder: Folder, options: Options) -> Layout:
    """One record per image of the file; who is shown is not in it. The pairs are kept, without folds."""
    found = folder.top("", ".bin")
    if not options.file and len(found) != 1:
        raise InvalidInput("file", f"{folder} has {len(found)} .bin files; name one")
    held = read_bin(folder.container(options.file or found[0], "file"))
    file = held.contents.name
    of = told(options.published)

    def name(number: int) -> str:
        return f"{file}/{number:06}"

    def records() -> Iterator[Record | Problem]:
        for number, image in enumerate(held.images):
            if image is None:
                yield Problem(name(number), "is no bytes")
                continue
            yield Record(
                name(number),
                provenance={"source": "real"},
                read=partial(held.read, number),
                stamp=f"{held.contents.stamp}:{number}",
            )

    def pairs() -> Iterator[Pair]:
        for number, same in enumerate(held.same):
            yield Pair(PurePosixPath(file).stem.lower(), name(2 * number), name(2 * number + 1), same)

    return Layout(
        records,
        terms=terms_of(*of),
        notes=(f"{file} does not say who is shown, so no pair beyond its {len(held.same):,} can be formed",),
        details=details_of(*of),
        pairs=pairs,
    )


KIND = Kind("insightface-bin", "a .bin file of InsightFace: images two by two", Options, open_bin)
