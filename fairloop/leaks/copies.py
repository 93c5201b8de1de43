"""The same picture in two sets: equal bytes, and pictures that look equal after scaling or compression."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from PIL import Image, ImageOps

from fairloop.bombs import MAX_PIXELS, why_costly
from fairloop.errors import InvalidInput, PreconditionFailed
from fairloop.leaks.neighbours import MOST_PAIRS, Ints, library, row_of_pair
from fairloop.stats import watch

BITS = 64
RADIUS = 6
"""Bits that may differ. Half of the bits are set, so two unrelated pictures differ in 32 of 64 on average,
and at most 6 is a chance of 1.3e-11 a pair: the sum of C(32, k)² over k ≤ 3, by C(64, 32). Faces are alike:
between strangers of one face generator it was 1.4e-6, so a check measures it among its own strangers."""
MOST_RADIUS = 16
FORMATS = ("PNG", "JPEG", "WEBP", "BMP")
LEAST_CONTRAST = 1.0
"""Standard deviation, of 0–255, below which a picture is taken as one colour: its hash would be noise."""
SIDE, LOW = 32, 8
BATCH, BATCH_BYTES = 256, 64 * 2**20
QUERIES = 8_192

UNDECODABLE, FEATURELESS = "undecodable", "featureless"

Hashes = NDArray[np.uint8]


@dataclass(frozen=True)
class Copies:
    """Pairs as positions in the two sets; `distance` is 0–64 bits."""

    first: Ints
    second: Ints
    distance: Ints

    def __len__(self) -> int:
        return len(self.distance)


def equal_bytes(first: Sequence[str], second: Sequence[str]) -> Copies:
    """Pairs with the same sha256, in order of their positions; distance 0.

    Raises `PreconditionFailed` for more than 5,000,000 pairs; each digest once a side gives at most N.
    """
    _, codes = np.unique(np.array([*first, *second], dtype=np.str_), return_inverse=True)
    left, right = codes[: len(first)], codes[len(first) :]
    order = np.argsort(right, kind="stable")
    begin = np.searchsorted(right[order], left, side="left")
    count = np.searchsorted(right[order], left, side="right") - begin
    total = int(count.sum())
    if total > MOST_PAIRS:
        raise PreconditionFailed(f"{total:,} pairs have equal bytes; at most {MOST_PAIRS:,} are compared")
    within = np.arange(total) - np.repeat(np.cumsum(count) - count, count)
    i = np.repeat(np.arange(len(left)), count)
    return Copies(i, order[np.repeat(begin, count) + within], np.zeros(total, np.int64))


def picture_hashes(
    images: Iterable[tuple[Mapping[str, Any], bytes]], threads: int = 2
) -> Iterator[tuple[str, Hashes | str]]:
    """(image id, uint8 (8,)) of each image: the sign of its 64 lowest frequencies against their median.

    That is pHash (Zauner 2010): upright, grey, 32 × 32, DCT-II, the 8 × 8 corner. In
    its place stands `undecodable` or `featureless` (one colour) where an image has
    none. Memory: 256 images or 64 MiB of them.
    """
    with ThreadPoolExecutor(threads, thread_name_prefix="phash") as pool:
        for batch in _batches(images):
            grey = list(pool.map(_grey, [data for _, data in batch]))
            found = iter(_hashed(np.stack([one for one in grey if not isinstance(one, str)] or [_NONE])))
            for (row, _), one in zip(batch, grey, strict=True):
                yield row["image_id"], one if isinstance(one, str) else next(found)


_NONE = np.zeros((SIDE, SIDE), np.float64)


def _batches(
    images: Iterable[tuple[Mapping[str, Any], bytes]],
) -> Iterator[list[tuple[Mapping[str, Any], bytes]]]:
    batch: list[tuple[Mapping[str, Any], bytes]] = []
    size = 0
    for row, data in images:
        batch.append((row, data))
        size += len(data)
        if len(batch) == BATCH or size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _grey(data: bytes) -> NDArray[np.float64] | str:
    """The picture as float64 (32, 32), or why it has no hash."""
    if why_costly(data):
        return UNDECODABLE
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                return UNDECODABLE
            upright = ImageOps.exif_transpose(image).convert("L")
            pixels = np.asarray(upright.resize((SIDE, SIDE), Image.Resampling.LANCZOS), np.float64)
    except Exception:
        return UNDECODABLE  # parsers raise what they happened to meet in damaged bytes; it is counted
    return pixels if pixels.std() >= LEAST_CONTRAST else FEATURELESS


def _hashed(pixels: NDArray[np.float64]) -> Hashes:
    """uint8 (N, 8) of pictures (N, 32, 32)."""
    low = scipy.fft.dctn(pixels, type=2, axes=(1, 2))[:, :LOW, :LOW].reshape(-1, BITS)
    return np.packbits(low > np.median(low, axis=1, keepdims=True), axis=1)


def look_alike(first: Hashes, second: Hashes, radius: int = RADIUS) -> Copies:
    """Pairs whose hashes, uint8 (N, 8) and (M, 8), differ in at most `radius` bits, the nearest first.

    Raises `PreconditionFailed` for more than 5,000,000 pairs: that many pictures
    are not copies of one another but of one kind.
    """
    check_radius(radius)
    index = library().IndexBinaryFlat(BITS)
    index.add(np.ascontiguousarray(second, np.uint8))
    found = [np.empty((0, 3), np.int64)]
    total = 0
    watch.begin(len(first) * len(second))
    for start in range(0, len(first), QUERIES):
        block = np.ascontiguousarray(first[start : start + QUERIES], np.uint8)
        # faiss keeps what is nearer than its radius.
        limits, distances, places = index.range_search(block, radius + 1)
        rows = row_of_pair(limits)
        total += len(rows)
        if total > MOST_PAIRS:
            raise PreconditionFailed(
                f"more than {MOST_PAIRS:,} pairs differ in at most {radius} bits; choose a smaller radius"
            )
        found.append(np.stack([rows + start, places, distances.astype(np.int64)], axis=1))
        watch.scored(len(block) * len(second))
    table = np.concatenate(found)
    table = table[np.lexsort((table[:, 1], table[:, 0], table[:, 2]))]
    return Copies(table[:, 0], table[:, 1], table[:, 2])


def check_radius(radius: int) -> None:
    """`InvalidInput` for a number of bits outside 0–16."""
    if not 0 <= radius <= MOST_RADIUS:
        raise InvalidInput("radius", f"{radius} is outside 0–{MOST_RADIUS} bits")
