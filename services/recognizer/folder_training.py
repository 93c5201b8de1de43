"""`fairloop fine-tune-recognizer`: fine-tunes on a folder of people, without a server and without a store.

The recipe of the second reference system: a closed-set split of images, ArcFace
with scale 64 and 28.6°, a constant rate, frozen stages, the best checkpoint by
validation loss; and its two text files beside ours.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import click
import numpy as np
import pyarrow.parquet as pq
import torch

from fairloop.errors import FairloopError, InvalidInput, PreconditionFailed
from fairloop.importers import identity_folders
from fairloop.importers.record import Problem
from fairloop.importers.source import Folder, UnusableFileError
from fairloop.pixels import UnreadableImage, decode, fitted
from fairloop.spool import Spool
from fairloop.v1 import recognizer_pb2
from services.recognizer import (
    curves,
    fit,
    held_out,
    iresnet,
    network,
    published,
    recogniser_file,
    training_set,
)
from services.recognizer.config import Config
from services.recognizer.margins import MarginLoss
from services.recognizer.network import Network
from services.recognizer.training_set import People

SHARE = 0.2
DEGREES = 28.6
STAGES = {str(number): f"stage{number}" for number in range(1, 5)}
NOT_APPLICABLE = "not applicable"


@dataclass(frozen=True)
class Settings:
    """What the command was asked for."""

    input: Path
    test_data: Path | None
    frozen: tuple[str, ...]
    config: Config
    folder: Path
    split: str
    people_in_both: bool = False


@dataclass
class Losses:
    """The lines of the losses file: one an epoch, from its training steps and its validation."""

    per_epoch: int
    steps: list[float] = field(default_factory=list)
    validations: list[dict[str, float]] = field(default_factory=list)

    def lines(self) -> list[str]:
        """`LOSS train {a}, valid {b}, test {c}` of every epoch that has been validated."""
        found = []
        for epoch, record in enumerate(self.validations[1:]):
            train = np.mean(self.steps[epoch * self.per_epoch : (epoch + 1) * self.per_epoch])
            valid, test = (_shown(record.get(name)) for name in ("loss", "test_loss"))
            found.append(f"LOSS train {train:.6f}, valid {valid}, test {test}")
        return found


def frozen_parts(text: str) -> tuple[str, ...]:
    """The parts that `1,2,3` freezes, the stem always among them; `none` freezes nothing."""
    if text.strip().lower() in ("none", ""):
        return ()
    numbers = [part.strip() for part in text.split(",")]
    for number in numbers:
        if number not in STAGES:
            raise InvalidInput("--frozen-layers", f"{number!r} is not one of 1, 2, 3, 4 (or `none` alone)")
    return ("stem", *(STAGES[number] for number in sorted(set(numbers))))


def settings_text(settings: Settings) -> str:
    """`training_settings.txt`, as the reference system writes it."""
    config = settings.config
    frozen = ", ".join(part.replace("stage", "layer") for part in settings.frozen) or "none"
    lines = [
        f"Frozen Layers: {frozen}",
        f"Batch Size: {config.batch_size}",
        f"Number of epochs: {config.epochs}",
        f"Learning Rate: {config.learning_rate:g}",
        f"Optimizer: {'adamW' if config.optimiser == 'adamw' else config.optimiser}",
        *([f"Momentum: {config.momentum:g}"] if config.optimiser == "sgd" else []),
        f"Training dataset: {settings.input.name}",
        f"Test dataset: {settings.test_data.name if settings.test_data else 'none'}",
    ]
    return "\n".join(lines) + "\n"


def read_folder(path: Path, spool: Spool, option: str) -> People:
    """The people in `path`: one folder each, below it; InvalidInput names the first file that is none's."""
    folder = Folder.open(path, option)
    layout = identity_folders.open_folder(folder, identity_folders.Options(ages="optional"))
    subjects: list[str] = []
    for record in layout.records():
        if isinstance(record, Problem):
            raise InvalidInput(option, f"{record.where} {record.reason}")
        try:
            data, _ = folder.read(record.path)
        except UnusableFileError as error:
            raise InvalidInput(option, f"{record.path}: {error}") from error
        pixels = decode(data)
        if isinstance(pixels, UnreadableImage):
            raise InvalidInput(option, f"{record.path} cannot be read: {pixels}")
        spool.add(fitted(pixels, spool.shape[0]))
        subjects.append(str(record.subject))
    spool.finish()
    return People(spool, subjects, None, 0)


