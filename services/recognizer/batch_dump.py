"""What a training sees: its batches as pictures. `python -m services.recognizer.batch_dump NAME --to FOLDER`.

For a person who wonders whether crops, flips and order are right. The same
images in the same order as `FineTune` takes them with the same settings, and
nothing of them is kept anywhere but in the folder.
"""

from __future__ import annotations

import math
from pathlib import Path

import click
import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray
from PIL import Image

from fairloop import selection
from fairloop.dataset import Dataset
from fairloop.errors import FairloopError, InvalidInput, PreconditionFailed
from fairloop.pixels import UnreadableImage, decode, fitted
from fairloop.store import ObjectStore
from services.recognizer import fit, order

GAP = 2


def loader(dataset: Dataset, size: int) -> tuple[fit.Loader, int]:
    """The images of known subjects, cropped to `size`, read when asked for; and how many there are."""
    known = np.flatnonzero(pc.is_valid(dataset.index["subject_id"]).to_numpy())

    def load(chosen: NDArray[np.int64]) -> NDArray[np.uint8]:
        found = np.empty((len(chosen), size, size, 3), np.uint8)
        places = np.argsort(known[chosen])
        rows = known[chosen][places].tolist()
        for place, (row, data) in zip(places, selection.images(dataset, rows), strict=True):
            pixels = decode(data)
            if isinstance(pixels, UnreadableImage):
                raise PreconditionFailed(f"{row['image_id']} of {dataset.name} cannot be read: {pixels}")
            found[place] = fitted(pixels, size)
        return found

    return load, len(known)


def dump_batches(
    images: NDArray[np.uint8] | fit.Loader, count: int, config: fit.Config, folder: Path, steps: int = 1
) -> list[Path]:
    """Writes the input of the first `steps` steps as `batch_000000.png` …, one grid each; their paths.

    Pixels are taken back from −1…1 to 0…255. `InvalidInput` when there are fewer
    images than a batch, or no such step.
    """
    passes = order.Order(config, count)
    if not 1 <= steps <= passes.total:
        raise InvalidInput(
            "steps", f"{steps} is outside 1–{passes.total}, the steps of a training on {count} images"
        )
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for step in range(steps):
        x = order.tensor(order.load(images, passes.chosen(step)), passes, step)
        pixels = x.add(1).mul(127.5).round().byte().permute(0, 2, 3, 1).numpy()
        paths.append(folder / f"batch_{step:06}.png")
        _grid(pixels).save(paths[-1])
    return paths


def _grid(images: NDArray[np.uint8]) -> Image.Image:
    """Images (N, S, S, 3) row by row on white, two pixels apart."""
    columns = math.ceil(math.sqrt(len(images)))
    side = images.shape[1] + GAP
    rows = math.ceil(len(images) / columns)
    sheet = np.full((rows * side - GAP, columns * side - GAP, 3), 255, np.uint8)
    for place, image in enumerate(images):
        top, left = (number * side for number in divmod(place, columns))
        sheet[top : top + side - GAP, left : left + side - GAP] = image
    return Image.fromarray(sheet)


@click.command()
@click.argument("name")
@click.option("--to", "folder", type=click.Path(path_type=Path, file_okay=False), required=True)
@click.option("--steps", default=1, show_default=True, help="How many batches.")
@click.option("--batch-size", default=fit.Config.batch_size, show_default=True)
@click.option("--size", default=fit.Config.size, show_default=True, help="Side of the images in pixels.")
@click.option("--seed", default=0, show_default=True)
@click.option("--flip/--no-flip", default=True, show_default=True)
def main(name: str, folder: Path, steps: int, batch_size: int, size: int, seed: int, flip: bool) -> None:
    """Write the first batches of a training on the dataset version NAME as PNG files."""
    try:
        config = fit.Config(batch_size=batch_size, size=size, seed=seed, flip=flip)
        images, count = loader(Dataset.open(ObjectStore.from_environment(), name), size)
        for path in dump_batches(images, count, config, folder, steps):
            click.echo(str(path))
    except FairloopError as error:
        raise click.ClickException(str(error)) from error


if __name__ == "__main__":
    main()
