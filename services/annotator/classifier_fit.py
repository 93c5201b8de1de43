"""Trains the part of a classifier that is not frozen, and keeps its best epoch.

Every draw is derived from (seed, purpose, index): the order of an epoch from
its number, dropout from the step's. So a checkpoint, of which there is one
after each epoch, needs no generator's state, and a training that went on from
one ends in the same bits as one that was never stopped (same machine, same
number of threads).
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fairloop.errors import InvalidInput
from fairloop.seeds import child_seed
from services.annotator.classifier_losses import image_losses, risk
from services.annotator.classifier_options import Config
from services.network_file import UNREADABLE

SCHEMA = "fairloop.classifier_checkpoint/1"

Loader = Callable[[NDArray[np.int64]], Tensor]
"""Gives what the trained part takes of the images with these numbers, in this order."""


@dataclass(frozen=True)
class Items:
    """Images to train or to judge on: `labels` int64 (N,) index the classes, `groups` int64 (N,) or None."""

    inputs: Loader
    labels: NDArray[np.int64]
    groups: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.labels)


@dataclass
class History:
    """One number an epoch: mean loss of its steps, loss and accuracy on the validation images."""

    train_loss: list[float] = field(default_factory=list)
    validation_loss: list[float] = field(default_factory=list)
    validation_accuracy: list[float] = field(default_factory=list)
    best_epoch: int = 0
    """From 1; 0 before there is one."""

    @property
    def epochs(self) -> int:
        """How many were done."""
        return len(self.validation_loss)

    def better(self) -> bool:
        """Whether the last epoch has a lower loss than every one before."""
        return self.epochs == 1 or self.validation_loss[-1] < min(self.validation_loss[:-1])


@dataclass(frozen=True)
class Hooks:
    """Who is told and asked while a training runs."""

    on_checkpoint: Callable[[int, Callable[[Path], None]], None] = lambda epoch, write: None
    """Gets the number of the epoch and what writes its checkpoint into a file."""
    on_progress: Callable[[int, int, float], None] = lambda step, total, loss: None
    should_stop: Callable[[], bool] = lambda: False
    """Asked before every step; what was done of that epoch is then lost."""


@dataclass(frozen=True)
class Result:
    """`net` holds the weights of the best epoch, in evaluation mode, unless it was `stopped`."""

    net: nn.Module
    history: History
    stopped: bool


def fit(
    net: nn.Module,
    train: Items,
    validation: Items,
    config: Config,
    *,
    classes: int,
    checkpoint: Path | None = None,
    hooks: Hooks | None = None,
) -> Result:
    """Trains `net`, which maps inputs to logits (N, classes), in place.

    The best epoch is that of the lowest loss on the validation images: the same
    loss as is trained, over all of them at once, without class weights. Where
    `patience` epochs in a row bring none lower, it ends.

    Raises InvalidInput for a checkpoint of another training, and on
    `learning_rate`, with the epoch, when the loss is no longer finite.
    """
    training = _Training(net, train, validation, config, classes)
    hooks = hooks or Hooks()
    if checkpoint is not None:
        training.restore(checkpoint)
    history = training.history
    while history.epochs < config.epochs and not training.no_better():
        if not training.epoch(hooks):
            return Result(net, history, stopped=True)
        hooks.on_checkpoint(history.epochs, training.dump)
    net.load_state_dict(training.best)
    return Result(net.eval(), history, stopped=False)


def logits(net: nn.Module, items: Items, batch: int = 64) -> Tensor:
    """The network's answers, float32 (N, classes) on the processor; leaves it in evaluation mode."""
    net.eval()
    device = _device(net)
    with torch.inference_mode():
        found = [
            net(items.inputs(np.arange(start, min(start + batch, len(items)))).to(device)).float().cpu()
            for start in range(0, len(items), batch)
        ]
    return torch.cat(found)


def draws(config: Config, epoch: int, count: int) -> NDArray[np.int64]:
    """The images of epoch 0, 1, …, in the order in which its steps take them."""
    generator = np.random.default_rng(child_seed(config.seed, "classifier_epoch", epoch))
    if config.epoch_images:
        return generator.integers(0, count, config.epoch_images)
    return generator.permutation(count)


def batches(chosen: NDArray[np.int64], size: int) -> list[NDArray[np.int64]]:
    """The steps of an epoch; what is left after the last full one is one, too, unless it is a single image.

    Of a single image a batch norm knows no deviation.
    """
    found = [chosen[start : start + size] for start in range(0, len(chosen), size)]
    return found if len(found) == 1 or len(found[-1]) > 1 else found[:-1]


def class_weights(labels: NDArray[np.int64], classes: int) -> Tensor:
    """images / (classes × images of the class), float32 (classes,): their mean over the images is 1."""
    counts = np.bincount(labels, minlength=classes)
    return torch.from_numpy((len(labels) / (classes * np.maximum(counts, 1))).astype(np.float32))


