"""Peak memory of `Generate` with a diffusion model of a usual size, against the bare pipeline of diffusers.

    python -m benchmarks.diffusion_memory [--images 8] [--steps 2] [--batch 4]

The model has random weights: Stable Diffusion's own VAE and text encoder and a narrower UNet, 1.1 GB of
float32 in the folder format of diffusers. The peer loads it with `StableDiffusionPipeline.from_pretrained`,
draws as many images of 128×128 at a time with the same scheduler and steps, makes PNG files of them, and does
nothing else; it is a process of its own with the malloc that everybody has. Both read files that the same
download wrote: how much of a file the kernel maps into memory at once hangs on how it was written. Memory is
VmHWM of each process, set back before the model is asked for, so loading counts. For the second row, what a
process held before is taken off: with all libraries imported, and a model of a few MB drawn with. Ours
decodes the latents of a batch one by one, which the bare pipeline does only when it is told to; the last row,
without a goal, is against a peer that was told. One thread each. Exits with 1 when a goal is missed.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks.diffusion import PROMPT, Bare, forget_peak, megabytes
from benchmarks.table import Goal, Row, parser, run
from deploy.gpu_check import geometry
from fairloop.client import GeneratorClient
from fairloop.diffusers_folder import look_through
from fairloop.diffusion_models import download_folder, publish_folder
from fairloop.manifest import Manifest
from fairloop.scratch import scratch_folder
from fairloop.store import ObjectStore
from fairloop.v1.generator_pb2 import Diffusion, GenerateRequest, PromptItem
from tests.support.bucket import own_bucket
from tests.support.processes import Process, start_service, start_store

# The safety checker is TINY's: it would be one more network that is read and used in the same way.
LARGE = dataclasses.replace(
    geometry.SD1,
    size=128,
    unet=(96, 192, 384, 384),
    vision=geometry.TINY.vision,
    vision_size=geometry.TINY.vision_size,
    patch=geometry.TINY.patch,
)
SMALL = geometry.TINY
THREADS = 1

Drawing = Callable[[str, int], None]
"""Draws so many images with the model of that name."""


def published(store: ObjectStore, folder: Path, sizes: dict[str, geometry.Geometry]) -> dict[str, Manifest]:
    """The models in the store, and in folders of `folder` as they were downloaded from there."""
    models = {}
    for name, size in sizes.items():
        built = geometry.build(folder / "built", size, dtype="float32")
        models[name] = publish_folder(
            store, look_through(built), f"models/{name}", description="random weights"
        )
        shutil.rmtree(built)
        download_folder(store, models[name], folder / name)
    return models


def peaks(pid: int, draw: Drawing, images: int, batch: int) -> tuple[float, float]:
    """The largest resident set of a process that loads the large model and draws with it, and what it held
    before, in MB."""
    draw("small", batch)
    before = forget_peak(pid)
    draw("large", images)
    return megabytes(pid, "VmHWM"), before


def rows(options: argparse.Namespace) -> list[Row]:
    images, batch, steps = options.images, options.batch, options.steps
    sizes = {"small": SMALL, "large": SMALL if options.small else LARGE}
    started: list[Process] = []
    with scratch_folder("benchmark") as folder:
        try:
            process, s3 = start_store(folder)
            started.append(process)
            environment, store = own_bucket(s3)
            models = published(store, folder, sizes)
            environment["FAIRLOOP_THREADS"] = str(THREADS)
            server, address = start_service("services.generator", folder, environment)
            started.append(server)
            client = GeneratorClient("generator", address)
            numbers = itertools.count()

            def ours(name: str, count: int) -> None:
                request = GenerateRequest(
                    model=models[name].name,
                    prompts=[PromptItem(prompt_id="a", prompt=PROMPT, images=count)],
                    diffusion=Diffusion(steps=steps, batch=batch),
                    dataset="datasets/benchmark",
                    request_id=f"run-{next(numbers)}",
                )
                client.generate(request).result(1800)

            found = {"ours": peaks(server.pid, ours, images, batch)}
        finally:
            for process in reversed(started):
                process.stop()
        for peer, sliced in (("bare", False), ("told", True)):
            bare = Bare(steps, batch, threads=THREADS, malloc_of_a_server=False, sliced=sliced)

            def theirs(name: str, count: int, bare: Bare = bare) -> None:
                bare.rate(folder / name, count)

            try:
                found[peer] = peaks(bare.pid, theirs, images, batch)
            finally:
                bare.stop()
    what = f"Generate of {images} images by diffusion, a model of 1.1 GB"
    peer_name = f"bare diffusers pipeline, batches of {batch}"
    goal = Goal("ours / peer", "≤", 1.05)

    def row(of: str, peer: str, of_model: bool, wanted: Goal | None, name: str) -> Row:
        mine, other = ((peak - held * of_model) for peak, held in (found["ours"], found[peer]))
        return Row(f"{what}: {of}", "MB", ours=mine, peer=other, peer_name=name, goal=wanted)

    told = f"{peer_name}, decoding one by one"
    return [
        row("peak memory", "bare", False, goal, peer_name),
        row("peak memory of model and drawing", "bare", True, goal, peer_name),
        row("peak memory", "told", False, None, told),
        row("peak memory of model and drawing", "told", True, None, told),
    ]


def main() -> int:
    options = parser(__doc__)
    options.add_argument("--images", type=int, default=8)
    options.add_argument("--steps", type=int, default=2)
    options.add_argument("--batch", type=int, default=4)
    return run(rows, options)


if __name__ == "__main__":
    sys.exit(main())
