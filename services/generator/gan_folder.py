"""`fairloop train-gan`: a DCGAN from a folder of images, without a server and without a store.

S1's command, with its names, defaults and files; what S1 lacks is there: a seed,
a way to go on after a stop, losses as a table, a plan, and an output folder that
never mixes two runs.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from fairloop.errors import InvalidInput
from fairloop.importers.source import LARGEST_IMAGE, Folder
from fairloop.pixels import UnreadableImage, decode, fitted
from fairloop.spool import Spool
from services.generator import dcgan, gan, gan_checkpoint, gan_fit, gan_record
from services.generator.gan_samples import device_of
from services.generator.recipes.gan import estimate
from services.generator.recipes.plan import Estimate, span

TOLD_EVERY = 50
"""Steps between lines about the losses, as in S1."""
BLOCK = 64
"""Files that are decoded at a time."""


@dataclass(frozen=True)
class Options:
    """The options of the command, by S1's names."""

    data_root: Path
    out_dir: Path
    image_size: int
    latent_dim: int
    batch_size: int
    num_epochs: int
    lr: float
    beta1: float
    beta2: float
    num_workers: int
    device: str
    sample_every: int
    save_every_epoch: int
    seed: int
    resume: bool
    dry_run: bool
    threads: int


@click.command("train-gan")
@click.option(
    "--data-root", type=click.Path(path_type=Path), required=True, help="Folder of images, at any depth."
)
@click.option(
    "--out-dir", type=click.Path(path_type=Path), default=Path("outputs/dcgan64"), show_default=True
)
@click.option(
    "--image-size", type=click.Choice([str(s) for s in dcgan.SIZES]), default="64", show_default=True
)
@click.option("--latent-dim", default=gan.LATENT, show_default=True)
@click.option("--batch-size", default=128, show_default=True)
@click.option("--num-epochs", default=10, show_default=True)
@click.option("--lr", default=2e-4, show_default=True, help="Adam's learning rate.")
@click.option("--beta1", default=0.5, show_default=True, help="Adam's first beta.")
@click.option("--beta2", default=0.999, show_default=True, help="Adam's second beta.")
@click.option(
    "--num-workers", type=click.IntRange(1, 64), default=4, show_default=True, help="Threads that decode."
)
@click.option("--device", type=click.Choice(["cuda", "cpu"]), default="cuda", show_default=True)
@click.option("--sample-every", default=500, show_default=True, help="Steps between sheets of samples.")
@click.option(
    "--save-every-epoch",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Epochs between checkpoints.",
)
@click.option("--seed", default=0, show_default=True, help="The same seed gives the same weights.")
@click.option("--resume", is_flag=True, help="Go on from the last checkpoint in the output folder.")
@click.option("--dry-run", is_flag=True, help="Time a few steps, say what all of it takes, and stop.")
@click.option(
    "--threads",
    type=click.IntRange(1, 1024),
    default=lambda: os.cpu_count() or 1,
    show_default="processors",
    envvar="FAIRLOOP_THREADS",
    help="Threads that compute.",
)
def train_gan(image_size: str, **options: Any) -> None:
    """Train a DCGAN on a folder of images: weights, sheets of samples and losses.

    \b
    OUT_DIR/checkpoints/dcgan_epoch{E}.pt   both networks and their optimisers
    OUT_DIR/samples/epoch{E}_step{S}.png    64 samples, always of the same noise
    OUT_DIR/losses.parquet, losses.png      the history
    """
    train(Options(image_size=int(image_size), **options), lambda line: click.echo(line))


def train(options: Options, say: Callable[[str], None]) -> gan_fit.Result | None:
    """Trains and writes the output folder; None after a dry run.

    InvalidInput names the option or the file for everything that can be wrong.
    """
    config = gan_fit.Config(
        shape=gan.Shape(options.image_size, options.latent_dim),
        epochs=options.num_epochs,
        batch_size=options.batch_size,
        learning_rate=options.lr,
        beta1=options.beta1,
        beta2=options.beta2,
        sample_every=options.sample_every,
        seed=options.seed,
        threads=options.threads,
        device=device_of(options.device, say),
    )
    folder = Folder.open(options.data_root, "--data-root")
    files = list(folder.files())
    if not files:
        raise InvalidInput("--data-root", f"{options.data_root} holds no .jpg, .jpeg, .png, .bmp or .webp")
    checkpoints = options.out_dir / "checkpoints"
    found = _output(options, checkpoints)
    say(f"reading {len(files):,} images of {options.data_root}")
    with Spool(options.image_size) as images:
        started = time.monotonic()
        needed = files[: options.batch_size] if options.dry_run else files
        for pixels in _decoded(folder, needed, options.image_size, options.num_workers):
            images.add(pixels)
        images.finish()
        reading = (time.monotonic() - started) / len(images) * len(files)
        training = _Run(options, config, _digest(folder, files), len(files), reading, say)
        return training.run(images, found)


