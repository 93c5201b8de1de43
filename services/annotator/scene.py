"""What surrounds a face: measurements that should not move with a perceived attribute.

A loop that wants darker skin and gets darker rooms has learnt the wrong thing;
these columns show it (`fairloop.tables.SCENE`). Lightness is L* of CIELAB, 0–100.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from services.annotator.colour import lightness, linear_table, luminance
from services.annotator.detector import Detection

Box = tuple[float, float, float, float]

EXPOSURE_PERCENTILE = 99
# Under this share of the image there is no background to speak of.
BACKGROUND_SHARE = 0.02
# Large enough for every measurement here, small enough to be quick on photographs.
SIDE = 256
SHARPNESS_SIDE = 64
# Variance of L* that is only rounding; one step of one 8-bit channel is far above.
NO_CONTRAST = 1e-6


def scene(pixels: NDArray[np.uint8], face: Detection | None) -> dict[str, float]:
    """The measurements of one image, uint8 (H, W, 3), and its largest face.

    - `exposure`: the 99th percentile of L* in the whole image, its white level.
      (The mean would follow the skin: over raw DCGAN faces its correlation with
      the lightness of the face is .78, the percentile's .26.)
    - `sharpness`: see `sharpness`, of the face's box, or of the image without one.
    - `background_lightness`: mean L* above the chin and outside the head; left
      out when the head leaves under 2 % of the image.
    - `yaw`, `roll`: see there.

    Without a face only the first two are there.
    """
    height, width = pixels.shape[:2]
    scale = min(1.0, SIDE / max(height, width))
    # L* costs a root a pixel, and few pixels are asked for theirs.
    light = _luminance(pixels, (max(1, round(width * scale)), max(1, round(height * scale))))
    measured = {
        "exposure": white_level(light),
        "sharpness": sharpness(pixels, (0, 0, width, height) if face is None else face.box),
    }
    if face is not None:
        left, top, right, bottom = (edge * scale for edge in face.box)
        around = light[background((light.shape[0], light.shape[1]), (left, top, right, bottom))]
        if around.size >= BACKGROUND_SHARE * light.size:
            measured["background_lightness"] = float(lightness(around).mean())
        measured["yaw"] = yaw(face.landmarks)
        measured["roll"] = roll(face.landmarks)
    return measured


def white_level(light: NDArray[np.float32]) -> float:
    """`np.percentile(lightness(light), 99)` of luminances, to the last bit, without the L* of the others.

    L* rises with luminance, so the two values between which the percentile lies
    are those of the two luminances; numpy's own rule interpolates between them.
    """
    place = EXPOSURE_PERCENTILE / 100 * (light.size - 1)
    below = int(place)
    top = np.partition(light.ravel(), below)[below:]
    low, high = lightness([top[0], top[1:].min() if top.size > 1 else top[0]])
    share = place - below
    return float(low + (high - low) * share if share < 0.5 else high - (high - low) * (1 - share))


def background(shape: tuple[int, int], box: Box) -> NDArray[np.bool_]:
    """Which pixels of an image of (height, width) lie outside the head, and not below the chin.

    dlib's box reaches from the brows to the chin. The head with its hair is
    taken as that box and an ellipse 1.3 times as wide and 1.8 times as high,
    a quarter of the box further up; below the box are neck and shoulders.
    """
    left, top, right, bottom = box
    y, x = np.ogrid[: shape[0], : shape[1]]
    x, y = x + 0.5, y + 0.5
    across = (x - (left + right) / 2) / (0.65 * (right - left))
    along = (y - (0.75 * top + 0.25 * bottom)) / (0.9 * (bottom - top))
    beside_the_box = (x < left) | (x > right) | (y < top)
    outside: NDArray[np.bool_] = (across**2 + along**2 > 1) & beside_the_box & (y < bottom)
    return outside


def sharpness(pixels: NDArray[np.uint8], box: Box) -> float:
    """How much of the contrast within a box is fine detail: 0 flat or blurred, 1 white noise.

    Variance of the four-neighbour Laplacian of L*, divided by 20 times the
    variance of L* itself; for white noise the two are equal. The division makes
    it independent of contrast, so that a dark face is not a blurred one; boxes
    over 64 pixels are reduced to that side, so that it is comparable between
    sizes. A sine wave of w radians a pixel has (2 − 2·cos w)² / 20.
    """
    height, width = pixels.shape[:2]
    left, top = max(0, round(box[0])), max(0, round(box[1]))
    crop = pixels[top : min(height, round(box[3])), left : min(width, round(box[2]))]
    if min(crop.shape[:2]) < 3:
        return 0.0
    scale = min(1.0, SHARPNESS_SIDE / max(crop.shape[:2]))
    size = (max(3, round(crop.shape[1] * scale)), max(3, round(crop.shape[0] * scale)))
    light = lightness(_luminance(crop, size))
    inner = light[1:-1, 1:-1]
    laplacian = light[:-2, 1:-1] + light[2:, 1:-1] + light[1:-1, :-2] + light[1:-1, 2:] - 4 * inner
    contrast = float(inner.var())
    return min(1.0, float(laplacian.var()) / (20 * contrast)) if contrast > NO_CONTRAST else 0.0


def yaw(landmarks: NDArray[np.float32]) -> float:
    """Turn of the head: how far the nose's base lies from the middle of the eyes, along their line.

    In eye distances; 0 is frontal, positive when the nose points to the right
    of the image (to the subject's left).
    """
    right, left, nose = _eyes_and_nose(landmarks)
    axis = left - right
    return float((nose - (left + right) / 2) @ axis / (axis @ axis))


def roll(landmarks: NDArray[np.float32]) -> float:
    """Tilt of the eye line in degrees, −180–180; positive when the head is turned clockwise in the image."""
    right, left, _ = _eyes_and_nose(landmarks)
    across, down = left - right
    return float(np.degrees(np.arctan2(down, across)))


def _eyes_and_nose(landmarks: NDArray[np.float32]) -> tuple[NDArray[np.float64], ...]:
    points = landmarks.astype(np.float64)
    return points[:2].mean(axis=0), points[2:4].mean(axis=0), points[4]


def _luminance(pixels: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.float32]:
    """Y of the image at another (width, height)."""
    if (pixels.shape[1], pixels.shape[0]) != size:
        image = Image.fromarray(pixels)
        pixels = np.asarray(image.resize(size, Image.Resampling.BICUBIC, reducing_gap=2.0))
    # Half the time of indexing the table.
    found: NDArray[np.float32] = luminance(np.take(linear_table(), pixels))
    return found
