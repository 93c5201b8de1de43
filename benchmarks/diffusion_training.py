"""Training a diffusion model against a minimal loop over the same modules: steps a second, peak memory.

    python -m benchmarks.diffusion_training [--steps 8] [--batch 8] [--repeat 3]

Both sides train the same networks of a narrow Stable Diffusion (64 pixels, latents of 16 × 16) in
float32. The loop is diffusers' own example cut down to its sums: VAE, noise, text encoder, UNet, mean
squared error, backward pass, clipped gradient, AdamW. It has its pixels and token ids in memory as ready
tensors; ours reads and decodes PNG files, tokenises captions, draws every image's noise from a seed of
its own and keeps the losses. Medians of `--repeat`, sides alternating; memory is the largest resident set
of a process of each side's own. Exits with 1 when a goal is missed.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.at_callers import high_water
from benchmarks.table import Goal, Row, parser, run
from fairloop.scratch import scratch_folder
from services.generator.diffusion_training import fit, modules
from services.generator.diffusion_training.objective import tokenised
from services.generator.diffusion_training.pictures import Picture, Pictures
from services.generator.diffusion_training.settings import Settings
from services.generator.encode import encode_png
from tests.support.tiny_diffusion import TinyShape, build_tiny_diffusion

THREADS = os.cpu_count() or 1
SIDES = ("ours", "loop")
SHAPE = TinyShape(size=64, vae_blocks=3, width=64)
CAPTION = "face of one person"


def pictures(count: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Noise, uint8 (count, 64, 64, 3)."""
    return np.random.default_rng(0).integers(0, 256, (count, 64, 64, 3), dtype=np.uint8)


def settings(steps: int, batch: int) -> Settings:
    return Settings(resolution=64, batch_size=batch, max_steps=steps, warmup_steps=0)


def ours(folder: Path, steps: int, batch: int) -> Callable[[], None]:
    """`fit.fit` on files."""
    images = [(Picture(str(k), CAPTION), png) for k, png in enumerate(encode_png(pictures(batch * 2)))]
    spool = Pictures.write(folder / f"images-{batch}", images)
    chosen = settings(steps, batch)
    made = modules.load(folder / "model", chosen)

    def work() -> None:
        torch.set_num_threads(THREADS)
        fit.fit(made, spool, chosen, identity={})

    return work


def loop(folder: Path, steps: int, batch: int) -> Callable[[], None]:
    """The loop of diffusers' example."""
    made = modules.load(folder / "model", settings(steps, batch))
    x = torch.from_numpy(pictures(batch * 2)).permute(0, 3, 1, 2).float().div(127.5).sub(1).contiguous()
    tokens = tokenised(made.tokenizer, [CAPTION] * batch)

    def work() -> None:
        torch.set_num_threads(THREADS)
        parameters = list(made.unet.parameters())
        optimiser = torch.optim.AdamW(parameters, lr=1e-4)
        for step in range(steps):
            pixels = x[step % 2 * batch : (step % 2 + 1) * batch]
            with torch.no_grad():
                latents = made.vae.encode(pixels).latent_dist.sample() * made.vae.config.scaling_factor
                text = made.text_encoder(tokens)[0]
            noise = torch.randn_like(latents)
            times = torch.randint(0, 1000, (batch,))
            noisy = made.scheduler.add_noise(latents, noise, times)
            error: Any = torch.nn.functional.mse_loss(made.unet(noisy, times, text).sample, noise)
            error.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimiser.step()
            optimiser.zero_grad()

    return work


def side(name: str, folder: Path, steps: int, batch: int) -> Callable[[], None]:
    """The work of a side by its name."""
    return (ours if name == "ours" else loop)(folder, steps, batch)


def rate(work: Callable[[], None], steps: int) -> float:
    """Steps a second."""
    started = time.perf_counter()
    work()
    return steps / (time.perf_counter() - started)


def peak(name: str, folder: Path, batch: int) -> float:
    """The largest resident set, in MB, of a process that does a few steps of a side."""
    command = [sys.executable, "-m", "benchmarks.diffusion_training", "--alone", name]
    command += ["--folder", str(folder), "--batch", str(batch)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout) / 1e6


def rows(options: argparse.Namespace) -> list[Row]:
    """Steps a second, and peak memory."""
    steps, repeat, batch = (2, 1, 2) if options.small else (options.steps, options.repeat, options.batch)
    with scratch_folder("benchmark") as folder:
        build_tiny_diffusion(folder / "model", SHAPE)
        works = {one: side(one, folder, steps, batch) for one in SIDES}
        for one in SIDES:
            side(one, folder, 1, batch)()
        found: dict[str, list[float]] = {one: [] for one in SIDES}
        for _ in range(repeat):
            for one, work in works.items():
                found[one].append(rate(work, steps))
        memory = {one: peak(one, folder, batch) for one in SIDES}
    return [
        Row(
            f"training a diffusion model of 64 pixels, batches of {batch}",
            "steps/s",
            ours=statistics.median(found["ours"]),
            peer=statistics.median(found["loop"]),
            peer_name="minimal loop of diffusers' modules",
            goal=Goal("ours / peer", "≥", 0.95),
            ratio=statistics.median(o / p for o, p in zip(found["ours"], found["loop"], strict=True)),
        ),
        Row(
            "peak memory of the same",
            "MB",
            ours=memory["ours"],
            peer=memory["loop"],
            peer_name="minimal loop of diffusers' modules",
            goal=Goal("ours / peer", "≤", 1.05),
        ),
    ]


def main() -> int:
    """Prints the table."""
    options = parser(__doc__ or "")
    options.add_argument("--steps", type=int, default=8)
    options.add_argument("--batch", type=int, default=8)
    options.add_argument("--repeat", type=int, default=3)
    options.add_argument("--alone", choices=SIDES, help=argparse.SUPPRESS)
    options.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    asked = options.parse_args()
    if asked.alone:
        side(asked.alone, asked.folder, 4, asked.batch)()
        print(high_water(os.getpid()))
        return 0
    return run(rows, options)


if __name__ == "__main__":
    sys.exit(main())
