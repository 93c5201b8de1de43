"""ArcFace's additive angular margin (Deng et al. 2019), which `margins.MarginLoss` trains with.

    L = −log( e^{s·cos(θ_y + m)} / (e^{s·cos(θ_y + m)} + Σ_{j≠y} e^{s·cos θ_j}) )

θ_j is the angle between an embedding and the centre of class j, m the margin in
radians, s the scale. With m = 0 and s = 1 it is the cross-entropy of the cosines.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fairloop.errors import InvalidInput

LARGEST_SCALE = 1000.0


def with_margin(cosine: Tensor, labels: Tensor, margin: float) -> Tensor:
    """Cosines in which that of each row's own class is cos(θ + margin): (N, C) → (N, C).

    `cosine` is float (N, C), `labels` int64 (N,) in 0…C−1, `margin` radians.
    Beyond θ = π − margin, where cos(θ + margin) would rise again, the value is
    cos θ − margin·sin margin, as in ArcFace's published code, so it falls over
    the whole range. The gradient is finite everywhere, at cos θ = ±1 too.
    """
    own = cosine.gather(1, labels[:, None])
    # cos(θ + m) = cos θ·cos m − sin θ·sin m. d sin θ/d cos θ is infinite at cos θ = ±1; under this
    # floor (one rounding step of float32, θ = 0.02°) sin θ is held constant instead.
    sine = (1 - own * own).clamp_min(torch.finfo(torch.float32).eps).sqrt()
    moved = own * math.cos(margin) - sine * math.sin(margin)
    moved = torch.where(own > -math.cos(margin), moved, own - margin * math.sin(margin))
    return cosine.scatter(1, labels[:, None], moved)


def check(scale: float, margin: float) -> None:
    """InvalidInput on `scale` or `margin` (radians) when it is outside what a loss takes."""
    if not 0 < scale <= LARGEST_SCALE:
        raise InvalidInput("scale", f"{scale} is outside 0–{LARGEST_SCALE:g}, 0 excluded")
    if not 0 <= margin < math.pi / 2:
        raise InvalidInput("margin", f"{margin} radians is outside 0–{math.pi / 2:.4f}")
