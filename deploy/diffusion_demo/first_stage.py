"""The VAE of the demo's base learns to give faces back."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

BATCH, RATE, WARM_UP = 16, 6e-3, 0.1
SAID = 100
"""Steps between two lines about how far it is."""
LEAST_LOG_VARIANCE = -12.0
"""The VAE's spread is put to nearly nothing: for some thousand faces there is no need to fill a Gaussian."""


def teach_vae(folder: Path, pixels: Tensor, seed: int, steps: int) -> float:
    """Trains the VAE of a folder on pictures in [−1, 1]; the root mean square error at the end.

    Its latents come out with mean 0 and variance 1 in every channel, which is what
    the noise of the schedule is made for.
    """
    import torch
    from diffusers import AutoencoderKL

    torch.manual_seed(seed)
    vae: Any = AutoencoderKL.from_pretrained(folder, use_safetensors=True).float()
    _narrow(vae)
    optimiser = torch.optim.AdamW(vae.parameters(), lr=RATE, betas=(0.9, 0.99), weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=steps, pct_start=WARM_UP)
    began = time.monotonic()
    for step in range(steps):
        batch = pixels[torch.randint(len(pixels), (BATCH,))]
        back = vae.decode(vae.encode(batch).latent_dist.mean).sample
        loss = torch.nn.functional.mse_loss(back, batch)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        if step % SAID == SAID - 1:
            left = (time.monotonic() - began) / (step + 1) * (steps - step - 1)
            error = loss.item() ** 0.5
            print(
                f"  VAE: step {step + 1} of {steps}, error {error:.3f}, about {left:.0f} s left", flush=True
            )
    with torch.inference_mode():
        latents = torch.cat([vae.encode(part).latent_dist.mean for part in pixels[:512].split(64)])
        given = torch.cat([vae.decode(part).sample for part in latents.split(64)])
        error = math.sqrt(torch.nn.functional.mse_loss(given, pixels[:512]).item())
    _standardise(vae, latents.mean((0, 2, 3)).clone(), latents.std((0, 2, 3)).clone())
    vae.register_to_config(scaling_factor=1.0)
    vae.save_pretrained(folder, safe_serialization=True)
    return error


def _standardise(vae: Any, mean: Tensor, deviation: Tensor) -> None:
    """Latents (z − mean) / deviation in place of z, and a decoder that takes them."""
    import torch

    channels = len(mean)
    _narrow(vae)
    with torch.no_grad():
        before, after = vae.quant_conv, vae.post_quant_conv  # both 1 × 1
        before.weight[:channels] /= deviation[:, None, None, None]
        before.bias[:channels] = (before.bias[:channels] - mean) / deviation
        after.bias += after.weight[:, :, 0, 0] @ mean
        after.weight *= deviation[None, :, None, None]


def _narrow(vae: Any) -> None:
    import torch

    channels = vae.config.latent_channels
    with torch.no_grad():
        vae.quant_conv.weight[channels:].zero_()
        vae.quant_conv.bias[channels:].fill_(LEAST_LOG_VARIANCE)
