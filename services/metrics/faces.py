"""A contact sheet of a dataset: a few faces of each cell, as data URIs."""

from __future__ import annotations

import base64
import io

from PIL import Image

from fairloop.dataset import open_dataset
from fairloop.reporting.document import Face, FaceRow
from fairloop.store import ObjectStore
from fairloop.v1 import metrics_pb2
from services.metrics.labels import cells_of, image_labels, read_labels

PER_CELL = 8
SIDE = 64


def face_rows(store: ObjectStore, grid: metrics_pb2.FaceGrid) -> list[FaceRow]:
    """One row per cell with its first images in dataset order; a cell without images has an empty row."""
    _, sources, table = read_labels(store, grid.annotations, grid.sources)
    dataset = open_dataset(store, grid.dataset)
    chosen: dict[str, list[str]] = {cell: [] for cell in cells_of(sources)}
    for image, label in zip(
        table["image_id"].to_pylist(), image_labels(table, sources, dataset), strict=True
    ):
        if label in chosen and len(chosen[label]) < (grid.per_cell or PER_CELL):
            chosen[label].append(image)
    caption = f"{grid.caption}: " if grid.caption else ""
    return [
        FaceRow(
            cell=f"{caption}{cell}",
            faces=tuple(
                Face(uri=thumbnail(dataset.read(image)), alt=f"rendered face, {cell}") for image in images
            ),
        )
        for cell, images in chosen.items()
    ]


def thumbnail(data: bytes) -> str:
    """The image as a data URI of at most 64 pixels a side."""
    with Image.open(io.BytesIO(data), formats=("PNG", "JPEG", "WEBP", "BMP")) as image:
        small = image.convert("RGB")
        small.thumbnail((SIDE, SIDE))
        sink = io.BytesIO()
        small.save(sink, "PNG")
    return "data:image/png;base64," + base64.b64encode(sink.getvalue()).decode()
