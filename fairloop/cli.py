"""The `fairloop` command.

Commands that need a service come from the entry-point group
`fairloop.commands`, which the installation of a checkout fills; they are loaded
when they are run and not before.
"""

from __future__ import annotations

import importlib.metadata
import sys
from pathlib import Path
from typing import Any

import click

from fairloop.commands.calibrating import agree, calibrate
from fairloop.commands.card import card
from fairloop.commands.classifying import evaluation, train_classifier
from fairloop.commands.curves import curves
from fairloop.commands.datasets import datasets
from fairloop.commands.diffusion_models import pull_diffusion, put_diffusion, put_lora
from fairloop.commands.doctor import doctor
from fairloop.commands.drawing import draw, playground
from fairloop.commands.erasing import erase, sweep
from fairloop.commands.importing import import_
from fairloop.commands.inside import activations, layers
from fairloop.commands.leaks import leaks
from fairloop.commands.lineage import lineage
from fairloop.commands.operations import operations
from fairloop.commands.organising import organise
from fairloop.commands.pairs import pairs
from fairloop.commands.predictions import predictions
from fairloop.commands.prompting import prompts
from fairloop.commands.protocols import compare_thresholds, protocol
from fairloop.commands.stored import opened, state_dir
from fairloop.commands.terms import terms
from fairloop.commands.thresholds import set_threshold
from fairloop.commands.tuning import fine_tune_generator
from fairloop.commands.verify import verify as verify_resources
from fairloop.errors import FairloopError
from fairloop.standalone.commands import evaluate, stats

__all__ = ["main"]

GROUP = "fairloop.commands"

# Commands of the services, and what each needs, so that their absence is explained.
KNOWN = {
    "annotate": (
        "Describe the images of a list, a table or a folder, in the reference systems' own CSVs.",
        "In a clone: pip install -e '.[annotators]' -e ./services",
    ),
    "audit": (
        "Audit a folder of your own images.",
        "`make audit FOLDER=path` in a clone sets it up; by hand, there: "
        "pip install -e '.[annotator]' -e ./services",
    ),
    "evaluate-bin": (
        "Judge a recogniser on insightface's .bin files.",
        "In a clone: pip install -e '.[recognizer]' -e ./services",
    ),
    "evaluate-recognizer": (
        "Judge a recogniser on a folder of images over the years.",
        "In a clone: pip install -e '.[recognizer,stats]' -e ./services",
    ),
    "fine-tune-recognizer": (
        "Fine-tune a recogniser on folders of images.",
        "In a clone: pip install -e '.[recognizer,stats]' -e ./services",
    ),
    "generate-samples": (
        "Write samples of a DCGAN's checkpoint as PNG files.",
        "In a clone: pip install -e '.[generator]' -e ./services",
    ),
    "measure-set": (
        "Quality and diversity of a generated set, group by group.",
        "In a clone: pip install -e '.[diffusion,leaks]' -e ./services",
    ),
    "train-gan": (
        "Train a DCGAN on a folder of images.",
        "In a clone: pip install -e '.[generator]' -e ./services",
    ),
}

KNOWN_OF_MODELS = {
    "put-classifier-base": (
        "Make a published network a base that classifiers are trained from.",
        "In a clone: pip install -e '.[classifier,vgg-face]' -e ./services",
    ),
    "put-recogniser": (
        "Make a published recogniser a model of the store.",
        "In a clone: pip install -e '.[recognizer]' -e ./services",
    ),
}


