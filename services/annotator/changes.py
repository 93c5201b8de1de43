"""Changes of a picture under which a label should stay: exposure, blur, compression.

Each is what a camera or an upload does to the same face. `Calibrate` describes
the changed picture from the start, detection included.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from services.annotator.colour import exposure_table
from services.annotator.skin import MOST_CLIPPED, clipped

Pixels = NDArray[np.uint8]

BLUR = 1 / 32
"""Standard deviation of the Gaussian, in parts of the longer side of the face's box."""

JPEG_QUALITY = 30
"""Of libjpeg's scale to 100, with its usual halving of colour; messengers are at 70–80."""


def brighter_is_fair(pixels: Pixels, box: tuple[float, float, float, float], stops: float) -> bool:
    """Whether under 5 % of the box's pixels clip at another exposure (statistics §5); darker always."""
    if stops <= 0:
        return True
    height, width = pixels.shape[:2]
    left, top, right, bottom = (round(edge) for edge in box)
    face = pixels[max(top, 0) : min(bottom, height), max(left, 0) : min(right, width)]
    return face.size > 0 and clipped(face.reshape(-1, 3), stops) < MOST_CLIPPED


def exposed(stops: float) -> Callable[[Pixels, float], Pixels]:
    """The picture at another exposure, in linear light, clipped."""
    return lambda pixels, side: exposure_table(stops)[pixels]


def blurred(pixels: Pixels, side: float) -> Pixels:
    """The picture out of focus, by a part of the face's side in pixels."""
    return np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(BLUR * side)))


def compressed(pixels: Pixels, side: float) -> Pixels:
    """The picture after a strong JPEG compression."""
    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, "JPEG", quality=JPEG_QUALITY)
    with Image.open(sink, formats=("JPEG",)) as image:
        return np.asarray(image.convert("RGB"))


STOPS: Mapping[str, float] = {"exposure-1": -1.0, "exposure+1": 1.0}

CHANGES: Mapping[str, Callable[[Pixels, float], Pixels]] = {
    **{name: exposed(stops) for name, stops in STOPS.items()},
    "blur": blurred,
    "jpeg": compressed,
}
"""By name: from pixels, uint8 (H, W, 3), and the longer side of the face's box to pixels."""


def changed(pixels: Pixels, box: tuple[float, float, float, float], change: str) -> Pixels | None:
    """The picture after a change; None where it is not tried, since too much of the face would clip."""
    if not brighter_is_fair(pixels, box, STOPS.get(change, 0.0)):
        return None
    return CHANGES[change](pixels, max(box[2] - box[0], box[3] - box[1]))
