"""Components of a face's quality, each 0–1 and 1 best, under the names of ISO/IEC 29794-5.

They say what is wrong with a picture; `quality` in the table is one number from
sharpness, size and detection, and stays what it was. Pitch is not among them:
five landmarks do not show it. What the standard calls occlusion is measured by
what can be seen, not by a network that knows what covers faces (`occlusion.py`).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from services.annotator.detector import Detection
from services.annotator.face import Face
from services.annotator.occlusion import seen

# The sharpness (`scene.sharpness`) of a photograph in focus: t1.jpg of insightface has .010–.015.
SHARP = 0.01
# Pixels between the eyes' centres from which on a face counts as large enough: ISO/IEC 39794-5 asks for
# 90 in a passport's picture.
FULL_EYE_DISTANCE = 90.0
# Luma up to and from which a pixel is lost in the dark or in the light, as in OFIQ, the standard's
# reference implementation.
DARKEST, BRIGHTEST = 25, 247
# The nose's base lies so many eye distances off the middle (`scene.yaw`) when a head shows its half profile.
HALF_PROFILE = 0.5
# Luma of Rec. 601, as the formats that pictures come in have it.
LUMA = np.array([0.299, 0.587, 0.114], np.float32)
# Enough pixels a side for a share to 1 %.
SAMPLED_SIDE = 64


def components(pixels: NDArray[np.uint8], found: Detection, scene: Mapping[str, float]) -> dict[str, float]:
    """The components of one face of uint8 (H, W, 3) pixels, by the names of `fairloop.tables.QUALITY`.

    - `sharpness`: full from that of a photograph in focus on.
    - `under_exposure_prevention`, `over_exposure_prevention`: the share of the
      box's pixels that are not lost in the dark, and in the light. The first is
      lower for dark skin in the same light: look at a gate's rates per group.
    - `inter_eye_distance`: full from 90 pixels on.
    - `head_pose_yaw`: 1 frontal, 0 from the half profile on, linear in the
      nose's offset; `head_pose_roll`: the squared cosine of the eye line's angle.
    - `eyes_visible`: how clearly the less visible eye shows; `mouth_occlusion_prevention`:
      the same of the mouth; `face_occlusion_prevention`: the mean of both eyes,
      nose and mouth.
    """
    eyes = found.landmarks[:4].reshape(2, 2, 2).mean(axis=1)
    luma = _luma(pixels, found.box)
    visible = seen(Face(pixels, found.box, found.landmarks))
    return {
        "sharpness": min(1.0, scene["sharpness"] / SHARP),
        "under_exposure_prevention": float((luma > DARKEST).mean()) if luma.size else 0.0,
        "over_exposure_prevention": float((luma < BRIGHTEST).mean()) if luma.size else 0.0,
        "inter_eye_distance": min(1.0, float(np.linalg.norm(eyes[1] - eyes[0])) / FULL_EYE_DISTANCE),
        "head_pose_yaw": max(0.0, 1 - abs(scene["yaw"]) / HALF_PROFILE),
        "head_pose_roll": max(0.0, float(np.cos(np.radians(scene["roll"])))) ** 2,
        "eyes_visible": min(visible["right_eye"], visible["left_eye"]),
        "mouth_occlusion_prevention": visible["mouth"],
        "face_occlusion_prevention": sum(visible.values()) / len(visible),
    }


def _luma(pixels: NDArray[np.uint8], box: tuple[float, float, float, float]) -> NDArray[np.float32]:
    height, width = pixels.shape[:2]
    left, top, right, bottom = (round(edge) for edge in box)
    crop = pixels[max(top, 0) : min(bottom, height), max(left, 0) : min(right, width)]
    step = max(1, max(crop.shape[:2], default=1) // SAMPLED_SIDE)
    light: NDArray[np.float32] = crop[::step, ::step].astype(np.float32) @ LUMA
    return light
