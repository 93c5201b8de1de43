"""Sheets of samples and the history of losses, as files."""

from __future__ import annotations

import io

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from fairloop.provenance.marks import Mark, read_mark
from services.generator import gan_record
from services.generator.gan_state import HISTORY, Sheet


def test_a_sheet_has_64_tiles_in_eight_rows_and_says_that_it_was_generated() -> None:
    images = np.random.default_rng(0).integers(0, 256, (64, 32, 32, 3), dtype=np.uint8)
    sheet = Sheet(2, 300, images)
    assert sheet.name == "epoch2_step300.png"
    with Image.open(io.BytesIO(gan_record.sheet_png(sheet, 7))) as picture:
        assert picture.size == (8 * 34 + 2, 8 * 34 + 2)
        assert read_mark(picture) == Mark(seed=7)
        np.testing.assert_array_equal(gan_record.tiles(picture, 32), images)
        pixels = np.asarray(picture)
    np.testing.assert_array_equal(pixels[2 + 34 : 34 + 34, 2 + 2 * 34 : 34 + 2 * 34], images[10])
    assert not pixels[:2].any(), "black between the tiles"


def test_the_history_is_a_table_with_a_row_a_step() -> None:
    history = np.arange(12, dtype=np.float32).reshape(3, 4)
    table = pq.read_table(io.BytesIO(gan_record.history_parquet(history)))
    assert table.column_names == ["step", *HISTORY]
    assert table["step"].to_pylist() == [1, 2, 3]
    assert table["generator_loss"].to_pylist() == [1, 5, 9]


def test_the_plot_is_the_same_picture_every_time() -> None:
    history = np.random.default_rng(0).random((5_000, 4), np.float32)
    first = gan_record.history_plot(history, 100)
    assert first == gan_record.history_plot(history, 100)
    with Image.open(io.BytesIO(first)) as picture:
        assert picture.format == "PNG"
        assert len(np.unique(np.asarray(picture.convert("RGB")).reshape(-1, 3), axis=0)) > 50
