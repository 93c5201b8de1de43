"""Trains a network with a margin loss.

Every draw is derived from (seed, purpose, index): the weights from the seed, the
order of an epoch from its number, the flips from the step's. So a checkpoint
needs no generator's state, and a training that went on from one ends in the
same bits as one that was never stopped (same machine, same number of threads).

A step may take several forward passes, in one process or shared by several: its
gradient is the mean over them, and the running statistics of batch norms move
once, to the mean of where each pass alone would have moved them. So two
processes do what one does with twice the accumulation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fairloop.errors import InvalidInput
from fairloop.seeds import child_seed
from fairloop.thread_count import thread_count
from services.recognizer import network, order
from services.recognizer.cells import Cells
from services.recognizer.checkpoint import SCHEMA, History, State
from services.recognizer.config import CRITERIA, OPTIMISERS, SCHEDULES, Config
from services.recognizer.margins import MarginLoss
from services.recognizer.network import Network, embed
from services.recognizer.order import Loader, Order
from services.recognizer.team import Team

__all__ = [
    "OPTIMISERS",
    "SCHEDULES",
    "SCHEMA",
    "Config",
    "Judge",
    "Loader",
    "Result",
    "embed",
    "fit",
    "learning_rate",
]

Judge = Callable[[Network, MarginLoss], Mapping[str, float]]
"""Measures of a network in training, the criterion among them; may put it into evaluation mode."""


@dataclass(frozen=True)
class Result:
    """What a training came to.

    `net` is in evaluation mode: the best by the criterion where there were
    validations, else the last. `step` of `total` steps were done; `losses` and
    `norms` (of the gradient, before it was clipped) are float32 (step,), those
    before a resumed checkpoint included; `evaluations` are in order, each with
    its `step`. `stopped` is true when `should_stop` ended it before its last
    step; early stopping does not count as that.
    """

    net: Network
    step: int
    total: int
    losses: NDArray[np.float32]
    stopped: bool
    norms: NDArray[np.float32]
    evaluations: tuple[Mapping[str, float], ...]
    best_step: int


def fit(
    images: NDArray[np.uint8] | Loader,
    labels: NDArray[np.integer[Any]],
    config: Config,
    *,
    base: Network | None = None,
    cells: Sequence[str] | None = None,
    judge: Judge | None = None,
    checkpoint: bytes | None = None,
    on_checkpoint: Callable[[int, bytes], None] | None = None,
    on_progress: Callable[[int, int, float], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
    team: Team | None = None,
) -> Result:
    """Trains a network to tell the subjects `labels` apart.

    `images` is uint8 (N, size, size, 3), sRGB, or a `Loader`, which is asked
    for one batch at a time, so that memory does not grow with N; only process 0
    of a team reads them. `labels` is (N,), any whole numbers; each distinct one
    is a class. `cells` names each image's group ("" where it is unknown), which
    balanced sampling, CVaR and margins of groups need. `base` is copied and
    trained further; its shape must be the configured one. `judge` is asked at
    the start and as the settings say. `checkpoint` is what
    `on_checkpoint(step, bytes)` got, from a training of the same labels with
    the same settings (`threads` and `checkpoint_every` may differ).

    `on_progress(step, total, loss)` comes after every step. `should_stop` is
    asked before every step; when it says yes, a last checkpoint is given and
    the result is marked `stopped`.

    Raises InvalidInput naming the argument; on `learning_rate`, with the step,
    when the loss or a gradient is no longer finite.
    """
    training = _Training(images, labels, config, base, cells, judge, team or Team())
    if checkpoint is not None:
        training.restore(checkpoint)
    team, total = training.team, training.order.total
    with thread_count(config.threads, torch.get_num_threads, torch.set_num_threads):
        training.judge_when_due()
        while training.done < total and not team.agree(int(training.no_better())):
            step = training.done
            if team.agree(int(should_stop is not None and should_stop())):
                if on_checkpoint is not None:
                    on_checkpoint(step, training.dump())
                return training.result(stopped=True)
            training.step()
            training.judge_when_due()
            if on_progress is not None:
                on_progress(training.done, total, training.history.losses[-1])
            if on_checkpoint is not None and training.done % config.checkpoint_every == 0:
                on_checkpoint(training.done, training.dump())
    return training.result(stopped=False)


def learning_rate(config: Config, step: int, total: int) -> float:
    """The rate of step 0 … total − 1: rises linearly in the warm-up, then follows the schedule."""
    warm = round(config.warmup * total)
    if step < warm:
        return config.learning_rate * (step + 1) / warm
    if config.schedule == "constant":
        return config.learning_rate
    left = 1 - (step - warm) / (total - warm)
    share = left**config.power if config.schedule == "polynomial" else (1 - math.cos(math.pi * left)) / 2
    return config.learning_rate * share


class _Training:
    """The network, its loss and its optimiser, and one step of them."""

    def __init__(
        self,
        images: NDArray[np.uint8] | Loader,
        labels: NDArray[np.integer[Any]],
        config: Config,
        base: Network | None,
        cells: Sequence[str] | None,
        judge: Judge | None,
        team: Team,
    ) -> None:
        self.config, self.team, self._images = config, team, images
        self._judge = judge
        passes = config.accumulation * team.size
        classes, self._labels = _classes(labels, config, passes)
        if not callable(images) and len(images) != len(self._labels):
            raise InvalidInput("labels", f"{len(self._labels)} for {len(images)} images")
        groups = Cells(self._labels, classes, cells, config)
        self.order = Order(config, len(self._labels), passes, groups.of_images)
        self.net = network.made(config, base).to(team.device)
        self.loss = _loss(classes, groups, config).to(team.device)
        self._parameters = [p for p in (*self.net.parameters(), *self.loss.parameters()) if p.requires_grad]
        self._optimiser = _optimiser(self._parameters, config)
        half = config.precision == "float16"
        self._scaler = torch.amp.GradScaler(team.device.type, enabled=half)
        parts: dict[str, Any] = {"net": self.net, "loss": self.loss, "optimiser": self._optimiser}
        if half:
            parts["scaler"] = self._scaler
        self._state = State(config, self._labels, passes, parts)
        self.history = History()
        network.train_mode(self.net, config)

    @property
    def done(self) -> int:
        """Steps that were done."""
        return len(self.history.losses)

    def restore(self, checkpoint: bytes) -> None:
        self.history = self._state.restore(checkpoint)

    def dump(self) -> bytes:
        return self._state.dump(self.history)

    def step(self) -> None:
        """One step of the optimiser."""
        config, step = self.config, self.done
        for group in self._optimiser.param_groups:
            group["lr"] = learning_rate(config, step, self.order.total)
        self._optimiser.zero_grad(set_to_none=True)
        total = self._passes(step)
        self.team.average([*(p.grad for p in self._parameters if p.grad is not None), total])
        self._scaler.unscale_(self._optimiser)
        norm = nn.utils.clip_grad_norm_(self._parameters, config.clip).item()
        loss = total.item()
        # With loss scaling a gradient may overflow: that step is left out and the scale halved.
        if not (math.isfinite(loss) and (math.isfinite(norm) or self._scaler.is_enabled())):
            raise InvalidInput(
                "learning_rate",
                f"training diverged at step {step + 1} of {self.order.total} (loss {loss:g}, gradient "
                f"{norm:g}); a rate under {config.learning_rate:g} or a longer warm-up is needed",
                step=str(step + 1),
            )
        self._scaler.step(self._optimiser)
        self._scaler.update()
        self.history.losses.append(loss)
        self.history.norms.append(norm)

    def _passes(self, step: int) -> Tensor:
        """The forward and backward passes of this process; the sum of their shares of the loss."""
        own = self.config.accumulation
        first = own * self.team.rank
        shared = self.order.passes > 1
        statistics = network.moving_statistics(self.net) if shared else []
        start = [tensor.clone() for tensor in statistics]
        moved = [torch.zeros_like(tensor, dtype=torch.float32) for tensor in statistics]
        total = torch.zeros((), device=self.team.device)
        for number in range(first, first + own):
            for tensor, before in zip(statistics, start, strict=True):
                tensor.copy_(before)
            loss = self._pass(step, number) / own
            self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
            for mean, tensor in zip(moved, statistics, strict=True):
                mean += tensor
        for tensor, mean in zip(statistics, moved, strict=True):
            # A sum of whole numbers divided is exact: the counter of batches is among them.
            tensor.copy_(mean / own)
        self.team.average(statistics)
        return total

    def _pass(self, step: int, number: int) -> Tensor:
        config, team = self.config, self.team
        shape = (config.batch_size, config.size, config.size, 3)

        def load(rank: int) -> NDArray[np.uint8]:
            place = number + config.accumulation * rank  # this is called in process 0, whose first pass is 0
            return order.load(self._images, self.order.chosen(step, place))

        pixels = team.images(load, shape)
        x = order.tensor(pixels, self.order, step, number).to(team.device, non_blocking=True)
        y = torch.from_numpy(self._labels[self.order.chosen(step, number)]).to(team.device)
        dtype = getattr(torch, config.precision)
        with torch.autocast(team.device.type, dtype, enabled=dtype != torch.float32):
            embeddings = self.net(x)
        found: Tensor = self.loss(embeddings.float(), y, self.order.seed("partial", step, number))
        return found

    def judge_when_due(self) -> None:
        """Validates at the start, after every so many epochs, and at the end, each once."""
        config, history = self.config, self.history
        if self._judge is None or not config.validate_every:
            return
        every = config.validate_every * self.order.per_epoch
        if self.done % every and self.done != self.order.total:
            return
        if history.evaluations and history.evaluations[-1]["step"] == self.done:
            return
        found = {name: float(value) for name, value in self._judge(self.net, self.loss).items()}
        network.train_mode(self.net, config)
        value = found.get(config.criterion, math.nan)
        if not math.isfinite(value):
            raise InvalidInput(
                "criterion", f"the held-out images give no {config.criterion}; they give {', '.join(found)}"
            )
        values = [record[config.criterion] for record in history.evaluations]
        sign = CRITERIA[config.criterion]
        if not values or sign * value > max(sign * earlier for earlier in values):
            history.best_step = self.done
            history.best = {name: tensor.cpu().clone() for name, tensor in self.net.state_dict().items()}
        history.evaluations.append({"step": float(self.done), **found})

    def no_better(self) -> bool:
        """Whether the last `patience` validations brought nothing better."""
        if not self.config.patience:
            return False
        steps = [int(record["step"]) for record in self.history.evaluations]
        return sum(step > self.history.best_step for step in steps) >= self.config.patience

    def result(self, *, stopped: bool) -> Result:
        """What it came to so far."""
        history = self.history
        if history.best is not None and not stopped:
            self.net.load_state_dict(history.best)
        return Result(
            self.net.eval(),
            self.done,
            self.order.total,
            np.asarray(history.losses, np.float32),
            stopped,
            np.asarray(history.norms, np.float32),
            tuple(history.evaluations),
            history.best_step,
        )


def _loss(classes: int, groups: Cells, config: Config) -> MarginLoss:
    of_classes = None if groups.of_classes is None else torch.from_numpy(groups.of_classes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(child_seed(config.seed, "centres", 0))
        return MarginLoss(
            classes,
            config.embedding,
            config.margins(),
            scale=config.scale,
            interclass_filter=config.interclass_filter,
            sample_rate=config.sample_rate,
            class_margins=groups.margins(config),
            class_margins_of="cosine" if config.loss == "cosface" else "angle",
            class_groups=of_classes,
            worst_share=config.worst_share,
        )


def _classes(labels: NDArray[np.integer[Any]], config: Config, passes: int) -> tuple[int, NDArray[np.int64]]:
    """The number of distinct labels, and each label's place among them."""
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise InvalidInput("labels", f"{labels.dtype} {labels.shape} is not a row of whole numbers")
    distinct, own = np.unique(labels, return_inverse=True)
    if len(distinct) < 2:
        raise InvalidInput("labels", f"{len(distinct)} distinct; two or more subjects are needed")
    if len(labels) < config.batch_size * passes:
        times = f" × {passes} passes a step" if passes > 1 else ""
        raise InvalidInput(
            "batch_size", f"{config.batch_size}{times} is more than there are images ({len(labels)})"
        )
    return len(distinct), own.astype(np.int64)


def _optimiser(parameters: list[nn.Parameter], config: Config) -> torch.optim.Optimizer:
    if config.optimiser == "adamw":
        betas = (config.momentum, 0.999)
        return torch.optim.AdamW(parameters, config.learning_rate, betas, weight_decay=config.weight_decay)
    return torch.optim.SGD(
        parameters,
        config.learning_rate,
        config.momentum,
        weight_decay=config.weight_decay,
        nesterov=config.nesterov and config.momentum > 0,
    )