class Commands(click.Group):
    """A group that finds the services' commands by name and loads only the one that is run.

    `points` is the group of entry points that it looks in, `known` what should be there.
    """

    def __init__(
        self, *args: Any, points: str = GROUP, known: dict[str, tuple[str, str]] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.points, self.known = points, KNOWN if known is None else known

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *_installed(self.points), *self.known})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        own = super().get_command(ctx, cmd_name)
        if own is not None:
            return own
        point = _installed(self.points).get(cmd_name)
        if point is not None:
            return _load(point, self.known)
        if cmd_name in self.known:
            what, how = self.known[cmd_name]
            raise click.ClickException(
                f"`fairloop {cmd_name}` is not installed ({what[0].lower()}{what[1:-1]}). {how}"
            )
        return None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        # The inherited method loads every command for its help line.
        installed = _installed(self.points)
        rows: list[tuple[str, str]] = []
        for name in self.list_commands(ctx):
            if name in self.commands:
                rows.append((name, self.commands[name].get_short_help_str(80)))
            elif name in self.known:
                rows.append((name, self.known[name][0] + ("" if name in installed else " (not installed)")))
            else:
                rows.append((name, f"From {installed[name].value}."))
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except FairloopError as error:
            raise click.ClickException(str(error)) from error


def _installed(points: str) -> dict[str, importlib.metadata.EntryPoint]:
    return {point.name: point for point in importlib.metadata.entry_points(group=points)}


def _load(point: importlib.metadata.EntryPoint, known: dict[str, tuple[str, str]]) -> click.Command:
    try:
        command = point.load()
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing in ("fairloop", "services", ""):
            raise
        how = known.get(point.name, ("", "install what it needs"))[1]
        raise click.ClickException(
            f"`fairloop {point.name}` needs {missing}, which is not installed. {how}"
        ) from error
    if not isinstance(command, click.Command):
        raise click.ClickException(f"{point.value} ({point.group}) is no click command but {command!r}")
    return command


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="fairloop")
def main() -> None:
    """Close the loop on demographic bias in face recognition."""


main.add_command(evaluate)
main.add_command(stats)
main.add_command(import_)
main.add_command(organise)
main.add_command(pairs)
main.add_command(protocol)
main.add_command(compare_thresholds)
main.add_command(predictions)
main.add_command(erase)
main.add_command(sweep)
main.add_command(operations)
main.add_command(datasets)
main.add_command(doctor)
main.add_command(verify_resources)
main.add_command(terms)
main.add_command(lineage)
main.add_command(leaks)
main.add_command(calibrate)
main.add_command(layers)
main.add_command(activations)
main.add_command(train_classifier)
main.add_command(agree)
main.add_command(card)
main.add_command(playground)
main.add_command(draw)
main.add_command(prompts)
main.add_command(fine_tune_generator)


@main.group(cls=Commands, points=f"{GROUP}.models", known=KNOWN_OF_MODELS)
def models() -> None:
    """The catalogue of weights and the local cache of their files."""


models.add_command(set_threshold)
models.add_command(curves)
models.add_command(evaluation)


@models.command("list")
@click.option(
    "--long", "full", is_flag=True, help="Also print what each file is, its sources and its sha256."
)
def list_models(full: bool) -> None:
    """List the catalogue: what may be done with each file, and whether it is in the cache."""
    from rich.console import Console
    from rich.table import Table

    from fairloop import models as catalogue

    entries = catalogue.catalogue()
    absent = {name for name, entry in entries.items() if not catalogue.local_path(entry).is_file()}
    table = Table(box=None, pad_edge=False)
    for heading in (
        "name",
        "MB",
        "cached",
        "loader",
        "licence",
        "commercial",
        "derivatives",
        "redistribution",
    ):
        table.add_column(heading, no_wrap=heading == "name", overflow="fold")
    for name, entry in entries.items():
        terms = entry.terms
        permissions = (terms.commercial, terms.derivatives, terms.redistribution)
        cached = "yes" if name not in absent else "by hand" if entry.by_hand else "no"
        size = f"{entry.size / 1e6:.1f}" if entry.size else "?"
        table.add_row(name, size, cached, entry.loader, terms.licence, *permissions)
    # A pipe has no width; 80 columns would break the rows.
    Console(width=None if sys.stdout.isatty() else 140).print(table, highlight=False)
    for name, entry in entries.items():
        if full:
            proof = f"sha256 {entry.sha256 or 'not stated by its publisher'}"
            places = [*entry.sources, *([entry.obtain] if entry.obtain else [])]
            facts = [entry.description, *places, proof, f"origin {entry.origin}"]
            click.echo("\n  ".join([f"\n{name}", *facts]))
        if entry.terms.note:
            click.echo(f"  terms: {entry.terms.note}" if full else f"{name}: {entry.terms.note}")
    to_pull = {name for name in absent if not entries[name].by_hand}
    if to_pull:
        click.echo(f"{len(to_pull)} of {len(entries)} are not in the cache: fairloop models pull")
    if absent - to_pull:
        click.echo(
            f"{len(absent - to_pull)} come from a person: fairloop models list --long says from where, "
            "fairloop models put NAME FILE puts one in place"
        )


