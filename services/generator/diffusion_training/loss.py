"""What the network is taught, and how far it is from it.

The forward process is that of DDPM (Ho, Jain and Abbeel 2020, arXiv 2006.11239):
x_t = √ᾱ_t x₀ + √(1 − ᾱ_t) ε.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


def target(scheduler: Any, prediction: str, latents: Tensor, noise: Tensor, times: Tensor) -> Tensor:
    """ε, or v = √ᾱ_t ε − √(1 − ᾱ_t) x₀ (Salimans and Ho 2022, arXiv 2202.00512)."""
    if prediction == "epsilon":
        return noise
    found: Tensor = scheduler.get_velocity(latents, noise, times)
    return found


def weights(scheduler: Any, prediction: str, times: Tensor, gamma: float) -> Tensor:
    """Min-SNR weights (Hang et al. 2023, arXiv 2303.09556), float32 (times,); ones for a `gamma` of 0.

    min(SNR, γ) / SNR for ε, min(SNR, γ) / (SNR + 1) for v, with SNR = ᾱ_t / (1 − ᾱ_t).
    """
    import torch
    from diffusers.training_utils import compute_snr

    if not gamma:
        return torch.ones(len(times), device=times.device)
    snr: Tensor = compute_snr(scheduler, times)
    return torch.clamp(snr, max=gamma) / (snr + 1 if prediction == "v_prediction" else snr)


def weighted(predicted: Tensor, wanted: Tensor, weight: Tensor) -> Tensor:
    """The mean over images of weight × mean squared error of one image; float32 whatever computed."""
    error = (predicted.float() - wanted.float()) ** 2
    return (error.flatten(1).mean(1) * weight).mean()


def with_prior(
    predicted: Tensor, wanted: Tensor, weight: Tensor, instances: int, prior_weight: float
) -> Tensor:
    """DreamBooth's loss (Ruiz et al. 2023, arXiv 2208.12242): instances + `prior_weight` × class images.

    The first `instances` rows are the instances, the others the class images.
    """
    own = weighted(predicted[:instances], wanted[:instances], weight[:instances])
    prior = weighted(predicted[instances:], wanted[instances:], weight[instances:])
    return own + prior_weight * prior