def train(settings: Settings, base: Network | None, *, resume: bool) -> dict[str, Any]:
    """Trains, and writes everything into the experiment's folder; what the command prints at its end."""
    config, folder = settings.config, settings.folder
    checkpoint_file = folder / "checkpoint.pt"
    checkpoint = checkpoint_file.read_bytes() if resume and checkpoint_file.is_file() else None
    with ExitStack() as files:
        people = read_folder(settings.input, files.enter_context(Spool(config.size)), "--input")
        options = recognizer_pb2.TrainingOptions(
            split=recognizer_pb2.SPLIT_IMAGES if settings.split == "images" else recognizer_pb2.SPLIT_SUBJECTS
        )
        learned, valid = training_set.divided(people, options, SHARE, config.seed)
        test = None
        if settings.test_data:
            test = read_folder(settings.test_data, files.enter_context(Spool(config.size)), "--test-data")
            if not settings.people_in_both:
                training_set.check_apart(people, test, "--test-data", "; --people-in-both takes them")
            held_out.check_judgeable(test.held_out(), held_out.DEFAULT_FMR, "--test-data")
        labels = learned.classes()
        per_epoch = len(labels) // config.batch_size
        losses = _begun(checkpoint, per_epoch)

        def progress(step: int, total: int, loss: float) -> None:
            if not losses.steps:
                # What cannot be trained leaves no experiment in the way of the next try.
                _write(folder / "training_settings.txt", settings_text(settings).encode())
            losses.steps.append(loss)

        def save(step: int, data: bytes) -> None:
            _write(checkpoint_file, data)
            lines = losses.lines()
            _write(folder / "validation_loss_results.txt", "".join(f"{line}\n" for line in lines).encode())
            if lines:
                click.echo(f"epoch {len(lines)} of {config.epochs}: {lines[-1]}")

        click.echo(
            f"training on {len(labels)} images of {len(learned.known)} people, {per_epoch} steps an epoch"
        )
        result = fit.fit(
            learned.images,
            labels,
            Config(**{**vars(config), "checkpoint_every": max(per_epoch, 1)}),
            base=base,
            judge=_judge(learned, valid, test, config, losses),
            checkpoint=checkpoint,
            on_checkpoint=save,
            on_progress=progress,
        )
        facts = _written(settings, result, losses, test, base)
    checkpoint_file.unlink(missing_ok=True)
    return facts


def _judge(learned: People, valid: People, test: People | None, config: Config, losses: Losses) -> fit.Judge:
    """The losses on held-out images, and verification where the criterion asks for it; each is remembered."""
    own = held_out.by_loss(valid.held_out(), learned.known, config)
    other = None if test is None else held_out.by_loss(test.held_out(), learned.known, config)

    def judge(net: Network, loss: MarginLoss) -> Mapping[str, float]:
        found = dict(own(net, loss))
        if other is not None and (value := other(net, loss).get("loss")) is not None:
            found["test_loss"] = value
        if config.criterion == "tmr":
            found |= held_out.by_verification(valid.held_out(), held_out.DEFAULT_FMR)(net, loss)
        losses.validations.append(found)
        return found

    return judge


def _begun(checkpoint: bytes | None, per_epoch: int) -> Losses:
    """What an interrupted training had seen."""
    if checkpoint is None:
        return Losses(per_epoch)
    from services.recognizer.checkpoint import read

    history = read(checkpoint)
    return Losses(per_epoch, list(history.losses), [dict(record) for record in history.evaluations])


