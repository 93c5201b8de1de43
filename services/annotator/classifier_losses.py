"""What a classifier's training makes small: the mean loss, or the mean of the worst losses.

DAG-FDD and DAW-FDD are those of Ju et al., Improving Fairness in Deepfake
Detection (WACV 2024): the worst images whoever is on them, and the worst groups
of them.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

LOSSES = ("cross_entropy", "dag", "daw")
OVER_IMAGES = 0.5
OVER_GROUPS = 0.5
WITHIN_GROUPS = 0.9
"""Shares of the worst that the published settings count."""


def cvar(losses: Tensor, alpha: float) -> Tensor:
    """Conditional value at risk: the mean of the largest share `alpha` of the losses (N,), as a scalar.

    What `fairloop.stats.risk.cvar` measures, with a gradient: λ + mean(max(loss − λ, 0))/α at its least λ.
    """
    share = alpha * len(losses)
    place = torch.arange(len(losses), device=losses.device, dtype=losses.dtype)
    weight = (share - place).clamp(0.0, 1.0)
    return (losses.sort(descending=True).values * weight).sum() / share


def risk(
    losses: Tensor, groups: Tensor | None, kind: str, worst_share: float, worst_share_within: float
) -> Tensor:
    """One number of the losses (N,) of a batch, as `kind` of `LOSSES` has it.

    dag: CVaR over the images. daw: CVaR at `worst_share` over the groups that
    the batch has, each group's number being the CVaR at `worst_share_within`
    over its images; `groups` is int64 (N,).
    """
    if kind == "cross_entropy":
        return losses.mean()
    if kind == "dag":
        return cvar(losses, worst_share)
    assert groups is not None, "the groups of daw"
    within = [cvar(losses[groups == group], worst_share_within) for group in sorted(set(groups.tolist()))]
    return cvar(torch.stack(within), worst_share)


def image_losses(logits: Tensor, labels: Tensor, class_weights: Tensor | None = None) -> Tensor:
    """Cross-entropy of each image, (N,), times the weight of its class.

    Of two classes it is the binary cross-entropy of the difference of the two logits.
    """
    losses: Tensor = functional.cross_entropy(logits, labels, reduction="none")
    return losses if class_weights is None else losses * class_weights[labels]
