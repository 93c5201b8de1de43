"""Training a DCGAN against a minimal torch loop over the same modules: steps a second, and peak memory.

    python -m benchmarks.gan [--steps 12] [--batch 64] [--repeat 3]

Both sides train the same networks (64 pixels, latent 128, 64 maps) on the same images, which ours reads
from its spool on disk and the peer has in memory as ready tensors; ours also keeps the history of every
step. The loop is that of the PyTorch tutorial: Adam, binary cross-entropy, gradients set to zero, three
backward passes. Once with the modules as a caller makes them, once in channels last, which is how ours
trains. Medians of `--repeat`, sides alternating; memory is the largest resident set of a process of each
side's own, with checkpoints and sheets of samples on ours. Exits with 1 when a goal is missed.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from benchmarks.at_callers import high_water
from benchmarks.table import Goal, Row, parser, run
from fairloop.spool import Spool
from services.generator import gan, gan_fit

THREADS = os.cpu_count() or 1
SIDES = ("ours", "loop", "loop in channels last")


def pictures(count: int) -> NDArray[np.uint8]:
    """Noise, uint8 (count, 64, 64, 3)."""
    return np.random.default_rng(0).integers(0, 256, (count, 64, 64, 3), dtype=np.uint8)


def ours(steps: int, batch: int, records: bool = False) -> Callable[[], None]:
    """`gan_fit.fit` from a spool; with `records`, sheets of samples and checkpoints as well."""
    spool = Spool(64)
    for image in pictures(batch * 2):
        spool.add(image)
    spool.finish()
    config = gan_fit.Config(epochs=steps, batch_size=batch, max_steps=steps, threads=THREADS)
    cells = gan_fit.one_cell(len(spool))
    watch = gan_fit.Watch()
    if records:
        dumped: list[int] = []
        config = replace(config, checkpoint_every=2)
        watch = gan_fit.Watch(
            sheet=lambda sheet: None,
            checkpoint=lambda _, training: dumped.append(len(training.dump(gan_fit.about(config, cells)))),
        )

    def work() -> None:
        gan_fit.fit(spool, cells, config, watch)

    return work


def loop(steps: int, batch: int, memory_format: torch.memory_format) -> Callable[[], None]:
    """The tutorial's training loop."""
    shape = gan.Shape()
    x = torch.from_numpy(pictures(batch * 2)).permute(0, 3, 1, 2).float().div(127.5).sub(1)
    batches = [part.contiguous(memory_format=memory_format) for part in torch.split(x, batch)]

    def work() -> None:
        torch.set_num_threads(THREADS)
        generator = shape.generator().to(memory_format=memory_format)
        discriminator = shape.discriminator().to(memory_format=memory_format)
        for_d = torch.optim.Adam(discriminator.parameters(), lr=2e-4, betas=(0.5, 0.999))
        for_g = torch.optim.Adam(generator.parameters(), lr=2e-4, betas=(0.5, 0.999))
        criterion, ones, zeros = nn.BCELoss(), torch.ones(batch), torch.zeros(batch)
        for step in range(steps):
            discriminator.zero_grad()
            criterion(discriminator(batches[step % 2]), ones).backward()
            made = generator(torch.randn(batch, shape.latent, 1, 1))
            criterion(discriminator(made.detach()), zeros).backward()
            for_d.step()
            generator.zero_grad()
            criterion(discriminator(made), ones).backward()
            for_g.step()

    return work


def side(name: str, steps: int, batch: int, records: bool = False) -> Callable[[], None]:
    """The work of a side by its name."""
    if name == "ours":
        return ours(steps, batch, records)
    last = name.endswith("channels last")
    return loop(steps, batch, torch.channels_last if last else torch.contiguous_format)


def rate(work: Callable[[], None], steps: int) -> float:
    """Steps a second."""
    started = time.perf_counter()
    work()
    return steps / (time.perf_counter() - started)


def peak(name: str, batch: int) -> float:
    """The largest resident set, in MB, of a process that does a few steps of a side."""
    command = [sys.executable, "-m", "benchmarks.gan", "--alone", name, "--batch", str(batch)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout) / 1e6


def rows(options: argparse.Namespace) -> list[Row]:
    """Steps a second against each loop, and peak memory."""
    steps, repeat = (2, 1) if options.small else (options.steps, options.repeat)
    batch = 8 if options.small else options.batch
    works = {name: side(name, steps, batch) for name in SIDES}
    for name in SIDES:
        side(name, 1, batch)()
    found: dict[str, list[float]] = {name: [] for name in SIDES}
    for _ in range(repeat):
        for name, work in works.items():
            found[name].append(rate(work, steps))
    made = [
        Row(
            f"training a DCGAN of 64 pixels, batches of {batch}",
            "steps/s",
            ours=statistics.median(found["ours"]),
            peer=statistics.median(found[name]),
            peer_name=f"minimal torch {name}",
            goal=Goal("ours / peer", "≥", 0.95),
            ratio=statistics.median(o / p for o, p in zip(found["ours"], found[name], strict=True)),
        )
        for name in SIDES[1:]
    ]
    memory = {name: peak(name, batch) for name in (SIDES[0], SIDES[2])}
    made.append(
        Row(
            "peak memory of the same",
            "MB",
            ours=memory[SIDES[0]],
            peer=memory[SIDES[2]],
            peer_name=f"minimal torch {SIDES[2]}",
            goal=Goal("ours / peer", "≤", 1.05),
        )
    )
    return made


def main() -> int:
    """Prints the table."""
    options = parser(__doc__ or "")
    options.add_argument("--steps", type=int, default=12)
    options.add_argument("--batch", type=int, default=64)
    options.add_argument("--repeat", type=int, default=3)
    options.add_argument("--alone", choices=SIDES, help=argparse.SUPPRESS)
    asked = options.parse_args()
    if asked.alone:
        side(asked.alone, 4, asked.batch, records=True)()
        print(high_water(os.getpid()))
        return 0
    return run(rows, options)


if __name__ == "__main__":
    sys.exit(main())