class _Training:
    def __init__(self, net: nn.Module, train: Items, validation: Items, config: Config, classes: int) -> None:
        self.net, self.train, self.validation, self.config = net, train, validation, config
        self.history = History()
        self.best: dict[str, Tensor] = {}
        self._device = _device(net)
        self._weights = (
            class_weights(train.labels, classes).to(self._device) if config.class_weights else None
        )
        self._optimiser = torch.optim.Adam(net.parameters(), config.learning_rate)
        digest = hashlib.sha256(train.labels.tobytes())
        for more in (train.groups, validation.labels, validation.groups):
            digest.update(b"" if more is None else more.tobytes())
        self._settings = json.loads(json.dumps({**asdict(config), "labels_sha256": digest.hexdigest()}))

    def epoch(self, hooks: Hooks) -> bool:
        """One epoch and its validation; False when it was told to stop before its end."""
        steps = batches(draws(self.config, self.history.epochs, len(self.train)), self.config.batch_size)
        done, total = self.history.epochs * len(steps), self.config.epochs * len(steps)
        self.net.train()
        losses = []
        for place, chosen in enumerate(steps):
            if hooks.should_stop():
                return False
            losses.append(self._step(done + place, chosen))
            hooks.on_progress(done + place + 1, total, losses[-1])
        self._judge(float(np.mean(losses)))
        return True

    def _step(self, step: int, chosen: NDArray[np.int64]) -> float:
        with torch.random.fork_rng(devices=[] if self._device.type == "cpu" else None):
            torch.manual_seed(child_seed(self.config.seed, "classifier_dropout", step))
            answers = self.net(self.train.inputs(chosen).to(self._device))
        labels = torch.from_numpy(self.train.labels[chosen]).to(self._device)
        groups = self.train.groups
        loss = self._risk(
            image_losses(answers, labels, self._weights),
            None if groups is None else torch.from_numpy(groups[chosen]).to(self._device),
        )
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimiser.step()
        return float(loss.detach())

    def _judge(self, train_loss: float) -> None:
        answers = logits(self.net, self.validation)
        labels = torch.from_numpy(self.validation.labels)
        groups = self.validation.groups
        loss = float(
            self._risk(image_losses(answers, labels), None if groups is None else torch.from_numpy(groups))
        )
        history = self.history
        if not (math.isfinite(loss) and math.isfinite(train_loss)):
            raise InvalidInput(
                "learning_rate",
                f"training diverged in epoch {history.epochs + 1} (loss {train_loss:g}, on the validation "
                f"images {loss:g}); a rate under {self.config.learning_rate:g} is needed",
            )
        history.train_loss.append(train_loss)
        history.validation_loss.append(loss)
        history.validation_accuracy.append(float((answers.argmax(1) == labels).float().mean()))
        if history.better():
            history.best_epoch = history.epochs
            self.best = {name: tensor.cpu().clone() for name, tensor in self.net.state_dict().items()}

    def _risk(self, losses: Tensor, groups: Tensor | None) -> Tensor:
        config = self.config
        return risk(losses, groups, config.loss, config.worst_share, config.worst_share_within)

    def no_better(self) -> bool:
        """Whether the last `patience` epochs brought nothing better."""
        waited = self.history.epochs - self.history.best_epoch
        return bool(self.config.patience) and waited >= self.config.patience

    def dump(self, path: Path) -> None:
        """Writes a checkpoint, which `torch.load(weights_only=True)` reads."""
        torch.save(
            {
                "schema": SCHEMA,
                "settings": self._settings,
                "net": self.net.state_dict(),
                "optimiser": self._optimiser.state_dict(),
                "best": self.best,
                "history": asdict(self.history),
            },
            path,
        )

    def restore(self, path: Path) -> None:
        try:
            found = torch.load(path, map_location="cpu", weights_only=True)
            if found["schema"] != SCHEMA:
                raise InvalidInput("checkpoint", f"its schema is {found['schema']!r}; this reads {SCHEMA}")
            for name, value in self._settings.items():
                if (was := found["settings"].get(name)) != value:
                    raise InvalidInput(
                        "checkpoint", f"was made with {name} {was!r}, this training has {value!r}"
                    )
            self.net.load_state_dict(found["net"])
            self._optimiser.load_state_dict(found["optimiser"])
            self.best = dict(found["best"])
            self.history.__dict__.update(History(**found["history"]).__dict__)
        except UNREADABLE as error:
            raise InvalidInput("checkpoint", f"is not one of this training: {error}") from error


def _device(net: nn.Module) -> torch.device:
    return next(net.parameters()).device


def curve(history: History) -> list[dict[str, Any]]:
    """One record an epoch: `epoch` from 1, the losses, the accuracy, and whether it was the best."""
    rows = zip(history.train_loss, history.validation_loss, history.validation_accuracy, strict=True)
    return [
        {
            "epoch": number,
            "train_loss": train,
            "validation_loss": loss,
            "validation_accuracy": accuracy,
            "best": number == history.best_epoch,
        }
        for number, (train, loss, accuracy) in enumerate(rows, 1)
    ]
