"""What a training of the recogniser sees of an image: crop, range, order, and batches as pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from fairloop.errors import InvalidInput
from fairloop.pixels import fitted
from services.recognizer import fit, residual
from services.recognizer.batch_dump import dump_batches

SIZE = 64


def ramp(height: int, width: int) -> NDArray[np.uint8]:
    """Grey rises from 0 at the left to 255 at the right."""
    line = np.linspace(0, 255, width)
    return np.repeat(np.tile(line, (height, 1))[:, :, None], 3, axis=2).round().astype(np.uint8)


def test_the_short_side_is_resized_the_centre_cropped_and_the_range_is_minus_one_to_one() -> None:
    image = ramp(60, 100)  # 100 × 60 as people write it
    x = residual.pixels(np.stack([fitted(image, SIZE)]), residual.Shape(SIZE))
    assert tuple(x.shape) == (1, 3, SIZE, SIZE)
    assert -1 <= float(x.min()) <= float(x.max()) <= 1
    # Resized it is 107 × 64; the middle 64 columns begin at 21, which is column 19.6 of the source.
    first, last = (float(x[0, 0, 32, column]) for column in (0, SIZE - 1))
    per_column = 2 / 99
    assert first == pytest.approx(-1 + per_column * (21.5 * 100 / 107 - 0.5), abs=0.02)
    assert last == pytest.approx(-1 + per_column * (84.5 * 100 / 107 - 0.5), abs=0.02)
    tall = residual.pixels(np.stack([fitted(image.transpose(1, 0, 2), SIZE)]), residual.Shape(SIZE))
    np.testing.assert_allclose(tall[0, 0].T.numpy(), x[0, 0].numpy(), atol=0.02)


def test_black_is_minus_one_and_white_is_one() -> None:
    for value, expected in ((0, -1.0), (255, 1.0)):
        x = residual.pixels(
            np.stack([fitted(np.full((50, 90, 3), value, np.uint8), SIZE)]), residual.Shape(SIZE)
        )
        assert x.unique().tolist() == [expected]


def test_batches_are_written_as_pictures_of_what_the_training_sees(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (10, 16, 16, 3), dtype=np.uint8)
    config = fit.Config(epochs=2, batch_size=4, size=16, flip=False, seed=5)
    paths = dump_batches(images, 10, config, tmp_path / "batches", steps=3)
    assert [path.name for path in paths] == ["batch_000000.png", "batch_000001.png", "batch_000002.png"]
    seen = []
    for path in paths:
        grid = np.asarray(Image.open(path))
        assert grid.shape == (34, 34, 3)
        for top, left in ((0, 0), (0, 18), (18, 0), (18, 18)):
            tile = grid[top : top + 16, left : left + 16]
            (found,) = [k for k, image in enumerate(images) if np.array_equal(image, tile)]
            seen.append(found)
    # Two steps make an epoch of ten images: eight of them, each once; the third begins another.
    assert len(set(seen[:8])) == 8
    assert len(set(seen[8:])) == 4
    with pytest.raises(InvalidInput, match="steps: 5 is outside 1–4"):
        dump_batches(images, 10, config, tmp_path / "batches", steps=5)


def test_flips_are_on_the_pictures(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (16, 16, 16, 3), dtype=np.uint8)
    config = fit.Config(batch_size=16, size=16, seed=1)
    (path,) = dump_batches(images, 16, config, tmp_path)
    grid = np.asarray(Image.open(path))
    tiles = [grid[t : t + 16, left : left + 16] for t in range(0, 72, 18) for left in range(0, 72, 18)]
    as_is = sum(any(np.array_equal(tile, image) for image in images) for tile in tiles)
    mirrored = sum(any(np.array_equal(tile, image[:, ::-1]) for image in images) for tile in tiles)
    # Each with probability ½: all sixteen alike would have p = 3e-5.
    assert as_is + mirrored == 16
    assert 0 < as_is < 16
