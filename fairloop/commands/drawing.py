"""`fairloop playground` and `fairloop draw`: images of prompts, in folders that the reference systems had."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fairloop.commands.stored import state_dir, teller
from fairloop.commands.surroundings import advised, surroundings
from fairloop.errors import FairloopError

if TYPE_CHECKING:
    from fairloop.client import Client
    from fairloop.prompt_sets import Item
    from fairloop.v1 import generator_pb2

QUALITY = 95
"""Of JPEG files; the first reference system wrote its sets as such."""


def drawing(steps: int, guidance: float) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The options that say how to draw, with the defaults of a reference system."""
    listed = (
        click.option("--steps", type=click.IntRange(1, 1000), default=steps, show_default=True),
        click.option("--guidance", type=click.FloatRange(1, 30), default=guidance, show_default=True),
        click.option("--negative-prompt", default="", help="What the images should not show."),
        click.option("--scheduler", default="", help="Another than the model's own, such as ddim."),
        click.option("--size", type=int, default=0, help="Side in pixels [default: the model's]."),
        click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True),
        click.option("--batch", type=click.IntRange(0, 64), default=0, help="Images at a time."),
        click.option("--max-redraws", type=click.IntRange(0, 100), default=10, show_default=True),
        click.option("--truncate-prompts", is_flag=True, help="Cut prompts that are too long."),
        click.option(
            "--without-safety-checker", is_flag=True, help="Refused for prompts of people under 20."
        ),
        click.option(
            "--address", "addresses", multiple=True, metavar="SERVICE=HOST:PORT", help="Where a server is."
        ),
        click.option(
            "--to", "folder", type=click.Path(path_type=Path, file_okay=False), default=Path("drawn"),
            show_default=True, help="Folder for the files.",
        ),
        state_dir,
    )  # fmt: skip

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(listed):
            command = option(command)
        return command

    return decorate


@click.command()
@click.argument("model")
@click.argument("prompt")
@click.argument("name")
@click.option("--count", type=click.IntRange(1, 256), default=1, show_default=True, help="Number of images.")
@drawing(100, 5.0)
def playground(model: str, prompt: str, name: str, count: int, folder: Path, **options: Any) -> None:
    """Draw PROMPT with MODEL into files NAME_0.jpg, NAME_1.jpg, … as they come; nothing is stored.

    NAME is a plain name, no path. Steps and guidance are those of the first
    reference system's playground.
    """
    from fairloop.prompt_sets import playground as named
    from fairloop.v1 import generator_pb2

    item = named(prompt, name, count)
    targets = _free(folder, [item])
    with surroundings(options.pop("state_folder"), options.pop("addresses")), _client() as client:
        request = generator_pb2.PreviewRequest(
            model=client.generator.model(_full(model)),
            text=item.text,
            count=count,
            seed=options.pop("seed"),
            diffusion=_diffusion(options),
            report_steps=True,
        )
        tell = teller()
        for response in client.generator.preview(request, timeout=None):
            if not response.image:
                tell(f"image {response.index + 1} of {count}: step {response.step} of {response.steps}")
                continue
            path = targets / item.path(response.index)
            _write(path, response.image)
            again = f" (drawn {response.redraws + 1} times)" if response.redraws else ""
            click.echo(f"{path}{again}")


@click.group()
def draw() -> None:
    """Draw sets of prompts with a diffusion model: a dataset in the store, and files in a folder."""


@draw.command()
@click.argument("model")
@click.option(
    "--count", type=click.IntRange(1, 100_000), default=750, show_default=True, help="Images a race."
)
@click.option("--quality", default="detailed", show_default=True, help="The word before the face.")
@click.option("--dataset", default="per-race", show_default=True, help="Name of the dataset.")
@drawing(50, 5.0)
def races(model: str, count: int, quality: str, dataset: str, folder: Path, **options: Any) -> None:
    """The same number of images of each of seven races: east_asian/east_asian_0.jpg, …"""
    from fairloop import prompt_sets

    _draw(model, prompt_sets.races(count, quality), dataset, folder, options)


@draw.command()
@click.argument("model")
@click.option(
    "--count", type=click.IntRange(1, 100_000), default=5, show_default=True, help="Images of each."
)
@click.option("--quality", "qualities", multiple=True, help="A word to try; repeat for several.")
@click.option("--dataset", default="quality-sweep", show_default=True, help="Name of the dataset.")
@drawing(75, 5.0)
def sweep(
    model: str, count: int, qualities: tuple[str, ...], dataset: str, folder: Path, **options: Any
) -> None:
    """Compare words for quality: each of them for each race, east_asian/high_quality/0.png, …"""
    from fairloop import prompt_sets

    _draw(model, prompt_sets.sweep(count, qualities or prompt_sets.QUALITIES), dataset, folder, options)


