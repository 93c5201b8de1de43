"""A training's decoded images come back from disk as they were."""

from __future__ import annotations

import errno

import numpy as np
import pytest

from fairloop.errors import Exhausted
from fairloop.spool import Spool, _full


def test_images_come_back_in_any_order_and_more_than_once() -> None:
    images = np.random.default_rng(0).integers(0, 256, (300, 8, 8, 3), np.uint8)
    with Spool(8) as spool:
        for image in images:
            spool.add(image)
        spool.finish()
        assert len(spool) == 300
        chosen = np.array([299, 0, 7, 7, 150], np.int64)
        np.testing.assert_array_equal(spool(chosen), images[chosen])
        assert spool(np.empty(0, np.int64)).shape == (0, 8, 8, 3)
        for wrong in (-1, 300):
            with pytest.raises(IndexError, match=f"image {wrong} of 300"):
                spool(np.array([wrong]))


def test_an_image_of_another_shape_or_type_is_refused() -> None:
    with Spool(8) as spool:
        for image in (np.zeros((8, 9, 3), np.uint8), np.zeros((8, 8, 3), np.float32)):
            with pytest.raises(ValueError, match=r"is not uint8 \(8, 8, 3\)"):
                spool.add(image)


def test_a_full_disk_says_what_to_do() -> None:
    error = _full(OSError(errno.ENOSPC, "No space left on device"), 1_234)
    assert isinstance(error, Exhausted)
    assert "1,234" in str(error)
    assert "TMPDIR" in str(error)
    other = OSError(errno.EIO, "Input/output error")
    assert _full(other, 3) is other