def _written(
    settings: Settings, result: fit.Result, losses: Losses, test: People | None, base: Network | None
) -> dict[str, Any]:
    """Writes the network in both formats, curves and figures; the facts of `result.json`."""
    from fairloop.reporting.figures.training import training_png

    folder = settings.folder
    epoch = max(result.best_step // losses.per_epoch - 1, 0)
    published_folder = folder / "models" / "finetuned_state_dict"
    published_folder.mkdir(parents=True, exist_ok=True)
    torch.save(
        {name: tensor.cpu() for name, tensor in result.net.state_dict().items()},
        published_folder / f"model_{epoch}",
    )
    own = folder / "fine_tuned_model"
    own.mkdir(exist_ok=True)
    network.save(result.net, own / "recogniser.safetensors")
    for name, data in curves.files(result, settings.config).items():
        _write(folder / name, data)
    validations = pq.read_table(folder / "validations.parquet")
    steps = pq.read_table(folder / "steps.parquet")
    _write(folder / "curves.png", training_png(steps, validations, settings.folder.name))
    facts: dict[str, Any] = {
        "steps": result.step,
        "planned_steps": result.total,
        "best_epoch": epoch,
        "best_step": result.best_step,
        "settings": {k: v for k, v in asdict(settings.config).items() if k != "threads"},
        "validations": [dict(record) for record in result.evaluations],
    }
    if test is not None:
        people = test.held_out()
        before = None if base is None else _rates(base, people)
        facts["test"] = {"before": before, "after": _rates(result.net, people)}
    _write(folder / "result.json", json.dumps(facts, indent=1, sort_keys=True).encode())
    return facts


def _rates(net: Network, people: held_out.HeldOut) -> dict[str, Any]:
    return asdict(
        held_out.rates(held_out.embedded(net, people), people.subjects, people.cells, held_out.DEFAULT_FMR)
    )


def _shown(value: float | None) -> str:
    return NOT_APPLICABLE if value is None else f"{value:.6f}"


def _write(path: Path, data: bytes) -> None:
    """Writes a file whole or not at all."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_bytes(data)
    os.replace(partial, path)


@click.command("fine-tune-recognizer")
@click.option("--input", "data", type=click.Path(path_type=Path), required=True, help="Folder of people.")
@click.option(
    "--base",
    default=None,
    help="A .pth or .safetensors file, an entry of the catalogue, or none for fresh weights "
    "[the catalogue's ArcFace on MS1MV3].",
)
@click.option(
    "--architecture",
    type=click.Choice(sorted(iresnet.DEPTHS, key=len)),
    default="iresnet50",
    show_default=True,
    help="Of a state dictionary, or of fresh weights.",
)
@click.option("--lr", default=0.001, show_default=True, help="Learning rate, constant.")
@click.option("--momentum", default=0.9, show_default=True)
@click.option("--epochs", default=10, show_default=True)
@click.option("--batch-size", default=15, show_default=True)
@click.option("--opt", type=click.Choice(["sgd", "adamW"]), default="sgd", show_default=True)
@click.option(
    "--frozen-layers", default="1,2,3", show_default=True, help="1 to 4 by comma, with the stem; or none."
)
@click.option(
    "--frozen-statistics-move", is_flag=True, help="Lets batch norms of frozen layers go on moving."
)
@click.option("--experiment-name", default="test_experiment", show_default=True)
@click.option("--test-data", type=click.Path(path_type=Path), default=None, help="Folder of other people.")
@click.option(
    "--people-in-both", is_flag=True, help="Takes names that stand in --input and --test-data, both."
)
@click.option(
    "--loss", type=click.Choice(["arcface", "cosface", "combined"]), default="arcface", show_default=True
)
@click.option("--degrees", default=DEGREES, show_default=True, help="Angular margin.")
@click.option("--scale", default=64.0, show_default=True)
@click.option(
    "--split",
    type=click.Choice(["images", "subjects"]),
    default="images",
    show_default=True,
    help="Hold out a fifth of the images of everybody, or a fifth of the people.",
)
@click.option("--patience", default=0, show_default=True, help="Epochs without a better one; 0: never early.")
@click.option("--seed", default=0, show_default=True)
@click.option(
    "--to",
    "experiments",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("experiments"),
    show_default=True,
    help="Folder of experiments.",
)
@click.option("--resume", is_flag=True, help="Go on with an experiment that was interrupted.")
def fine_tune_recognizer(**given: Any) -> None:
    """Fine-tune a recogniser on a folder of people (identity/identity_age images).

    Writes training_settings.txt and validation_loss_results.txt, the best
    network as a state dictionary and as safetensors, curves as Parquet and PNG,
    and result.json with verification rates on the test data before and after.
    """
    try:
        _run(given)
    except FairloopError as error:
        raise click.ClickException(str(error)) from error


def _run(given: Mapping[str, Any]) -> None:
    name, resume = given["experiment_name"], given["resume"]
    if not name or "/" in name or name.startswith("."):
        raise InvalidInput("--experiment-name", f"{name!r} is not the name of a folder")
    base = None
    frozen = frozen_parts(given["frozen_layers"])
    path = recogniser_file.base_path(given["base"], given["architecture"])
    if path is not None:
        click.echo(f"reading {path}")
        base = published.read_network(path, given["architecture"])
    elif frozen:
        raise InvalidInput("--frozen-layers", "fresh weights have nothing worth keeping; say none")
    shape = iresnet.Shape(iresnet.DEPTHS[given["architecture"]]) if base is None else base.shape
    subjects = given["split"] == "subjects"
    config = Config(
        epochs=given["epochs"],
        batch_size=given["batch_size"],
        optimiser=given["opt"].lower(),
        learning_rate=given["lr"],
        momentum=given["momentum"],
        nesterov=False,
        schedule="constant",
        warmup=0.0,
        loss=given["loss"],
        margin=math.radians(given["degrees"]),
        scale=given["scale"],
        flip=False,
        frozen=frozen,
        statistics_move=given["frozen_statistics_move"],
        validate_every=1,
        criterion="tmr" if subjects else "loss",
        patience=given["patience"],
        seed=given["seed"],
        architecture="iresnet" if isinstance(shape, iresnet.Shape) else "residual",
        **vars(shape),
    )
    folder: Path = given["experiments"] / name
    if folder.exists() and any(folder.iterdir()) and not resume:
        raise PreconditionFailed(
            f"{folder} exists: choose another --experiment-name, or --resume to go on with it"
        )
    if (folder / "result.json").exists():
        raise PreconditionFailed(f"{folder} is finished: choose another --experiment-name")
    folder.mkdir(parents=True, exist_ok=True)
    settings = Settings(
        given["data"],
        given["test_data"],
        frozen,
        config,
        folder,
        given["split"],
        given["people_in_both"],
    )
    facts = train(settings, base, resume=resume)
    if "test" in facts:
        for when, rates in facts["test"].items():
            if rates is not None:
                click.echo(f"test data {when}: TMR {rates['tmr']:.4f} at FMR {rates['fmr']:.4f}")
    if facts["best_step"]:
        click.echo(f"best epoch {facts['best_epoch']}; {folder / 'curves.png'}")
    else:
        click.echo(f"no epoch was better than the start, which is what is kept; {folder / 'curves.png'}")
    click.echo(
        f"Next: fairloop models put-recogniser {folder / 'fine_tuned_model' / 'recogniser.safetensors'} "
        f"--alignment none --name {name}"
    )
