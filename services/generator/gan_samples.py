"""`fairloop generate-samples`: samples of a DCGAN's checkpoint as PNG files, without a server."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import click
import torch

from fairloop.errors import InvalidInput
from fairloop.provenance.marks import Mark, put_mark
from fairloop.seeds import check_seed
from services.generator import dcgan, gan_checkpoint
from services.generator.encode import encode_png
from services.generator.latents import subject_centres

_SAMPLE = re.compile(r"sample_(\d{5,9})\.png")
MOST = 10_000_000


def device_of(wanted: str, say: Callable[[str], None]) -> str:
    """The device to compute on: cuda where it is, else the CPU, which is then said."""
    if wanted == "cuda" and not torch.cuda.is_available():
        say("there is no CUDA device here: computing on the CPU")
        return "cpu"
    return wanted


@click.command("generate-samples")
@click.option(
    "--checkpoint", type=click.Path(path_type=Path), required=True, help="dcgan_epoch{E}.pt, S1's or ours."
)
@click.option("--num-samples", type=click.IntRange(1, MOST), default=1000, show_default=True)
@click.option("--batch-size", type=click.IntRange(1, 4096), default=64, show_default=True)
@click.option(
    "--out-dir", type=click.Path(path_type=Path), default=Path("generated_samples"), show_default=True
)
@click.option("--device", type=click.Choice(["cuda", "cpu"]), default="cuda", show_default=True)
@click.option(
    "--seed", default=0, show_default=True, help="Sample k of a seed is the same whatever else is made."
)
@click.option("--continue", "go_on", is_flag=True, help="Number on behind the samples that are there.")
def generate_samples(
    checkpoint: Path, num_samples: int, batch_size: int, out_dir: Path, device: str, seed: int, go_on: bool
) -> None:
    """Write sample_00000.png … of the generator in CHECKPOINT."""
    first = generate(checkpoint, num_samples, batch_size, out_dir, device, seed, go_on, click.echo)
    click.echo(f"{num_samples:,} samples in {out_dir}, from sample_{first:05d}.png")
    click.echo(f"next: fairloop audit {out_dir}")


def generate(
    checkpoint: Path,
    count: int,
    batch: int,
    folder: Path,
    device: str,
    seed: int,
    go_on: bool,
    say: Callable[[str], None],
) -> int:
    """Writes the samples; the number of the first.

    A sample's bytes depend on the weights, the seed and its number alone: not on
    the batch size, nor on how many are made. Each says that it was generated.
    """
    check_seed(seed)
    net = gan_checkpoint.generator(checkpoint).to(device_of(device, say))
    first = _first(folder, go_on)
    if first + count > MOST:
        raise InvalidInput("--num-samples", f"{first + count:,} samples in one folder; at most {MOST:,}")
    folder.mkdir(parents=True, exist_ok=True)
    stop = first + count
    for start in range(first, stop, batch):
        numbers = range(start, min(start + batch, stop))
        images = dcgan.render(net, subject_centres(seed, numbers, net.latent))
        for number, data in zip(numbers, encode_png(images), strict=True):
            path = folder / f"sample_{number:05d}.png"
            path.write_bytes(put_mark(data, Mark(seed=seed, index=number)))
    return first


def _first(folder: Path, go_on: bool) -> int:
    """The number of the next sample; InvalidInput when there are some and none was asked to be added."""
    there = [int(m[1]) for m in (_SAMPLE.fullmatch(p.name) for p in folder.glob("sample_*.png")) if m]
    if there and not go_on:
        raise InvalidInput(
            "--out-dir",
            f"{folder} holds {len(there):,} samples: name another folder, or add to them with --continue",
        )
    return max(there) + 1 if there else 0
