"""Margin losses: softmax cross-entropy on cosines, each row's own class made harder.

    L = −log( e^{s·t} / (e^{s·t} + Σ_{j≠y} e^{s·cos θ_j}) ),   t = cos(m₁·θ_y + m₂) − m₃

ArcFace (Deng et al. 2019) is m₁ = 1, m₃ = 0; CosFace (Wang et al. 2018) is m₁ = 1,
m₂ = 0; the combined margin has all three. Margins may differ from row to row,
which is how groups get margins of their own. What the whole comes to is either
the mean over rows, or CVaR over the groups' mean losses (Hashimoto et al. 2018;
in DAW-FDD, Ju et al. 2024, the outer of two).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from fairloop.errors import InvalidInput
from services.recognizer.arcface import check, with_margin

LOSSES = ("arcface", "cosface", "combined")
FLOOR = torch.finfo(torch.float32).eps


@dataclass(frozen=True)
class Margins:
    """What is done to the cosine of a row's own class; InvalidInput names a field that is not allowed."""

    multiplier: float = 1.0
    """m₁, 1–4: multiplies the angle."""
    angle: float = 0.5
    """m₂ in radians, 0–π/2."""
    cosine: float = 0.0
    """m₃, 0–1."""

    def __post_init__(self) -> None:
        check(1.0, self.angle)
        if not 1 <= self.multiplier <= 4:
            raise InvalidInput("margin_multiplier", f"{self.multiplier} is outside 1–4")
        if not 0 <= self.cosine <= 1:
            raise InvalidInput("cosine_margin", f"{self.cosine} is outside 0–1")


def harder(
    cosine: Tensor, labels: Tensor, multiplier: float, angle: float | Tensor, taken: float | Tensor
) -> Tensor:
    """Cosines in which that of each row's own class is cos(multiplier·θ + angle) − taken: (N, C) → (N, C).

    `cosine` is float (N, C), `labels` int64 (N,); `angle` (radians) and `taken`
    are one number or one a row, (N,). Where multiplier·θ + angle exceeds π, cos
    is continued downwards (as SphereFace continues it, or ArcFace for
    multiplier 1), so that the value falls over the whole range. Gradients are
    finite everywhere, at cos θ = ±1 too.
    """
    rows = labels[:, None]
    if multiplier != 1:
        own = cosine.gather(1, rows)
        theta = torch.acos(own.clamp(-1 + FLOOR, 1 - FLOOR))
        moved = _falling(multiplier * theta + _column(angle))
        cosine = cosine.scatter(1, rows, moved.to(cosine.dtype))
    elif isinstance(angle, Tensor):
        cosine = _each_its_own(cosine, rows, angle[:, None])
    elif angle:
        cosine = with_margin(cosine, labels, angle)
    if isinstance(taken, Tensor) or taken:
        own = cosine.gather(1, rows) - _column(taken)
        cosine = cosine.scatter(1, rows, own.to(cosine.dtype))
    return cosine


def conditional_value_at_risk(losses: Tensor, share: float) -> Tensor:
    """Mean of the worst `share` of the losses: min over λ of λ + mean(max(ℓ − λ, 0))/share.

    `losses` is (G,), `share` above 0 and at most 1 (1: their mean). The minimum
    is taken in closed form: the worst loss counts 1/(share·G), then the next,
    until the weights add up to 1. Its gradient is that of the losses so weighed.
    """
    ranked = losses.sort(descending=True).values
    each = 1 / (share * len(losses))
    before = torch.arange(len(losses), device=losses.device, dtype=losses.dtype) * each
    return (ranked * (1 - before).clamp(0, each)).sum()


