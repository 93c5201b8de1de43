"""The loop of a training: noise, prediction, loss, step; the same for every recipe."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fairloop.errors import InvalidInput, PreconditionFailed
from fairloop.scratch import scratch_folder
from services.generator.diffusion_training import checkpoint, schedule
from services.generator.diffusion_training.batches import Batch, Batches
from services.generator.diffusion_training.modules import Modules, compute_dtype, device
from services.generator.diffusion_training.objective import Objective
from services.generator.diffusion_training.pictures import Pictures
from services.generator.diffusion_training.processes import Group
from services.generator.diffusion_training.settings import Settings

if TYPE_CHECKING:
    from torch import Tensor


class Watch:
    """What the world does while a training runs; this one does nothing.

    Asked in the leading process only.
    """

    checkpoint_steps = 0
    """Steps between checkpoints; 0: none."""
    sample_steps = 0
    """Steps between validation images; 0: none."""

    def ready(self, modules: Modules) -> None:
        """The networks are loaded; the training begins."""

    def should_stop(self) -> bool:
        """Asked before every step; when it says yes, a last checkpoint is given and the training ends."""
        return False

    def progress(self, step: int, total: int, loss: float) -> None:
        """After every step."""

    def checkpoint(self, step: int, path: Path) -> None:
        """A checkpoint is in this file until the call returns."""

    def sample(self, step: int, modules: Modules) -> None:
        """Time for validation images; the networks hold what would be published now."""


@dataclass(frozen=True)
class Outcome:
    """What a training came to: `step` of `total` steps, one loss each, of a resumed one's earlier steps too.

    The networks hold what is to be published, unless it was `stopped` before its last step.
    """

    step: int
    total: int
    losses: Sequence[float]
    stopped: bool


def fit(
    modules: Modules,
    pictures: Pictures,
    settings: Settings,
    *,
    identity: Mapping[str, Any],
    class_pictures: Pictures | None = None,
    group: Group | None = None,
    resume: Path | None = None,
    finished: Sequence[Mapping[str, Any]] = (),
    watch: Watch | None = None,
) -> Outcome:
    """Trains what `modules` lets move on captioned images.

    `identity` names the training in its checkpoints, beside the settings.
    `class_pictures` are those of DreamBooth's prior. `resume` is a checkpoint of
    this very training; `finished` is kept in its checkpoints for the caller (`checkpoint.finished`).
    The result does not depend on how often it was stopped,
    and, but for rounding, not on how a step's images are divided into
    forward passes and processes.

    Raises InvalidInput on `learning_rate`, with the step, when the loss or a
    gradient is no longer finite, and on `checkpoint` for one of another training.
    """
    from accelerate.state import AcceleratorState

    group = group or Group()
    watch = watch or Watch()
    watch.ready(modules)
    try:
        training = _Training(modules, pictures, class_pictures, settings, group, identity, finished)
        try:
            return training.run(resume, watch)
        finally:
            training.close()
    finally:
        # accelerate remembers the precision of its first training for the whole process.
        AcceleratorState._reset_state()


class _Training:
    def __init__(
        self,
        modules: Modules,
        pictures: Pictures,
        class_pictures: Pictures | None,
        settings: Settings,
        group: Group,
        identity: Mapping[str, Any],
        finished: Sequence[Mapping[str, Any]],
    ) -> None:
        import torch
        from diffusers.training_utils import EMAModel

        self.modules, self.settings, self.group, self.finished = modules, settings, group, finished
        self.batches = Batches(pictures, class_pictures, settings, group.rank, group.size)
        self.accelerator = _accelerator(settings)
        self.identity = {
            **identity,
            "settings": settings.to_json(),
            "images_per_step": settings.images_per_step(group.size),
        }
        self.total = settings.steps(len(pictures), group.size)
        place = self.accelerator.device
        dtype = compute_dtype(settings)
        modules.vae.to(place)
        # What moves is kept in float32, or its small steps would be lost; the rest need not be.
        modules.text_encoder.to(place, torch.float32 if modules.trains_text() else dtype)
        modules.unet.to(place)
        if settings.lora_rank:
            _halve_frozen(modules, dtype)
        self.trained = modules.trained()
        self.optimiser = self.accelerator.prepare_optimizer(_optimiser(self.trained, settings, group.size))
        self.schedule = schedule.make(self.optimiser.optimizer, settings, self.total)
        self.ema = EMAModel(self.trained, decay=settings.ema_decay, foreach=True) if settings.ema else None
        unet, text_encoder = self.accelerator.prepare_model(modules.unet), modules.text_encoder
        self.moving = [unet]
        if modules.trains_text():
            text_encoder = self.accelerator.prepare_model(text_encoder)
            self.moving.append(text_encoder)
        self.objective = Objective(modules, settings, unet, text_encoder, place, dtype)
        self.losses: list[float] = []

    def close(self) -> None:
        """Gives the networks back as they were handed in."""
        for network in self.moving:
            self.accelerator.unwrap_model(network, keep_fp32_wrapper=False)

    def run(self, resume: Path | None, watch: Watch) -> Outcome:
        if resume is not None:
            self._restore(resume)
        with closing(self.batches.steps(len(self.losses), self.total)) as batches:
            for step in range(len(self.losses), self.total):
                if self.group.decide(watch.should_stop()):
                    if self.group.leads:
                        self._checkpoint(step, watch)
                    return Outcome(step, self.total, self.losses, stopped=True)
                value, norm = self._step(batches)
                self._after_step(step, value, norm, watch)
        if self.ema is not None:
            self.ema.copy_to(self.trained)
        return Outcome(self.total, self.total, self.losses, stopped=False)

    def _step(self, batches: Iterator[Batch]) -> tuple[float, float]:
        """One step of the optimiser: the mean loss of its forward passes, the norm of the gradient."""
        import torch

        total = torch.zeros((), device=self.accelerator.device)
        norm = torch.zeros(())
        for _ in range(self.settings.accumulation):
            with self.accelerator.accumulate(*self.moving):
                value = self.objective(next(batches))
                self.accelerator.backward(value)
                total += value.detach()
                if self.accelerator.sync_gradients:
                    norm = self.accelerator.clip_grad_norm_(self.trained, self.settings.max_gradient_norm)
                self.optimiser.step()
                self.optimiser.zero_grad(set_to_none=True)
        # Of the other processes' forward passes too.
        mean = self.accelerator.reduce(total / self.settings.accumulation, "mean")
        return float(mean.item()), float(norm)

    def _after_step(self, step: int, value: float, norm: float, watch: Watch) -> None:
        skipped = self.accelerator.optimizer_step_was_skipped  # float16 overflowed; its scale is lowered
        if not math.isfinite(value) or not (math.isfinite(norm) or skipped):
            raise InvalidInput(
                "learning_rate",
                f"training diverged at step {step + 1} of {self.total} (loss {value:g}, gradient {norm:g}); "
                f"a rate under {self.settings.learning_rate:g} or a longer warm-up is needed",
                step=str(step + 1),
            )
        if not skipped:
            self.schedule.step()
            if self.ema is not None:
                self.ema.step(self.trained)
        self.losses.append(value)
        if not self.group.leads:
            return
        if watch.checkpoint_steps and (step + 1) % watch.checkpoint_steps == 0 and step + 1 < self.total:
            self._checkpoint(step + 1, watch)
        if watch.sample_steps and (step + 1) % watch.sample_steps == 0:
            self._sample(step + 1, watch)
        watch.progress(step + 1, self.total, value)

    def _weights(self) -> dict[str, Tensor]:
        return dict(self.modules.named())

    def _checkpoint(self, step: int, watch: Watch) -> None:
        scaler = self.accelerator.scaler
        with scratch_folder("checkpoint") as folder:
            path = folder / "state"
            checkpoint.save(
                path,
                self.identity,
                self.losses,
                self._weights(),
                optimiser=self.optimiser.optimizer.state_dict(),
                schedule=self.schedule.state_dict(),
                ema=self.ema.state_dict() if self.ema is not None else None,
                scaler=scaler.state_dict() if scaler is not None else None,
                finished=[dict(run) for run in self.finished],
            )
            watch.checkpoint(step, path)

    def _restore(self, path: Path) -> None:
        found = checkpoint.load(path, self.identity, self._weights())
        self.optimiser.optimizer.load_state_dict(found["optimiser"])
        self.schedule.load_state_dict(found["schedule"])
        if self.ema is not None:
            self.ema.load_state_dict(found["ema"])
            self.ema.to(self.accelerator.device)
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(found["scaler"])
        self.losses = [float(value) for value in found["losses"]]

    def _sample(self, step: int, watch: Watch) -> None:
        """Validation with the weights that would be published now; the training's own are put back."""
        if self.ema is None:
            watch.sample(step, self.modules)
            return
        self.ema.store(self.trained)
        try:
            self.ema.copy_to(self.trained)
            watch.sample(step, self.modules)
        finally:
            self.ema.restore(self.trained)


