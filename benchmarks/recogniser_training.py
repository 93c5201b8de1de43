"""Training steps a second against a minimal torch loop over the same modules.

    python -m benchmarks.recogniser_training [--steps 60] [--repeat 3]

Ours is `fit.fit`: images from the file that trainings read them from, mirroring, learning-rate schedule,
clipping, checks for divergence, records of every step. The peer is what one would write in a dozen lines:
the same network and loss, SGD, batches prepared in memory before the clock starts, and nothing else. Both
with one thread. Medians of `--repeat`, sides alternating. Exits with 1 when a goal is missed.
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np
import torch
from torch import nn

from benchmarks.table import Goal, Row, parser, run
from fairloop.spool import Spool
from services.recognizer import fit, network, residual
from services.recognizer.config import Config
from services.recognizer.margins import MarginLoss

SUBJECTS = 300
IMAGES = 10
WARM = 5
"""Steps before the clock starts."""


def data(size: int) -> tuple[Spool, np.ndarray]:
    """Random images of `SUBJECTS` people on disk, and whose they are."""
    rng = np.random.default_rng(1)
    spool = Spool(size)
    for _ in range(SUBJECTS * IMAGES):
        spool.add(rng.integers(0, 256, (size, size, 3)).astype(np.uint8))
    spool.finish()
    return spool, np.repeat(np.arange(SUBJECTS), IMAGES)


def ours(images: Spool, labels: np.ndarray, config: Config, steps: int) -> float:
    """Steps a second of `fit.fit`, its first steps left out."""
    marks: dict[int, float] = {}

    def progress(step: int, total: int, loss: float) -> None:
        marks[step] = time.perf_counter()

    fit.fit(images, labels, config, on_progress=progress, should_stop=lambda: len(marks) >= WARM + steps)
    return steps / (marks[WARM + steps] - marks[WARM])


def peer(images: Spool, labels: np.ndarray, config: Config, steps: int) -> float:
    """Steps a second of the minimal loop over the same modules."""
    torch.manual_seed(0)
    net = network.empty(config).train()
    loss_function = MarginLoss(SUBJECTS, config.embedding, config.margins(), scale=config.scale)
    parameters = [p for p in (*net.parameters(), *loss_function.parameters()) if p.requires_grad]
    optimiser = torch.optim.SGD(
        parameters, config.learning_rate, config.momentum, weight_decay=config.weight_decay, nesterov=True
    )
    order = np.random.default_rng(0).permutation(len(labels))
    batches = []
    for step in range(WARM + steps):
        chosen = np.take(order, range(step * config.batch_size, (step + 1) * config.batch_size), mode="wrap")
        batches.append((residual.pixels(images(chosen), config.shape()), torch.from_numpy(labels[chosen])))
    started = 0.0
    before = torch.get_num_threads()
    torch.set_num_threads(config.threads)
    for step, (x, y) in enumerate(batches):
        if step == WARM:
            started = time.perf_counter()
        loss = loss_function(net(x), y)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, config.clip)
        optimiser.step()
    seconds = time.perf_counter() - started
    torch.set_num_threads(before)
    return steps / seconds


def rows(options: argparse.Namespace) -> list[Row]:
    steps, repeat = (10, 1) if options.small else (options.steps, options.repeat)
    config = Config(epochs=1000, threads=1, checkpoint_every=1_000_000)
    images, labels = data(config.size)
    with images:
        pairs = [
            (ours(images, labels, config, steps), peer(images, labels, config, steps)) for _ in range(repeat)
        ]
    return [
        Row(
            f"training the residual network, batches of {config.batch_size}",
            "steps/s",
            ours=statistics.median(our for our, _ in pairs),
            peer=statistics.median(their for _, their in pairs),
            peer_name="minimal torch loop, batches in memory",
            goal=Goal("ours / peer", "≥", 0.95),
            ratio=statistics.median(our / their for our, their in pairs),
        )
    ]


def main() -> int:
    arguments = parser(__doc__)
    arguments.add_argument("--steps", type=int, default=60)
    arguments.add_argument("--repeat", type=int, default=3)
    options = arguments.parse_args()
    if options.steps < 1 or options.repeat < 1:
        arguments.error("--steps and --repeat are 1 or more")
    return run(rows, arguments)


if __name__ == "__main__":
    raise SystemExit(main())