class MarginLoss(nn.Module):
    """A loss and its class centres, which are trained with the network.

    `forward(embeddings, labels)` takes float32 (N, embedding), normalised here,
    and int64 (N,), and returns the mean loss. Centres are drawn from torch's
    global generator (standard deviation 0.01, as published; only directions count).
    """

    def __init__(
        self,
        classes: int,
        embedding: int,
        margins: Margins,
        *,
        scale: float = 64.0,
        interclass_filter: float = 0.0,
        sample_rate: float = 1.0,
        class_margins: Tensor | None = None,
        class_margins_of: Literal["angle", "cosine"] = "angle",
        class_groups: Tensor | None = None,
        worst_share: float = 0.0,
    ) -> None:
        """Raises InvalidInput unless classes ≥ 2 and scale and shares are in range.

        `interclass_filter`, when above 0, sets cosines of other classes beyond it
        to 0, so that people under two labels are not pushed apart. `sample_rate`
        below 1 is Partial FC (An et al. 2022): a step sees the classes in its
        batch and others drawn at random, that share of all together.
        `class_margins` (C,) takes the place of `margins.angle`, or of
        `margins.cosine`, class by class. `class_groups` int64 (C,) and
        `worst_share` above 0 make the loss CVaR over groups.
        """
        super().__init__()
        if classes < 2:
            raise InvalidInput("classes", f"{classes} is not 2 or more")
        check(scale, margins.angle)
        self.scale, self.margins = scale, margins
        self.interclass_filter, self.sample_rate = interclass_filter, sample_rate
        self.worst_share, self.class_margins_of = worst_share, class_margins_of
        self.centres = nn.Parameter(torch.empty(classes, embedding).normal_(std=0.01))
        # Not part of the state: they follow from the data and the settings.
        self.register_buffer("class_margins", class_margins, persistent=False)
        self.register_buffer("class_groups", class_groups, persistent=False)

    def forward(self, embeddings: Tensor, labels: Tensor, seed: int = 0) -> Tensor:
        """`seed` draws the classes of a partial step, and nothing else."""
        logits, own = self.logits(embeddings, labels, seed)
        if not self.worst_share:
            return functional.cross_entropy(logits, own)
        losses = functional.cross_entropy(logits, own, reduction="none")
        return conditional_value_at_risk(self._by_group(losses, labels), self.worst_share)

    def whole(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """The mean loss over rows against all classes, whatever a step sees and however groups count."""
        return functional.cross_entropy(*self.logits(embeddings, labels, None))

    def logits(self, embeddings: Tensor, labels: Tensor, seed: int | None) -> tuple[Tensor, Tensor]:
        """Scaled cosines with their margins, (N, classes of this step), and each row's place among these.

        `seed` None takes all classes.
        """
        partial = seed is not None and self.sample_rate < 1
        centres, own = self._sampled(labels, seed or 0) if partial else (self.centres, labels)
        cosine = functional.normalize(embeddings) @ functional.normalize(centres).T
        if self.interclass_filter:
            others = torch.ones_like(cosine, dtype=torch.bool).scatter(1, own[:, None], False)
            cosine = cosine.masked_fill(others & (cosine.detach() > self.interclass_filter), 0.0)
        m = self.margins
        angle: float | Tensor = m.angle
        taken: float | Tensor = m.cosine
        if isinstance(self.class_margins, Tensor):
            if self.class_margins_of == "cosine":
                taken = self.class_margins[labels]
            else:
                angle = self.class_margins[labels]
        return self.scale * harder(cosine, own, m.multiplier, angle, taken), own

    def _sampled(self, labels: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        """The centres of this step's classes, and the labels as places among them."""
        count = max(2, int(self.sample_rate * len(self.centres)))
        present = torch.unique(labels)
        if len(present) < count:
            generator = torch.Generator().manual_seed(seed)
            drawn = torch.rand(len(self.centres), generator=generator).to(labels.device)
            drawn[present] = 2.0
            present = drawn.topk(count).indices.sort().values
        return self.centres[present], torch.searchsorted(present, labels)

    def _by_group(self, losses: Tensor, labels: Tensor) -> Tensor:
        """Mean loss of each group with rows here."""
        assert isinstance(self.class_groups, Tensor)
        present, place = torch.unique(self.class_groups[labels], return_inverse=True)
        totals = losses.new_zeros(len(present)).index_add(0, place, losses)
        return totals / losses.new_zeros(len(present)).index_add(0, place, torch.ones_like(losses))


def _each_its_own(cosine: Tensor, rows: Tensor, angle: Tensor) -> Tensor:
    """`arcface.with_margin` with a margin a row, (N, 1)."""
    own = cosine.gather(1, rows)
    sine = (1 - own * own).clamp_min(FLOOR).sqrt()
    moved = own * torch.cos(angle) - sine * torch.sin(angle)
    moved = torch.where(own > -torch.cos(angle), moved, own - angle * torch.sin(angle))
    return cosine.scatter(1, rows, moved.to(cosine.dtype))


def _falling(psi: Tensor) -> Tensor:
    """cos ψ on 0…π, continued downwards: (−1)^k·cos ψ − 2k with k = ⌊ψ/π⌋."""
    turns = torch.floor(psi.detach() / math.pi)
    return torch.cos(psi) * (1 - 2 * (turns % 2)) - 2 * turns


def _column(value: float | Tensor) -> float | Tensor:
    return value[:, None] if isinstance(value, Tensor) else value
