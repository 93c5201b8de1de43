"""`fairloop datasets export | explore`: a dataset as files, and as a page of counts."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import click

from fairloop.commands.dataset_names import full_name, use
from fairloop.commands.stored import opened, state_dir


class Formats(click.Group):
    """The formats of `fairloop.exports`; a format's module is loaded when it is run or asked for help."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        from fairloop import exports

        return list(exports.MODULES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        from fairloop import exports

        if cmd_name not in exports.MODULES:
            return None
        return _command(exports.format_named(cmd_name))


@click.group("export", cls=Formats)
def export() -> None:
    """Write a dataset as a folder that other programs read.

    The folder is new, there as a whole or not at all, and has the terms beside
    the images. What stays inside is `--policy research`.
    """


def _command(chosen: Any) -> click.Command:
    def run(name: str, folder: Path, state_folder: Path, **values: Any) -> None:
        own = {field.name: values.pop(field.name) for field in fields(chosen.options)}
        _export(chosen.name, name, folder, state_folder, own, values)

    command: Callable[..., Any] = state_dir(use("publish")(run))
    for field in reversed(fields(chosen.options)):
        command = click.option(
            f"--{field.name}", default=field.default, show_default=True, help=field.metadata["help"]
        )(command)
    for option in (
        click.option("--source", type=click.Choice(["real", "synthetic"]), help="Only these images."),
        click.option("--split", default="", metavar="PART", help="Only images with this label `split`."),
        click.option("--cell", default="", help="Only these images, such as gender=female,race=black."),
        click.option(
            "--to", "folder", type=click.Path(path_type=Path), required=True, help="The new folder."
        ),
        click.argument("name"),
    ):
        command = option(command)
    return click.command(chosen.name, help=f"Write NAME as {chosen.description}.")(command)


def _export(
    format_name: str, name: str, folder: Path, state_folder: Path, own: dict[str, Any], values: dict[str, Any]
) -> None:
    from fairloop import exports
    from fairloop.commands.progress import bar
    from fairloop.selection import Selection

    started = time.monotonic()
    part = Selection(values["cell"], values["split"], values["source"] or "")
    with opened(state_folder) as store, bar(unit="images") as progress:
        done = exports.export_dataset(
            store,
            full_name(store, name),
            format_name,
            folder,
            selection=part,
            policy=values["policy"],
            acknowledge=values["acknowledge"],
            progress=progress,
            **own,
        )
    for note in (*done.use.warnings, *done.notes):
        click.echo(f"note: {note}")
    again = f", {done.resumed:,} of them from an earlier try" if done.resumed else ""
    click.echo(
        f"{done.folder}: {done.images:,} images in {time.monotonic() - started:.1f} s{again}, with TERMS.md"
    )


@click.command()
@click.argument("name")
@click.option("--to", "folder", type=click.Path(path_type=Path), required=True, help="The new folder.")
@click.option(
    "--by",
    multiple=True,
    metavar="LABEL,…",
    help="A further intersection to count, such as gender,age,race; every two attributes are anyway.",
)
@click.option("--index-only", is_flag=True, help="Decode no image: black and broken ones stay unknown.")
@click.option("--sheet", default=0, metavar="K", help="Contact sheet: K images of each group [none].")
@click.option("--sheet-by", default="race", show_default=True, metavar="LABEL", help="Its groups.")
@click.option(
    "--faces",
    type=click.Choice(["synthetic", "all"]),
    default="synthetic",
    show_default=True,
    help="On the sheet: generated images only, or real people too.",
)
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the sheet's draws."
)
@click.option("--overwrite", is_flag=True, help="Replace the folder of an earlier exploration.")
@state_dir
def explore(
    name: str,
    folder: Path,
    by: tuple[str, ...],
    index_only: bool,
    sheet: int,
    sheet_by: str,
    faces: str,
    seed: int,
    overwrite: bool,
    state_folder: Path,
) -> None:
    """Count what is in NAME: a page, its figure and its tables, in a folder.

    Labels and their intersections, real and generated, formats, images per
    subject, byte-identical repeats, black and broken images.
    """
    from dataclasses import replace

    from fairloop import exploration
    from fairloop.commands.progress import bar
    from fairloop.dataset import Dataset
    from fairloop.standalone.commands import needing_the_extra
    from fairloop.standalone.output import check_folder, write_folder

    target = check_folder(folder, overwrite)
    with needing_the_extra("datasets explore"):
        from fairloop.reporting.bundle import exploration_files
    with opened(state_folder) as store, bar(unit="images") as progress:
        dataset = Dataset.open(store, full_name(store, name))
        found = exploration.count(dataset.index, [text.split(",") for text in by])
        drawn = None
        if sheet:
            from fairloop.contact_sheet import contact_sheet

            source = "" if faces == "all" else "synthetic"
            drawn = contact_sheet(dataset, sheet_by, sheet, seed, source)
        if not index_only:
            found = replace(found, findings=exploration.look(dataset, progress))
    manifest = dataset.manifest
    facts = {
        "title": f"What is in {manifest.name.split('/')[1]}",
        "inputs": {manifest.name: manifest.part("/index.parquet").sha256},
    }
    files = exploration_files(found, facts, labels=manifest.details.get("labels", {}), sheet=drawn)
    write_folder(target, files)
    click.echo(f"{found.images:,} images of {found.subjects:,} subjects, {found.synthetic:,} generated")
    if drawn is not None and not any(drawn.rows.values()):
        click.echo(
            "note: the sheet is empty, since no generated image was drawn; --faces all takes real ones"
        )
    for finding in ("broken", "black", "nearly_black"):
        count = sum(row.finding == finding for row in found.findings or ())
        if count:
            click.echo(f"  {count:,} {finding.replace('_', ' ')}")
    click.echo(f"next: open {target / 'index.html'}")
