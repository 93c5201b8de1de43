"""`fairloop evaluate-bin`: insightface's quick protocol on its `.bin` files, without server and store.

What `verification.py` of arcface_torch prints after each epoch: embeddings of an
image and its mirror image summed, accuracy over ten folds at thresholds from a
grid, VAL at a false accept rate.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from fairloop.errors import FairloopError, InvalidInput
from fairloop.importers.contents import FileContents
from fairloop.importers.insightface_bin import BinFile, read_bin
from fairloop.importers.source import UnusableFileError
from fairloop.pixels import UnreadableImage, decode
from fairloop.stats.lfw import LfwAccuracy, lfw_accuracy
from fairloop.stats.lfw_grid import FOLDS, GridAccuracy, lfw_grid_accuracy
from services.recognizer import recogniser_file
from services.recognizer.recognisers import CropRecogniser

BATCH = 64
SCHEMA = "fairloop.bin-evaluation/1"


def embedded(recogniser: CropRecogniser, held: BinFile, name: str) -> NDArray[np.float32]:
    """Embeddings of length 1 of all images, (images, dimension), two to a pair.

    Raises InvalidInput naming the first image that cannot be read or has no face:
    the protocol knows no pair without a score.
    """
    rows = np.empty((len(held.images), recogniser.dimension), np.float32)
    for start in range(0, len(held.images), BATCH):
        batch = []
        for number in range(start, min(start + BATCH, len(held.images))):
            try:
                pixels = decode(held.read(number))
            except UnusableFileError as error:
                raise InvalidInput(name, f"image {number} {error}") from error
            if isinstance(pixels, UnreadableImage):
                raise InvalidInput(name, f"image {number}: {pixels.violations[0].description}")
            batch.append(pixels)
        found = recogniser.embed(batch)
        lost = np.flatnonzero(~np.isfinite(found.vectors).all(axis=1))
        if lost.size:
            raise InvalidInput(
                name,
                f"image {start + int(lost[0])}: {found.statuses[lost[0]]}; these files hold aligned faces, "
                "take --alignment none",
            )
        rows[start : start + len(batch)] = found.vectors
    return rows


def evaluated(
    recogniser: CropRecogniser, path: Path, *, far: float, components: int
) -> tuple[GridAccuracy, LfwAccuracy]:
    """By insightface's grid of squared distances, and by thresholds among the scores themselves."""
    held = read_bin(FileContents(path))
    rows = embedded(recogniser, held, path.name)
    first, second = rows[0::2], rows[1::2]
    try:
        grid = lfw_grid_accuracy(first, second, held.same, far=far, components=components)
        exact = lfw_accuracy(np.einsum("nd,nd->n", first, second), held.same, FOLDS, far=far)
    except InvalidInput as error:
        found, *rest = error.violations
        raise InvalidInput(f"{path.name}, {found.field}", found.description, *rest) from error
    return grid, exact


@click.command("evaluate-bin")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@recogniser_file.model
@recogniser_file.architecture
@recogniser_file.alignment
@click.option("--flip/--no-flip", default=True, show_default=True, help="Sum an image and its mirror image.")
@click.option("--far", type=float, default=1e-3, show_default=True, help="False accept rate of VAL.")
@click.option(
    "--components",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Principal components; 0: none.",
)
@click.option("--to", "target", type=click.Path(path_type=Path, dir_okay=False), help="JSON file to write.")
def evaluate_bin(**given: Any) -> None:
    """Accuracy and VAL of a recogniser's file on insightface's .bin FILES, as its verification.py has them.

    \b
    fairloop evaluate-bin lfw.bin cfp_fp.bin agedb_30.bin --model backbone.pth --architecture iresnet50
    """
    try:
        _run(given)
    except FairloopError as error:
        raise click.ClickException(str(error)) from error


def _run(given: Mapping[str, Any]) -> None:
    if not 0 < given["far"] < 1:
        raise InvalidInput("--far", f"{given['far']} is outside 0–1, both excluded")
    for path in given["files"]:
        if not path.is_file():
            raise InvalidInput("FILES", f"{path} is no file")
    file = recogniser_file.located(given["model"])
    recogniser = recogniser_file.read(
        file, given["architecture"], alignment=given["alignment"], flip=given["flip"]
    )
    body: dict[str, Any] = {"schema": SCHEMA, "model": _sha256(file), "flip": given["flip"]}
    body["sets"] = {}
    for path in given["files"]:
        click.echo(f"{path.name}: embedding", err=True)
        grid, exact = evaluated(recogniser, path, far=given["far"], components=given["components"])
        click.echo(f"[{path.stem}] accuracy {grid.accuracy:.5f} ± {grid.accuracy_std:.5f} (grid)")
        click.echo(f"[{path.stem}] accuracy {exact.mean:.5f} ± {exact.std:.5f} (thresholds among the scores)")
        click.echo(
            f"[{path.stem}] VAL {grid.val:.5f} ± {grid.val_std:.5f} at FAR {grid.far:.5f} "
            f"(asked: {given['far']:g})"
        )
        body["sets"][path.name] = {
            "sha256": _sha256(path),
            "grid": grid.to_dict(),
            "exact": exact.to_dict(),
        }
    if given["target"] is not None:
        given["target"].write_text(json.dumps(body, allow_nan=False), encoding="utf-8")
        click.echo(f"{given['target']}: {len(body['sets'])} sets")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
