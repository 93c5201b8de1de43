"""A GAN between two steps: settings, both networks, their optimisers, noise of the samples, history.

Binary cross-entropy and Adam, one step of each network in turn. Every draw is
derived from (seed, purpose, index): the first weights from the seed, the noise of
a step from the step's number. So a checkpoint needs no generator's state beside
the seed and the step.
"""

from __future__ import annotations

import copy
import io
import pickle
from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fairloop.errors import InvalidInput
from fairloop.seeds import check_seed, child_seed
from services.generator import dcgan, gan

SCHEMA = "fairloop.gan_checkpoint/1"
TILES = 64
"""Samples of one sheet, 8×8, always of the same noise."""
DAMAGED = (AttributeError, EOFError, LookupError, RuntimeError, TypeError, ValueError, pickle.UnpicklingError)
"""What torch and its restricted unpickler raise for bytes that are no checkpoint of the networks at hand."""
HISTORY = ("discriminator_loss", "generator_loss", "real", "generated")
"""What is kept of every step: both losses, and what the discriminator took real and generated images for,
as a mean probability, before its own step."""

Base = tuple[dcgan.Generator, tuple[str, ...], tuple[str, ...]]
"""A generator to go on from, its cells, and the cells of the new training."""


@dataclass(frozen=True)
class Config:
    """Settings of one training; InvalidInput names the field that is not allowed. The defaults are S1's."""

    shape: gan.Shape = field(default_factory=gan.Shape)
    """What the networks look like."""
    epochs: int = 10
    """Passes over the images, 1–10,000. An epoch drops what is left after its last full batch."""
    batch_size: int = 128
    """Images a step, 2–4,096."""
    learning_rate: float = 2e-4
    """Adam's, of both networks, above 0, at most 1."""
    beta1: float = 0.5
    """Adam's first beta, 0–0.999."""
    beta2: float = 0.999
    """Adam's second beta, 0–0.9999."""
    max_steps: int = 0
    """Stops after so many steps; 0: when the epochs are over."""
    sample_every: int = 500
    """Steps between sheets of samples; one more is made at the end of every epoch."""
    checkpoint_every: int = 200
    """Steps between checkpoints."""
    seed: int = 0
    """0 … 2⁶³−1."""
    threads: int = 0
    """Threads of torch while training, 1–1,024; 0 leaves the process's number."""
    device: str = "cpu"
    """cpu | cuda."""

    def __post_init__(self) -> None:
        check_seed(self.seed)
        for name, least, most in (
            ("epochs", 1, 10_000),
            ("batch_size", 2, 4096),
            ("max_steps", 0, 2**53),
            ("sample_every", 1, 10**9),
            ("checkpoint_every", 1, 10**9),
            ("threads", 0, 1024),
        ):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
                raise InvalidInput(name, f"{value!r} is not a whole number in {least}–{most:,}")
        for name, high in (("beta1", 0.999), ("beta2", 0.9999)):
            if not 0 <= getattr(self, name) <= high:
                raise InvalidInput(name, f"{getattr(self, name)} is outside 0–{high:g}")
        if not 0 < self.learning_rate <= 1:
            raise InvalidInput("learning_rate", f"{self.learning_rate} is outside 0–1, 0 excluded")
        if self.device not in ("cpu", "cuda"):
            raise InvalidInput("device", f"{self.device!r} is not one of cpu, cuda")

    def steps(self, images: int) -> int:
        """Steps of the whole training on so many images."""
        most = self.epochs * (images // self.batch_size)
        return min(most, self.max_steps) if self.max_steps else most


@dataclass(frozen=True)
class Sheet:
    """Samples of the fixed noise after `step` steps, in epoch `epoch` (from 1; 0 before the first step).

    `images` is uint8 (64, size, size, 3); with cells, the rows of the 8×8 go through them in order.
    """

    epoch: int
    step: int
    images: NDArray[np.uint8]

    @property
    def name(self) -> str:
        """S1's name of the file."""
        return sheet_name(self.epoch, self.step)


class Training:
    """The state of a training between two steps: networks, optimisers, noise of the sheets, history."""

    def __init__(self, config: Config, base: Base | None = None) -> None:
        self.config = config
        shape = config.shape
        self.generator, self.discriminator = shape.generator(), shape.discriminator()
        nets: tuple[tuple[str, nn.Module], ...] = (
            ("generator", self.generator),
            ("discriminator", self.discriminator),
        )
        for purpose, net in nets:
            drawing = torch.Generator().manual_seed(child_seed(config.seed, purpose, 0))
            gan.first_weights(net, drawing)
        if base is not None:
            gan.grown(base[0], base[1], self.generator, base[2])
        self.device = torch.device(config.device)
        for _, net in nets:
            # Channels last takes four fifths of the default's time on a CPU; pixels come that way anyway.
            net.to(self.device).to(memory_format=torch.channels_last).train()
        betas = (config.beta1, config.beta2)
        self.optimisers = (
            torch.optim.Adam(self.discriminator.parameters(), config.learning_rate, betas),
            torch.optim.Adam(self.generator.parameters(), config.learning_rate, betas),
        )
        noise = np.random.default_rng(child_seed(config.seed, "sheet", 0)).standard_normal(
            (TILES, shape.latent), np.float32
        )
        rows = np.arange(TILES) // 8
        self.noise = gan.condition(noise, rows % max(shape.cells, 1), shape.cells)
        self._history = array("f")
        # Of the log-odds, which do not round to a probability of 1 however sure the discriminator is.
        self._loss = nn.BCEWithLogitsLoss()
        self._targets = torch.ones(config.batch_size, device=self.device)

    @property
    def done(self) -> int:
        """Steps that were done."""
        return len(self._history) // len(HISTORY)

    @property
    def history(self) -> NDArray[np.float32]:
        """Float32 (done, 4), columns as in `HISTORY`."""
        return np.asarray(self._history, np.float32).reshape(-1, len(HISTORY))

    @property
    def last(self) -> NDArray[np.float32]:
        """The last row of the history, float32 (4,)."""
        return np.asarray(self._history[-len(HISTORY) :], np.float32)

    def step(self, images: NDArray[np.uint8], cells: NDArray[np.int64]) -> None:
        """One step of each network on a batch uint8 (batch, size, size, 3) and its cells (batch,)."""
        shape = self.config.shape
        # As bytes to the device, where they become numbers in [−1, 1].
        pixels = torch.from_numpy(images).to(self.device).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)
        own = torch.from_numpy(cells).to(self.device)
        seed = child_seed(self.config.seed, "noise", self.done)
        drawn = torch.randn(len(images), shape.latent, generator=torch.Generator().manual_seed(seed))
        latents = torch.from_numpy(gan.condition(drawn.numpy(), cells, shape.cells)).to(self.device)
        for_discriminator, for_generator = self.optimisers
        ones = self._targets

        # Real images first and on their own, so that what they leave in memory is gone before the others;
        # gradients go as soon as they are used.
        self.discriminator.requires_grad_(True)
        judged = self.discriminator.logits(gan.planes(pixels, own, shape.cells))
        real = self._loss(judged, ones)
        real.backward()
        made = self.generator(latents[:, :, None, None])
        doubted = self.discriminator.logits(gan.planes(made.detach(), own, shape.cells))
        unreal = self._loss(doubted, torch.zeros_like(ones))
        unreal.backward()
        for_discriminator.step()
        for_discriminator.zero_grad()

        # Gradients of the discriminator are of no use here: without them the step is a tenth shorter.
        self.discriminator.requires_grad_(False)
        fooled = self._loss(self.discriminator.logits(gan.planes(made, own, shape.cells)), ones)
        fooled.backward()
        for_generator.step()
        for_generator.zero_grad()
        taken = (judged.detach().sigmoid().mean(), doubted.detach().sigmoid().mean())
        row = torch.stack(((real + unreal).detach(), fooled.detach(), *taken))
        self._history.extend(row.tolist())

    def sheet(self, per_epoch: int) -> Sheet:
        """The samples of the fixed noise as they are now."""
        # As a published one renders: the training's own memory format may round a pixel otherwise.
        net = copy.deepcopy(self.generator).cpu().to(memory_format=torch.contiguous_format).eval()
        return Sheet(-(-self.done // per_epoch), self.done, dcgan.render(net, self.noise))

    def parts(self) -> dict[str, Any]:
        """What has a state: the networks and their optimisers, by S1's names."""
        return {
            "netG": self.generator,
            "netD": self.discriminator,
            "optimizerG": self.optimisers[1],
            "optimizerD": self.optimisers[0],
        }

    def state(self) -> dict[str, Any]:
        """All that the next step depends on, as tensors and plain values."""
        return {
            "rng": {"seed": self.config.seed, "step": self.done},
            "noise": torch.from_numpy(self.noise),
            "history": torch.from_numpy(self.history),
            **{name: part.state_dict() for name, part in self.parts().items()},
        }

    def take(self, found: Mapping[str, Any]) -> None:
        """Puts back what `state` gave; raises some of `DAMAGED` for another network's."""
        for name, part in self.parts().items():
            part.load_state_dict(found[name])
        self.noise = found["noise"].numpy()
        self._history = array("f", found["history"].flatten().tolist())

    def dump(self, about: Mapping[str, Any]) -> bytes:
        """A checkpoint: everything that `restore` needs, and `about`, the training it is of."""
        buffer = io.BytesIO()
        torch.save({"schema": SCHEMA, "about": dict(about), **self.state()}, buffer)
        return buffer.getvalue()

    def restore(self, checkpoint: bytes, about: Mapping[str, Any]) -> None:
        """Puts everything back; InvalidInput on `checkpoint` when it is another training's, or damaged."""
        try:
            found = torch.load(io.BytesIO(checkpoint), map_location="cpu", weights_only=True)
            if found["schema"] != SCHEMA:
                raise InvalidInput(
                    "checkpoint", f"its schema is {found['schema']!r}; this version reads {SCHEMA}"
                )
            check_about(found["about"], about)
            self.take(found)
        except DAMAGED as error:
            raise InvalidInput("checkpoint", f"is not one of this training: {error}") from error


def check_about(found: Mapping[str, Any], about: Mapping[str, Any]) -> None:
    """InvalidInput on `checkpoint` that names what its training has and this one has otherwise."""
    for name, value in about.items():
        if found.get(name) != value:
            raise InvalidInput(
                "checkpoint", f"was made with {name} {found.get(name)!r}, this training has {value!r}"
            )


def sheet_name(epoch: int, step: int) -> str:
    """S1's name of a sheet's file."""
    return f"epoch{epoch}_step{step}.png"
