"""Folders of small real image files for importers."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

KINDS = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".bmp": "BMP", ".webp": "WEBP"}


def image_bytes(seed: int, suffix: str = ".jpg", side: int = 12) -> bytes:
    """An image file of noise; another seed, another picture."""
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side + 1, 3), dtype=np.uint8)
    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, KINDS[suffix.lower()])
    return sink.getvalue()


def plant(root: Path, *paths: str, first: int = 0) -> Path:
    """Writes one picture per path, each another; returns the root."""
    for seed, path in enumerate(paths, first):
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(image_bytes(seed, file.suffix))
    return root
