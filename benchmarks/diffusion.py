"""Bulk `Generate` of a diffusion model against the bare pipeline of diffusers at the same size of batch.

    python -m benchmarks.diffusion [--images 32] [--steps 10] [--batch 4] [--repeat 3]

The model is built here with random weights, large enough that a batch takes a second: 64 channels, images of
128×128. The peer is `StableDiffusionPipeline.__call__` on the same folder with the same prompts, steps, noise
and threads, in a process of its own like the server; neither its start nor the server's is timed, both have
drawn once before. Memory is the peak (VmHWM) of each process at its end. Medians of `--repeat`, sides
alternating. Exits with 1 when a goal is missed.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.table import Goal, Row, parser, run
from fairloop.client import GeneratorClient
from fairloop.diffusers_folder import look_through
from fairloop.diffusion_models import publish_folder
from fairloop.v1.generator_pb2 import Diffusion, GenerateRequest, PromptItem
from tests.support.bucket import own_bucket
from tests.support.processes import Process, start_service, start_store
from tests.support.tiny_diffusion import TinyShape, build_tiny_diffusion

THREADS = os.cpu_count() or 1
PROMPT = "a photo of a person"
BARE = """
import sys, time, torch
from diffusers import StableDiffusionPipeline
folder, steps, batch, threads = sys.argv[1], *map(int, sys.argv[2:])
torch.set_num_threads(threads)
pipe = StableDiffusionPipeline.from_pretrained(folder, local_files_only=True, use_safetensors=True)
pipe.set_progress_bar_config(disable=True)
for line in sys.stdin:
    images = int(line)
    started = time.perf_counter()
    for start in range(0, images, batch):
        noise = [torch.Generator().manual_seed(start + k) for k in range(batch)]
        pipe([PROMPT] * batch, num_inference_steps=steps, generator=noise)
    print(images / (time.perf_counter() - started), flush=True)
""".replace("PROMPT", repr(PROMPT))


class Bare:
    """The pipeline of diffusers in a process of its own."""

    def __init__(self, folder: Path, steps: int, batch: int) -> None:
        command = [sys.executable, "-c", BARE, str(folder), str(steps), str(batch), str(THREADS)]
        # As servers set it: OpenMP's threads sleep while they wait.
        environment = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE"}
        self._child = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def rate(self, images: int) -> float:
        """Images a second."""
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        print(images, file=self._child.stdin, flush=True)
        return float(self._child.stdout.readline())

    @property
    def pid(self) -> int:
        return self._child.pid

    def stop(self) -> None:
        self._child.terminate()
        self._child.wait()


def peak_megabytes(pid: int) -> float:
    """The most memory that a process has held."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"process {pid} states no VmHWM")


def rows(options: argparse.Namespace) -> list[Row]:
    images, repeat = (8, 1) if options.small else (options.images, options.repeat)
    started: list[Process] = []
    with tempfile.TemporaryDirectory() as name:
        folder = build_tiny_diffusion(Path(name) / "model", TinyShape(width=64, size=128, safety="passes"))
        bare = Bare(folder, options.steps, options.batch)
        try:
            process, s3 = start_store(Path(name))
            started.append(process)
            environment, store = own_bucket(s3)
            model = publish_folder(store, look_through(folder), "models/bench", description="random weights")
            environment["FAIRLOOP_THREADS"] = str(THREADS)
            server, address = start_service("services.generator", Path(name), environment)
            started.append(server)
            client = GeneratorClient("generator", address)
            numbers = itertools.count()

            def ours(count: int) -> float:
                request = GenerateRequest(
                    model=model.name,
                    prompts=[PromptItem(prompt_id="a", prompt=PROMPT, images=count)],
                    diffusion=Diffusion(steps=options.steps, batch=options.batch),
                    dataset="datasets/benchmark",
                    request_id=f"run-{next(numbers)}",
                )
                begun = time.perf_counter()
                client.generate(request).result(600)
                return count / (time.perf_counter() - begun)

            ours(options.batch), bare.rate(options.batch)
            pairs = [(ours(images), bare.rate(images)) for _ in range(repeat)]
            memory = peak_megabytes(server.pid), peak_megabytes(bare.pid)
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
        Row(f"{what}: peak memory", "MB", ours=memory[0], peer=memory[1], peer_name=peer),
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
