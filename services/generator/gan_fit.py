"""Trains a DCGAN on images that are asked for batch by batch.

The order of an epoch is derived from the seed and its number, as every draw is
(`gan_state`): a training that went on from a checkpoint ends in the same bits as
one that was never stopped (same machine, same number of threads).
"""

from __future__ import annotations

import functools
import hashlib
import math
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fairloop.errors import InvalidInput
from fairloop.seeds import child_seed
from fairloop.thread_count import thread_count
from services.generator import dcgan, gan
from services.generator.gan_state import HISTORY, Base, Config, Sheet, Training, sheet_name

__all__ = [
    "HISTORY",
    "Config",
    "Loader",
    "Result",
    "Sheet",
    "Timing",
    "Training",
    "Watch",
    "about",
    "batch",
    "checkpoint_bytes",
    "fit",
    "one_cell",
    "sheet_due",
    "sheet_name",
    "sheets",
    "tail",
]

TIMED_STEPS = 5
WARM_UP_STEPS = 1
"""Not timed: memory is fetched and kernels are chosen in it."""

Loader = Callable[[NDArray[np.int64]], NDArray[np.uint8]]
"""Gives the images with these numbers, uint8 (n, size, size, 3), in this order."""


@dataclass(frozen=True)
class Timing:
    """What the first steps took: the median step, how many were timed, and one sheet, in seconds."""

    step: float
    steps: int
    sheet: float


@dataclass(frozen=True, eq=False)
class Result:
    """What a training came to: both networks, in evaluation mode, and its history.

    `history` is float32 (step, 4), columns as in `HISTORY`; `stopped` is true when
    `should_stop` ended it before its last step.
    """

    generator: dcgan.Generator
    discriminator: gan.Discriminator
    step: int
    total: int
    history: NDArray[np.float32]
    stopped: bool


@dataclass(frozen=True)
class Watch:
    """Who is told what while a training runs; None: nobody."""

    progress: Callable[[int, int, NDArray[np.float32]], None] | None = None
    """After every step: the step, of how many, its row of the history."""
    sheet: Callable[[Sheet], None] | None = None
    """When samples are due."""
    checkpoint: Callable[[int, Training], None] | None = None
    """When a checkpoint is due, and when the training is stopped; `Training.dump` gives its bytes."""
    timed: Callable[[Timing], None] | None = None
    """Once, after the first steps."""
    should_stop: Callable[[], bool] | None = None
    """Asked before every step."""


def fit(
    images: Loader,
    cells: NDArray[np.int64],
    config: Config,
    watch: Watch,
    *,
    base: Base | None = None,
    restore: Callable[[Training], None] | None = None,
) -> Result:
    """Trains on the images that `images` gives, whose cells are `cells`, int64 (N,).

    `images` is asked for one batch at a time, so that memory does not grow with N;
    without cells `cells` is all 0. `base` is a generator to go on from, its cells
    and the names of this training's; its discriminator is a fresh one.
    `restore` puts back the state of an earlier one: `Training.restore` of what
    `Training.dump(about(config, cells))` gave.

    Raises InvalidInput naming the argument; on `learning_rate`, with the step,
    when a loss is no longer finite.
    """
    count = len(cells)
    per_epoch, total = count // config.batch_size, config.steps(count)
    if not per_epoch:
        raise InvalidInput("batch_size", f"{config.batch_size} is more than there are images ({count:,})")
    training = Training(config, base)
    if restore is not None:
        restore(training)
    seconds: list[float] = []
    with thread_count(config.threads, torch.get_num_threads, torch.set_num_threads):
        sheet_seconds = _show(training, watch, per_epoch) if not training.done else 0.0
        while training.done < total:
            if watch.should_stop is not None and watch.should_stop():
                if watch.checkpoint is not None:
                    watch.checkpoint(training.done, training)
                return _result(training, total, stopped=True)
            started = time.perf_counter()
            chosen = batch(config, count, training.done)
            training.step(images(chosen), cells[chosen])
            seconds.append(time.perf_counter() - started)
            row = training.last
            if not np.isfinite(row).all():
                raise InvalidInput(
                    "learning_rate",
                    f"training diverged at step {training.done} of {total} (losses {row[0]:g} and "
                    f"{row[1]:g}); a rate under {config.learning_rate:g} is needed",
                    step=str(training.done),
                )
            if watch.timed is not None and len(seconds) == min(WARM_UP_STEPS + TIMED_STEPS, total):
                timed = seconds[WARM_UP_STEPS:] or seconds
                watch.timed(Timing(statistics.median(timed), len(timed), sheet_seconds))
            if sheet_due(config, training.done, per_epoch, total):
                _show(training, watch, per_epoch)
            if watch.checkpoint is not None and training.done % config.checkpoint_every == 0:
                watch.checkpoint(training.done, training)
            if watch.progress is not None:
                watch.progress(training.done, total, row)
    return _result(training, total, stopped=False)