def check_machine(settings: Settings) -> None:
    """`PreconditionFailed` for settings that need what this machine does not have; nothing is loaded."""
    if settings.mixed_precision == "fp16" and device().type != "cuda":
        raise PreconditionFailed(
            "mixed_precision fp16 needs CUDA; on this machine no and bf16 can be trained"
        )
    if settings.optimiser == "adamw_8bit":
        _eight_bit()


def _accelerator(settings: Settings) -> Any:
    import torch
    from accelerate import Accelerator

    check_machine(settings)
    cuda = device().type == "cuda"
    if settings.allow_tf32:
        torch.backends.cuda.matmul.allow_tf32 = True
    return Accelerator(
        mixed_precision=settings.mixed_precision,
        gradient_accumulation_steps=settings.accumulation,
        step_scheduler_with_optimizer=False,
        cpu=not cuda,
    )


def _optimiser(parameters: Sequence[Any], settings: Settings, processes: int) -> Any:
    options: dict[str, Any] = {
        "lr": settings.rate(processes),
        "betas": (settings.beta1, settings.beta2),
        "weight_decay": settings.weight_decay,
        "eps": settings.epsilon,
    }
    if settings.optimiser == "adamw_8bit":
        return _eight_bit()(parameters, **options)
    import torch

    # One pass over the weights and not five. A scaler of gradients could not tell us that it skipped a step.
    return torch.optim.AdamW(parameters, **options, fused=settings.mixed_precision != "fp16")


def _eight_bit() -> Callable[..., Any]:
    """bitsandbytes' AdamW; it is no dependency of ours, since it needs CUDA."""
    import importlib

    import torch

    try:
        found: Callable[..., Any] = importlib.import_module("bitsandbytes").optim.AdamW8bit
    except ImportError:
        found = None  # type: ignore[assignment]
    if found is None or not torch.cuda.is_available():
        raise PreconditionFailed(
            "optimiser adamw_8bit needs CUDA and bitsandbytes (pip install bitsandbytes); adamw needs neither"
        )
    return found


def _halve_frozen(modules: Modules, dtype: Any) -> None:
    """The frozen weights under a LoRA in the precision that is computed in."""
    for parameter in modules.unet.parameters():
        if not parameter.requires_grad:
            parameter.data = parameter.data.to(dtype)