class _Run:
    """One training into one folder."""

    def __init__(
        self,
        options: Options,
        config: gan_fit.Config,
        digest: str,
        images: int,
        reading: float,
        say: Callable[[str], None],
    ) -> None:
        self.per_epoch = max(images // config.batch_size, 1)
        every = options.save_every_epoch * self.per_epoch
        self.config = gan_fit.Config(**{**vars(config), "checkpoint_every": every})
        self.options, self.images, self.reading, self.say = options, images, reading, say
        self.cells = gan_fit.one_cell(images)
        # A folder that changed since is another training.
        self.about = {**gan_fit.about(self.config, self.cells), "images_sha256": digest}
        self.plan: Estimate | None = None
        self.began = time.monotonic()
        self.first = 0

    def run(self, images: Spool, found: tuple[int, Path] | None) -> gan_fit.Result | None:
        dry = self.options.dry_run
        source: gan_fit.Loader = images
        if dry:
            # Only the first images were read; which ones a step sees makes no difference to its time.
            source = lambda chosen: images(np.arange(len(chosen)))  # noqa: E731
        else:
            (self.options.out_dir / "samples").mkdir(parents=True, exist_ok=True)
        watch = gan_fit.Watch(
            progress=None if dry else self.progress,
            sheet=(lambda sheet: None) if dry else self.sheet,
            checkpoint=None if dry else self.checkpoint,
            timed=self.timed,
            should_stop=lambda: dry and self.plan is not None,
        )
        result = gan_fit.fit(
            source, self.cells, self.config, watch, restore=lambda training: self.restore(training, found)
        )
        if dry:
            return None
        if result.total % self.config.checkpoint_every:
            self.last(result)
        (self.options.out_dir / "losses.parquet").write_bytes(gan_record.history_parquet(result.history))
        (self.options.out_dir / "losses.png").write_bytes(
            gan_record.history_plot(result.history, self.per_epoch)
        )
        latest = gan_checkpoint.latest(self.options.out_dir / "checkpoints")
        self.say(f"{result.total:,} steps in {span(time.monotonic() - self.began)}: {self.options.out_dir}")
        if latest is not None:
            self.say(f"next: fairloop generate-samples --checkpoint {latest[1]} --num-samples 1000")
        return result

    def restore(self, training: gan_fit.Training, found: tuple[int, Path] | None) -> None:
        """Goes on from a checkpoint; the training is kept, so that a last checkpoint can be written."""
        self.training = training
        if found is not None:
            epoch = gan_checkpoint.restore(found[1], training, self.about)
            self.say(f"going on after epoch {epoch} ({training.done:,} steps)")
        self.first = training.done

    def timed(self, timing: gan_fit.Timing) -> None:
        self.plan = estimate(self.config, self.images, timing, self.reading)
        if self.plan.long or self.options.dry_run:
            self.say(self.plan.text)

    def sheet(self, sheet: gan_fit.Sheet) -> None:
        (self.options.out_dir / "samples" / sheet.name).write_bytes(
            gan_record.sheet_png(sheet, self.config.seed)
        )

    def checkpoint(self, step: int, training: gan_fit.Training) -> None:
        epoch = step // self.per_epoch
        args = {k: str(v) if isinstance(v, Path) else v for k, v in vars(self.options).items()}
        path = gan_checkpoint.path_of(self.options.out_dir / "checkpoints", epoch)
        gan_checkpoint.write(path, training, epoch, args, self.about)

    def last(self, result: gan_fit.Result) -> None:
        """The end of a training whose epochs are no multiple of those between checkpoints."""
        self.checkpoint(result.total, self.training)

    def progress(self, step: int, total: int, row: NDArray[np.float32]) -> None:
        if (step - 1) % TOLD_EVERY and step != total:
            return
        rate = (step - self.first) / max(time.monotonic() - self.began, 1e-9)
        epoch, place = divmod(step - 1, self.per_epoch)
        values = dict(zip(gan_fit.HISTORY, row.tolist(), strict=True))
        self.say(
            f"[{epoch + 1}/{self.config.epochs}][{place + 1}/{self.per_epoch}] "
            f"Loss_D: {values['discriminator_loss']:.4f} Loss_G: {values['generator_loss']:.4f} "
            f"D(x): {values['real']:.4f} D(G(z)): {values['generated']:.4f} "
            f"({rate:.2f} steps/s, about {span((total - step) / rate)} left)"
        )


def _output(options: Options, checkpoints: Path) -> tuple[int, Path] | None:
    """The checkpoint to go on from; InvalidInput when the output folder does not fit what is asked."""
    if options.dry_run:
        return None
    if options.resume:
        found = gan_checkpoint.latest(checkpoints)
        if found is None:
            raise InvalidInput("--resume", f"{checkpoints} holds no dcgan_epoch….pt to go on from")
        return found
    if options.out_dir.exists() and any(options.out_dir.iterdir()):
        raise InvalidInput(
            "--out-dir", f"{options.out_dir} is not empty: name another folder, or go on with --resume"
        )
    return None


def _decoded(folder: Folder, files: list[str], size: int, workers: int) -> Iterator[NDArray[np.uint8]]:
    """The images in their order, short side resized, centre cropped; a few of them in memory at a time."""

    def one(name: str) -> NDArray[np.uint8]:
        path = folder.root / name
        if path.stat().st_size > LARGEST_IMAGE:
            raise InvalidInput("--data-root", f"{name} has over {LARGEST_IMAGE:,} bytes")
        pixels = decode(path.read_bytes())
        if isinstance(pixels, UnreadableImage):
            raise InvalidInput("--data-root", f"{name} cannot be read: {pixels}")
        return fitted(pixels, size)

    with ThreadPoolExecutor(workers) as pool:
        for start in range(0, len(files), BLOCK):
            yield from pool.map(one, files[start : start + BLOCK])


def _digest(folder: Folder, files: list[str]) -> str:
    digest = hashlib.sha256()
    for name in files:
        digest.update(f"{name}\0{(folder.root / name).stat().st_size}\0".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()