@models.command()
@click.argument("names", nargs=-1)
def pull(names: tuple[str, ...]) -> None:
    """Fetch the named files into the cache; without a name, all that have a source."""
    from fairloop import models as catalogue

    for name in names or [name for name, entry in catalogue.catalogue().items() if not entry.by_hand]:
        click.echo(f"{name}: {catalogue.fetch(name)}")


@models.command()
@click.argument("name")
@click.argument("file", type=click.Path(path_type=Path))
def put(name: str, file: Path) -> None:
    """Copy FILE into the cache as the weights NAME of the catalogue.

    For weights that have to be fetched by a person: `fairloop models list
    --long` says from where. The sha256 is compared with the catalogue's, or
    recorded where that has none.
    """
    from fairloop import models as catalogue

    path = catalogue.put(name, file)
    click.echo(f"{name}: {path}")
    click.echo("Next: fairloop models verify " + name)


@models.command()
@click.argument("names", nargs=-1)
def verify(names: tuple[str, ...]) -> None:
    """Compare cached files with their sha256; fetch nothing.

    Without names every cached file is checked; a named one must be there. The
    exit code is 1 when a file is another one than the catalogue says.
    """
    from fairloop import models as catalogue
    from fairloop.errors import DataLoss, NotFound

    wrong = 0
    for name in names or tuple(catalogue.catalogue()):
        try:
            catalogue.verify(name)
            click.echo(f"{name}: as catalogued")
        except NotFound:
            if names:
                raise
            click.echo(f"{name}: not in the cache")
        except DataLoss as error:
            wrong += 1
            click.echo(str(error), err=True)
    if wrong:
        raise click.ClickException(f"{wrong} of the cached files cannot be used")


models.add_command(pull_diffusion)
models.add_command(put_diffusion)
models.add_command(put_lora)


@main.command()
@click.option("--older-than", type=click.FloatRange(min=0), default=24.0, show_default=True, help="Hours.")
@click.option("--dry-run", is_flag=True, help="Say what would go, and remove nothing.")
@state_dir
def gc(older_than: float, dry_run: bool, state_folder: Path) -> None:
    """Remove parts that no manifest and no living operation names.

    They come from crashes and cancels.
    """
    from fairloop.garbage import find_garbage

    count = 0
    with opened(state_folder) as store:
        for garbage in list(find_garbage(store, older_than * 3600)):
            count += 1
            if dry_run:
                click.echo(f"{garbage.key} ({garbage.age_seconds / 3600:.1f} h)")
            else:
                store.delete(garbage.key)
    word = "object" if count == 1 else "objects"
    click.echo(f"{'would remove' if dry_run else 'removed'} {count} {word} from s3://{store.bucket}")


@main.command()
@click.argument("name")
@click.option("--to", "folder", type=click.Path(), default=None, help="Folder to write into.")
@state_dir
def report(name: str, folder: str | None, state_folder: Path) -> None:
    """Copy a report out of the store: its page, figures, tables and JSON."""
    from fairloop import manifest, names
    from fairloop.erasure import outdated_note

    with opened(state_folder) as store:
        found = manifest.load(store, names.check("report", name, "NAME"), "fairloop.report/1")
        note = outdated_note(found)
        if not found.parts:
            raise click.ClickException(note)
        if note:
            click.echo(f"note: {note}", err=True)
        target = Path(folder or name.replace("/", "-"))
        target.mkdir(parents=True, exist_ok=True)
        manifest.download(store, found, target)
    click.echo(f"{len(found.parts)} files in {target}; open {target / 'index.html'}")