def batch(config: Config, count: int, step: int) -> NDArray[np.int64]:
    """Which of `count` images step `step` trains on."""
    epoch, place = divmod(step, count // config.batch_size)
    order = _order(config.seed, epoch, count)
    return order[place * config.batch_size : (place + 1) * config.batch_size]


@functools.lru_cache(maxsize=1)
def _order(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    return np.random.default_rng(child_seed(seed, "epoch", epoch)).permutation(count)


def about(config: Config, cells: NDArray[np.int64]) -> dict[str, Any]:
    """What two trainings must have in common for one to go on from the other's checkpoint.

    How long they are is not among it: no step depends on how many there will be.
    """
    left_out = ("epochs", "max_steps", "threads", "checkpoint_every", "sample_every", "device")
    settings = {name: value for name, value in asdict(config).items() if name not in left_out}
    return {**settings, "cells_sha256": hashlib.sha256(cells.tobytes()).hexdigest()}


def sheet_due(config: Config, step: int, per_epoch: int, total: int) -> bool:
    """Whether samples are made after so many steps."""
    return step % config.sample_every == 0 or step % per_epoch == 0 or step == total


def sheets(config: Config, images: int) -> Iterator[tuple[int, int]]:
    """(epoch, step) of every sheet of a whole training on so many images, in order."""
    per_epoch, total = images // config.batch_size, config.steps(images)
    for step in range(total + 1):
        if sheet_due(config, step, per_epoch, total):
            yield -(-step // per_epoch), step


def checkpoint_bytes(config: Config) -> int:
    """About how large a checkpoint is: weights, and Adam's two moments of each."""
    with torch.device("meta"):
        nets: tuple[nn.Module, nn.Module] = (config.shape.generator(), config.shape.discriminator())
    return 3 * 4 * sum(p.numel() for net in nets for p in net.parameters())


def tail(history: NDArray[np.float32], column: str) -> float:
    """Mean of a column over the last tenth of the steps."""
    last = history[-max(len(history) // 10, 1) :, HISTORY.index(column)]
    return float(np.mean(last)) if len(last) else math.nan


def _show(training: Training, watch: Watch, per_epoch: int) -> float:
    """Makes a sheet, when somebody wants it; how long that took in seconds."""
    if watch.sheet is None:
        return 0.0
    started = time.perf_counter()
    watch.sheet(training.sheet(per_epoch))
    return time.perf_counter() - started


def _result(training: Training, total: int, *, stopped: bool) -> Result:
    return Result(
        training.generator.cpu().to(memory_format=torch.contiguous_format).eval(),
        training.discriminator.cpu().to(memory_format=torch.contiguous_format).eval(),
        training.done,
        total,
        training.history,
        stopped,
    )


def one_cell(count: int) -> NDArray[np.int64]:
    """The cells of an unconditional training: all 0."""
    return np.zeros(count, np.int64)