@draw.command()
@click.argument("model")
@click.argument("table", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--count", type=click.IntRange(1, 100_000), default=100, show_default=True, help="Images a prompt."
)
@click.option("--dataset", default="prompt-audit", show_default=True, help="Name of the dataset.")
@click.option("--folders", is_flag=True, help="A folder for each prompt: ceo/profile_0.png.")
@drawing(50, 7.5)
def prompts(
    model: str, table: Path, count: int, dataset: str, folders: bool, folder: Path, **options: Any
) -> None:
    """The same number of images of each prompt of TABLE (columns prompt, prompt_id): ceo_0.png, …"""
    from fairloop import prompt_sets
    from fairloop.prompts import read_prompts

    named = prompt_sets.profiles if folders else prompt_sets.table
    _draw(model, named(read_prompts(table), count), dataset, folder, options)


def _draw(model: str, items: Sequence[Item], dataset: str, folder: Path, options: dict[str, Any]) -> None:
    from fairloop import repeated
    from fairloop.dataset import Dataset
    from fairloop.store import ObjectStore
    from fairloop.v1 import generator_pb2

    root = _free(folder, items)
    with surroundings(options.pop("state_folder"), options.pop("addresses")), _client() as client:
        request = generator_pb2.GenerateRequest(
            model=client.generator.model(_full(model)),
            prompts=[
                generator_pb2.PromptItem(prompt_id=i.id, prompt=i.text, images=i.images, cell=i.cell)
                for i in items
            ],
            seed=options.pop("seed"),
            diffusion=_diffusion(options),
            dataset=dataset if dataset.startswith("datasets/") else f"datasets/{dataset}",
        )
        total = sum(item.images for item in items)
        click.echo(f"drawing {total:,} images of {len(items)} prompts", err=True)
        # The same words again go on with what was left, and find what is done.
        operation = repeated.start("generate", request, client.generator.generate)
        result = operation.result(None, on_progress=teller())
        patterns = {item.id: item for item in items}
        numbers = dict.fromkeys(patterns, 0)
        made = Dataset.open(ObjectStore.from_environment(), result.dataset)
        for row, data in made.images():
            item = patterns[dict(row["labels"])["prompt_id"]]
            _write(root / item.path(numbers[item.id]), data)
            numbers[item.id] += 1
    redrawn = sum(quota.black + quota.refused for quota in result.quotas)
    if redrawn:
        click.echo(f"{redrawn} draws came out black or were refused, and were made again", err=True)
    click.echo(result.dataset)
    click.echo(f"{sum(numbers.values()):,} files in {root}", err=True)
    click.echo(f"Next: fairloop verify --regenerate 20 {result.dataset}", err=True)


def _diffusion(options: dict[str, Any]) -> generator_pb2.Diffusion:
    from fairloop.v1 import generator_pb2

    return generator_pb2.Diffusion(
        negative_prompt=options["negative_prompt"],
        steps=options["steps"],
        guidance=options["guidance"],
        scheduler=options["scheduler"],
        width=options["size"],
        height=options["size"],
        without_safety_checker=options["without_safety_checker"],
        max_redraws=options["max_redraws"],
        truncate_prompts=options["truncate_prompts"],
        batch=options["batch"],
    )


def _full(model: str) -> str:
    return model if model.startswith("models/") else f"models/{model}"


def _free(folder: Path, items: Sequence[Item]) -> Path:
    """The folder, when none of the files is there: nothing is written over."""
    for item in items:
        for number in range(item.images):
            path = folder / item.path(number)
            if path.exists() or path.is_symlink():
                raise click.ClickException(f"{path} is there already; give another folder by --to")
    return folder


def _write(path: Path, data: bytes) -> None:
    """A PNG as it is, or as a JPEG with the same mark where the name says so."""
    import io

    from PIL import Image

    from fairloop.provenance.marks import put_mark, read_mark

    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".jpg":
        with Image.open(io.BytesIO(data)) as image:
            mark = read_mark(image)
            file = io.BytesIO()
            image.convert("RGB").save(file, "JPEG", quality=QUALITY, subsampling=0)
        data = put_mark(file.getvalue(), mark) if mark is not None else file.getvalue()
    with path.open("xb") as out:
        out.write(data)


@contextlib.contextmanager
def _client() -> Iterator[Client]:
    """The client of the surroundings; errors of the generator leave with what to do about them."""
    from fairloop.client import Client

    with Client.from_environment() as client:
        try:
            yield client
        except FairloopError as error:
            raise advised(error, "generator") from error


__all__ = ["draw", "playground"]
