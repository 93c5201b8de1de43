"""From a batch to its loss: latents, noise, times, text, what the UNet says, how far it is off."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from services.generator.diffusion_training import draws, loss
from services.generator.diffusion_training.batches import Batch, prior_seed
from services.generator.diffusion_training.modules import Modules
from services.generator.diffusion_training.settings import Settings

if TYPE_CHECKING:
    import torch
    from torch import Tensor


REMEMBERED = 4_096
"""Captions whose token ids are kept: 2.5 MB."""


class Objective:
    """The loss of a batch as a function of the weights.

    `unet` and `text_encoder` are those of `modules`, as they are wrapped for the
    device. `dtype` is what the frozen networks compute in.
    """

    def __init__(
        self,
        modules: Modules,
        settings: Settings,
        unet: Any,
        text_encoder: Any,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self._modules, self._settings = modules, settings
        self._unet, self._text_encoder = unet, text_encoder
        self._device, self._dtype = device, dtype
        self._trains_text = modules.trains_text()
        # Captions made from labels are few and come again.
        self._tokens = lru_cache(REMEMBERED)(lambda caption: tokenised(modules.tokenizer, [caption])[0])

    def __call__(self, batch: Batch) -> Tensor:
        """The loss of one forward pass, a float32 scalar."""
        settings, scheduler = self._settings, self._modules.scheduler
        latents = self._latents(batch)
        noise = self._noise(latents.shape[1:], "noise", batch)
        if settings.noise_offset:
            noise = noise + settings.noise_offset * self._noise((latents.shape[1], 1, 1), "offset", batch)
        times = self._times(batch)
        disturbed = noise
        if settings.input_perturbation:
            extra = self._noise(latents.shape[1:], "perturbation", batch)
            disturbed = noise + settings.input_perturbation * extra
        noisy = scheduler.add_noise(latents, disturbed, times)
        predicted = self._unet(noisy.to(self._dtype), times, self._text(batch.captions), return_dict=False)[0]
        wanted = loss.target(scheduler, self._modules.prediction, latents, noise, times)
        weight = loss.weights(scheduler, self._modules.prediction, times, settings.snr_gamma)
        if not batch.with_class:
            return loss.weighted(predicted, wanted, weight)
        return loss.with_prior(predicted, wanted, weight, len(batch.places), settings.prior_weight)

    def _latents(self, batch: Batch) -> Tensor:
        """A draw of what the VAE makes of the pixels, scaled, float32."""
        import torch

        vae = self._modules.vae
        with torch.no_grad():
            encoded = vae.encode(batch.pixels.to(self._device, self._dtype)).latent_dist
            drawn = self._noise(encoded.mean.shape[1:], "latent", batch)
            found: Tensor = (encoded.mean.float() + encoded.std.float() * drawn) * vae.config.scaling_factor
        return found

    def _text(self, captions: Sequence[str]) -> Tensor:
        """What the text encoder makes of the captions."""
        import torch

        tokens = torch.stack([self._tokens(caption) for caption in captions]).to(self._device)
        with torch.set_grad_enabled(self._trains_text):
            found: Tensor = self._text_encoder(tokens)[0].to(self._dtype)
        return found

    def _noise(self, shape: Sequence[int], purpose: str, batch: Batch) -> Tensor:
        return self._drawn(batch, lambda seed: draws.normal(shape, seed, purpose, batch.places))

    def _times(self, batch: Batch) -> Tensor:
        below = self._modules.scheduler.config.num_train_timesteps
        return self._drawn(batch, lambda seed: draws.times(below, seed, batch.places))

    def _drawn(self, batch: Batch, draw: Any) -> Tensor:
        """The draws of the instances, then those of the class images."""
        import torch

        found = [draw(self._settings.seed)]
        if batch.with_class:
            found.append(draw(prior_seed(self._settings)))
        return torch.cat(found).to(self._device)


def tokenised(tokenizer: Any, captions: Sequence[str]) -> Tensor:
    """Token ids, int64 (captions, most tokens), padded, and cut where there are more."""
    found: Tensor = tokenizer(
        list(captions),
        max_length=tokenizer.model_max_length,
        padding="max_length",
        truncation=True,
        return_tensors="pt",
    ).input_ids
    return found
