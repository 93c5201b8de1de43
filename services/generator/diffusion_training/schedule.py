"""The learning rate over the steps: diffusers' own six schedules."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.generator.diffusion_training.settings import Settings

if TYPE_CHECKING:
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LambdaLR


def make(optimiser: Optimizer, settings: Settings, total: int) -> LambdaLR:
    """The schedule of a training of `total` steps of the optimiser, at its beginning.

    It is stepped once for each step of the optimiser, whatever the number of
    processes: warm-up and total count steps of the optimiser.
    """
    from diffusers.optimization import get_scheduler

    return get_scheduler(
        settings.schedule,
        optimiser,
        num_warmup_steps=settings.warmup_steps,
        num_training_steps=total,
        num_cycles=settings.cycles,
        power=settings.power,
    )
