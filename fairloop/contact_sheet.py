"""A contact sheet: some images of every group, drawn from a seed, as one PNG and as thumbnails."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image, ImageDraw, ImageOps

from fairloop import selection, taxonomy
from fairloop.bombs import MAX_PIXELS, why_costly
from fairloop.dataset import Dataset
from fairloop.errors import InvalidInput
from fairloop.seeds import check_seed, child_seed

SIDE = 96
GAP = 4
NAME_WIDTH = 150
MOST_EACH = 20
MOST_GROUPS = 40
_FORMATS = ("JPEG", "PNG", "BMP", "WEBP")


@dataclass(frozen=True)
class ContactSheet:
    """Group → image id → PNG thumbnail (96 × 96); what cannot be decoded is absent."""

    by: str
    each: int
    rows: Mapping[str, Mapping[str, bytes]]

    def png(self) -> bytes:
        """All of it as one picture: a row per group with its name, `each` places in a row."""
        width = NAME_WIDTH + self.each * (SIDE + GAP)
        sheet = Image.new("RGB", (width, max(len(self.rows), 1) * (SIDE + GAP)), "white")
        draw = ImageDraw.Draw(sheet)
        for row, (group, images) in enumerate(self.rows.items()):
            top = row * (SIDE + GAP)
            draw.text((6, top + SIDE // 2 - 6), group.replace("_", " ")[:24], fill="black")
            for place, data in enumerate(images.values()):
                with Image.open(io.BytesIO(data)) as image:
                    sheet.paste(image, (NAME_WIDTH + place * (SIDE + GAP), top))
        return _png(sheet)


def draw(index: pa.Table, by: str, each: int, seed: int, source: str = "") -> dict[str, list[int]]:
    """Value of the label `by` → positions of at most `each` images, drawn without replacement.

    Groups in canonical order, else by the alphabet. `source`: only real or only
    synthetic images. `InvalidInput` for a label that no image has or that has
    over 40 values, and for `each` outside 1–20.
    """
    check_seed(seed)
    if not 1 <= each <= MOST_EACH:
        raise InvalidInput("sheet", f"{each} is outside 1–{MOST_EACH}")
    labels = selection.label(index, by)
    found = [value for value in labels.unique().to_pylist() if value is not None]
    if not found or len(found) > MOST_GROUPS:
        what = f"has {len(found)} values; a sheet has 1–{MOST_GROUPS} rows"
        raise InvalidInput("sheet_by", f"the label {by!r} {what}")
    fits = pc.equal(index["source"].cast(pa.string()), source).to_numpy() if source else True
    order = {value: place for place, value in enumerate(taxonomy.ATTRIBUTES.get(by, ()))}
    drawn = {}
    for number, value in enumerate(sorted(found, key=lambda v: (order.get(v, len(order)), v))):
        own = np.flatnonzero(pc.fill_null(pc.equal(labels, value), False).to_numpy() & fits)
        generator = np.random.default_rng(child_seed(seed, "contact_sheet", number))
        drawn[value] = sorted(own[generator.permutation(len(own))[:each]].tolist())
    return drawn


def contact_sheet(dataset: Dataset, by: str, each: int = 5, seed: int = 0, source: str = "") -> ContactSheet:
    """Reads the drawn images and makes their thumbnails."""
    drawn = draw(dataset.index, by, each, seed, source)
    group_of = {position: value for value, positions in drawn.items() for position in positions}
    rows: dict[str, dict[str, bytes]] = {value: {} for value in drawn}
    wanted = sorted(group_of)
    for position, (row, data) in zip(wanted, selection.images(dataset, wanted), strict=True):
        thumbnail = _thumbnail(data)
        if thumbnail is not None:
            rows[group_of[position]][row["image_id"]] = thumbnail
    return ContactSheet(by, each, rows)


def _thumbnail(data: bytes) -> bytes | None:
    if why_costly(data):
        return None
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                return None
            image.draft("RGB", (SIDE, SIDE))
            upright = ImageOps.exif_transpose(image).convert("RGB")
    except MemoryError:
        raise
    except Exception:  # damaged bytes raise anything; the exploration reports them as broken
        return None
    return _png(ImageOps.fit(upright, (SIDE, SIDE), Image.Resampling.BICUBIC))


def _png(image: Image.Image) -> bytes:
    sink = io.BytesIO()
    image.save(sink, "PNG")
    return sink.getvalue()
