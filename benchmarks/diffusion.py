"""Bulk `Generate` of a diffusion model against the bare pipeline of diffusers at the same size of batch.

    python -m benchmarks.diffusion [--images 32] [--steps 10] [--batch 4] [--repeat 3]

The model is built here with random weights, large enough that a batch takes a second: 64 channels, images of
128×128. The peer is `StableDiffusionPipeline.__call__` on the same folder with the same prompts, steps, noise
and threads, which makes PNG files of the images, in a process of its own like the server; neither its start
nor the server's is timed, both have drawn once before, and both have the malloc of a server (see
`fairloop.serving.allocator`). Memory is the peak (VmHWM) of each process, and the same without what it held
once it had drawn with a model of 16 channels. With a model of 44 MB both tell of libraries and of the 32 MB
that this malloc keeps free, and have no goal: `benchmarks.diffusion_memory` asks it of a model of a usual
size. Medians of `--repeat`, sides alternating. Exits with 1 when a goal is missed.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.table import Goal, Row, parser, run
from fairloop.client import GeneratorClient
from fairloop.diffusers_folder import look_through
from fairloop.diffusion_models import publish_folder
from fairloop.scratch import scratch_folder
from fairloop.serving import allocator
from fairloop.v1.generator_pb2 import Diffusion, GenerateRequest, PromptItem
from tests.support.bucket import own_bucket
from tests.support.processes import Process, start_service, start_store
from tests.support.tiny_diffusion import TinyShape, build_tiny_diffusion

THREADS = os.cpu_count() or 1
PROMPT = "a photo of a person"
BARE = """
import io, sys, time, torch
from diffusers import StableDiffusionPipeline
loaded = ""
steps, batch, threads, sliced = map(int, sys.argv[1:])
torch.set_num_threads(threads)
for line in sys.stdin:
    folder, images = line.rsplit(" ", 1)
    images = int(images)
    if loaded != folder:
        pipe = StableDiffusionPipeline.from_pretrained(folder, local_files_only=True, use_safetensors=True)
        pipe.set_progress_bar_config(disable=True)
        if sliced:
            pipe.vae.enable_slicing()
        loaded = folder
    started = time.perf_counter()
    for start in range(0, images, batch):
        noise = [torch.Generator().manual_seed(start + k) for k in range(batch)]
        for image in pipe([PROMPT] * batch, num_inference_steps=steps, generator=noise).images:
            image.save(io.BytesIO(), "PNG")
    print(images / (time.perf_counter() - started), flush=True)
""".replace("PROMPT", repr(PROMPT))


class Bare:
    """The pipeline of diffusers in a process of its own."""

    def __init__(
        self,
        steps: int,
        batch: int,
        *,
        threads: int = THREADS,
        malloc_of_a_server: bool = True,
        sliced: bool = False,
    ) -> None:
        """`sliced` has it decode the latents of a batch one by one."""
        command = [sys.executable, "-c", BARE, *map(str, (steps, batch, threads, int(sliced)))]
        # As servers set it: OpenMP's threads sleep while they wait, malloc keeps what the next batch needs.
        environment = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE"}
        if malloc_of_a_server:
            environment |= {
                "MALLOC_ARENA_MAX": str(allocator.ARENAS),
                "MALLOC_MMAP_THRESHOLD_": str(allocator.KEPT_BYTES),
                "MALLOC_TRIM_THRESHOLD_": str(allocator.KEPT_BYTES),
            }
        self._child = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def rate(self, folder: Path, images: int) -> float:
        """Images a second of the model in a folder."""
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        print(folder, images, file=self._child.stdin, flush=True)
        return float(self._child.stdout.readline())

    @property
    def pid(self) -> int:
        return self._child.pid

    def stop(self) -> None:
        self._child.terminate()
        self._child.wait()


def megabytes(pid: int, field: str) -> float:
    """What a process holds now (`VmRSS`), or held at most (`VmHWM`)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"process {pid} states no {field}")


def forget_peak(pid: int) -> float:
    """Lets the peak begin anew from what the process holds now, which is returned."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")
    return megabytes(pid, "VmRSS")


def rows(options: argparse.Namespace) -> list[Row]:
    images, repeat = (8, 1) if options.small else (options.images, options.repeat)
    started: list[Process] = []
    with scratch_folder("benchmark") as folder:
        folders = {
            "wide": build_tiny_diffusion(folder / "wide", TinyShape(width=64, size=128, safety="passes")),
            "narrow": build_tiny_diffusion(folder / "narrow", TinyShape(width=16, safety="passes")),
        }
        bare = Bare(options.steps, options.batch)
        try:
            process, s3 = start_store(folder)
            started.append(process)
            environment, store = own_bucket(s3)
            models = {
                one: publish_folder(store, look_through(path), f"models/{one}", description="random weights")
                for one, path in folders.items()
            }
            environment["FAIRLOOP_THREADS"] = str(THREADS)
            server, address = start_service("services.generator", folder, environment)
            started.append(server)
            client = GeneratorClient("generator", address)
            numbers = itertools.count()

            def ours(one: str, count: int) -> float:
                request = GenerateRequest(
                    model=models[one].name,
                    prompts=[PromptItem(prompt_id="a", prompt=PROMPT, images=count)],
                    diffusion=Diffusion(steps=options.steps, batch=options.batch),
                    dataset="datasets/benchmark",
                    request_id=f"run-{next(numbers)}",
                )
                begun = time.perf_counter()
                client.generate(request).result(600)
                return count / (time.perf_counter() - begun)

            pids = (server.pid, bare.pid)
            ours("narrow", options.batch), bare.rate(folders["narrow"], options.batch)
            before = [forget_peak(pid) for pid in pids]
            ours("wide", options.batch), bare.rate(folders["wide"], options.batch)
            pairs = [(ours("wide", images), bare.rate(folders["wide"], images)) for _ in range(repeat)]
            peaks = [megabytes(pid, "VmHWM") for pid in pids]
        finally:
            bare.stop()
            for process in reversed(started):
                process.stop()
    what = f"Generate of {images} images by diffusion, {options.steps} steps"
    peer = f"bare diffusers pipeline, batches of {options.batch}"
    return [
        Row(
            what,
            "images/s",
            ours=statistics.median(one for one, _ in pairs),
            peer=statistics.median(other for _, other in pairs),
            peer_name=peer,
            goal=Goal("ours / peer", "≥", 0.97),
            ratio=statistics.median(one / other for one, other in pairs),
        ),
        Row(f"{what}: peak memory", "MB", ours=peaks[0], peer=peaks[1], peer_name=peer),
        Row(
            f"{what}: peak memory of model and drawing",
            "MB",
            ours=peaks[0] - before[0],
            peer=peaks[1] - before[1],
            peer_name=peer,
        ),
    ]


def main() -> int:
    options = parser(__doc__)
    options.add_argument("--images", type=int, default=32)
    options.add_argument("--steps", type=int, default=10)
    options.add_argument("--batch", type=int, default=4)
    options.add_argument("--repeat", type=int, default=3)
    return run(rows, options)


if __name__ == "__main__":
    sys.exit(main())
