"""Faces moved to ArcFace's five-point template, the way its networks want them: 112×112, upright.

With the five points that detectors such as SCRFD and RetinaFace give (eyes, nose
tip, corners of the mouth) this is what insightface does: the similarity that
fits the template best in least squares (Umeyama 1991). dlib's predictor gives
five other points (two corners of each eye, the base of the nose); `DLIB` is
where these lie in a face whose eyes are on the template.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fairloop.errors import InvalidInput

SIZE = 112
ARCFACE = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)
"""Eyes, nose tip and corners of the mouth in a face of 112×112 pixels, left in the picture first."""
DLIB_MEAN = np.array(
    [
        [0.8595674595992, 0.2134981538014],
        [0.6460604764104, 0.2289674387677],
        [0.1205750620789, 0.2137274526848],
        [0.3340850613712, 0.2290642403242],
        [0.4901123135679, 0.6277975316475],
    ]
)
"""dlib's mean face (dlib/image_transforms/interpolation.h): both corners of the eye on the right of the
picture, both of that on the left, the base of the nose; in shares of the face's side."""


def similarity(points: NDArray[np.float64], target: NDArray[np.float64]) -> NDArray[np.float64]:
    """The 2×3 matrix of the rotation, scale and shift that moves `points` nearest to `target`.

    Both are (N, 2), N ≥ 2. Least squares over all points, reflections excluded
    (Umeyama 1991). Raises InvalidInput when all points are one.
    """
    if points.shape != target.shape or points.ndim != 2 or points.shape[1] != 2 or len(points) < 2:
        raise InvalidInput("points", f"{points.shape} for {target.shape}; both are (N, 2), N 2 or more")
    centre, goal = points.mean(axis=0), target.mean(axis=0)
    source, wanted = points - centre, target - goal
    variance = (source**2).sum()
    if not np.isfinite(variance) or variance == 0:
        raise InvalidInput("points", "are all in one place, or not finite")
    # In the plane: one complex number is rotation and scale together.
    a = (source * wanted).sum() / variance
    b = (source[:, 0] * wanted[:, 1] - source[:, 1] * wanted[:, 0]).sum() / variance
    turn = np.array([[a, -b], [b, a]])
    return np.column_stack([turn, goal - turn @ centre])


def _dlib_points() -> NDArray[np.float64]:
    eyes = np.stack([DLIB_MEAN[2:4].mean(axis=0), DLIB_MEAN[:2].mean(axis=0)])
    matrix = similarity(eyes, ARCFACE[:2])
    return DLIB_MEAN @ matrix[:, :2].T + matrix[:, 2]


DLIB = _dlib_points()
"""Where dlib's five points lie in a face of 112×112 pixels."""


def turned(
    image: NDArray[np.uint8], points: NDArray[np.float64], *, size: int = SIZE, template: NDArray[np.float64]
) -> NDArray[np.uint8]:
    """The face with these points, uint8 (size, size, 3); black where the image ends.

    `image` is uint8 (H, W, 3); `points` (5, 2) in pixels, x first; `template` is
    `ARCFACE` or `DLIB`. Interpolation is bilinear.
    """
    matrix = similarity(points, template * (size / SIZE))
    turn = np.linalg.inv(matrix[:, :2])
    # Pillow asks where each output pixel comes from, and counts from corners of pixels, points from centres.
    half = np.array([0.5, 0.5])
    offset = half - turn @ (matrix[:, 2] + half)
    data = (turn[0, 0], turn[0, 1], offset[0], turn[1, 0], turn[1, 1], offset[1])
    moved = Image.fromarray(image).transform(
        (size, size), Image.Transform.AFFINE, data, Image.Resampling.BILINEAR
    )
    return np.asarray(moved)
