"""The contact sheet of a folder: a few small faces of each cell, as data URIs."""

from __future__ import annotations

import base64
import bisect
import io
from dataclasses import dataclass

from PIL import Image

from fairloop.tables import FaceRow
from services.annotator.images import decode

PER_CELL = 8
SIDE = 96
MARGIN = 0.35
"""Room around the detector's box, in parts of its side: it reaches from the brows to the chin."""


@dataclass(frozen=True, order=True)
class Thumbnail:
    """One small JPEG; ordered by the image's id."""

    image_id: str
    path: str
    uri: str


class ContactSheet:
    """Keeps the `PER_CELL` images of each cell with the smallest ids.

    An id is a hash of the image's bytes, so the choice depends neither on
    names nor on order. Byte-identical repeats are left out. Pixels are only
    decoded for images that are among the smallest so far.
    """

    def __init__(self) -> None:
        self.cells: dict[str, list[Thumbnail]] = {}

    def offer(self, cell: str, image_id: str, path: str, data: bytes, row: FaceRow) -> None:
        """Shows an image to the sheet; `data` are the bytes that `row` describes."""
        chosen = self.cells.setdefault(cell, [])
        if "-" in image_id or (len(chosen) == PER_CELL and image_id > chosen[-1].image_id):
            return
        bisect.insort(chosen, Thumbnail(image_id, path, _uri(data, row)))
        del chosen[PER_CELL:]

    def __len__(self) -> int:
        return sum(map(len, self.cells.values()))


def _uri(data: bytes, row: FaceRow) -> str:
    image = Image.fromarray(decode(data))
    if row.box is not None:
        image = image.crop(_square(row.box, image.size))
    image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS, reducing_gap=2.0)
    out = io.BytesIO()
    image.save(out, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode()


def _square(box: tuple[float, float, float, float], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """The face with its margin, moved into the image, or cut where the image is smaller."""
    left, top, right, bottom = box
    side = (1 + 2 * MARGIN) * max(right - left, bottom - top)
    ends = []
    for centre, whole in (((left + right) / 2, size[0]), ((top + bottom) / 2, size[1])):
        length = min(side, whole)
        start = min(max(centre - length / 2, 0.0), whole - length)
        first = min(round(start), whole - 1)
        ends.append((first, max(first + 1, round(start + length))))
    return ends[0][0], ends[1][0], ends[0][1], ends[1][1]
