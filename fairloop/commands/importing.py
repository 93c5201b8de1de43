"""`fairloop import KIND PATH --name NAME`: one sub-command per kind, its options those of the kind."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import MISSING, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fairloop.commands.stored import opened, state_dir

if TYPE_CHECKING:
    from fairloop.store import ObjectStore

SHOWN_PROBLEMS = 20
STATED = ("commercial", "derivatives", "redistribution", "consent", "purpose")


class Kinds(click.Group):
    """The kinds of `fairloop.importers`; a kind's module is loaded when it is run or asked for help."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        from fairloop import importers

        return list(importers.MODULES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        from fairloop import importers

        if cmd_name not in importers.MODULES:
            return None
        return _command(importers.kind(cmd_name))


@click.group("import", cls=Kinds)
def import_() -> None:
    """Bring images and their labels into the store as a dataset.

    Names, labels and files are all checked before the first image is copied.
    A try that is interrupted goes on where its last whole shard ended.
    """


def _command(kind: Any) -> click.Command:
    def run(path: str, name: str, dry_run: bool, state_folder: Path, **values: Any) -> None:
        own = {field.name for field in fields(kind.options)}
        options = {key: value for key, value in values.items() if key in own}
        chosen = {key: value for key, value in values.items() if key not in own}
        with opened(state_folder) as store:
            _import(store, kind.name, path, name, dry_run, options, chosen)

    command: Callable[..., Any] = state_dir(run)
    for field in reversed(fields(kind.options)):
        command = _option(field)(command)
    common: tuple[Callable[[Any], Any], ...] = (
        click.option("--dry-run", is_flag=True, help="Check names, labels and files, and stop there."),
        click.option("--decode", is_flag=True, help="Decode every image instead of its header and end."),
        click.option(
            "--shared",
            type=click.Choice(["refuse", "keep"]),
            default="refuse",
            show_default=True,
            help="Equal bytes under two subjects.",
        ),
        click.option(
            "--duplicates",
            type=click.Choice(["keep", "drop"]),
            default="keep",
            show_default=True,
            help="Byte-identical images.",
        ),
        click.option(
            "--broken",
            type=click.Choice(["refuse", "skip"]),
            default="refuse",
            show_default=True,
            help="With skip, what cannot be imported is left out and counted.",
        ),
        *_terms_options(),
        click.option(
            "--retain-until",
            default="",
            metavar="DATE",
            help="Last day to keep real images: `fairloop sweep`.",
        ),
        click.option(
            "--parent",
            "parents",
            multiple=True,
            metavar="NAME",
            help="What the images were made from or with: datasets/…, models/… of this bucket, weights/… or "
            "published/… of the catalogues. May be repeated; its terms hold for them, too.",
        ),
        click.option("--namespace", default=None, help="Stands before every subject; otherwise the name."),
        click.option("--name", required=True, help="Of the dataset, such as fairface-val."),
        click.argument("path", metavar="PATH|s3://BUCKET/PREFIX"),
    )
    for option in common:
        command = option(command)
    return click.command(kind.name, help=f"Import {kind.description}.")(command)


def _terms_options() -> list[Callable[[Any], Any]]:
    """What may be done with data of one's own, and the policy that a published set is held against."""
    said = click.Choice(["yes", "no", "unknown"])
    return [
        click.option(
            "--acknowledge", default="", metavar="REASON", help="Import although terms forbid it; recorded."
        ),
        click.option("--policy", default="", help="Otherwise FAIRLOOP_POLICY, else research."),
        click.option("--purpose", default="", help="What the people shown agreed to."),
        click.option(
            "--consent", type=click.Choice(["yes", "no", "not_needed", "unknown"]), default="unknown"
        ),
        click.option("--redistribution", type=said, default="unknown"),
        click.option("--derivatives", type=said, default="unknown"),
        click.option("--commercial", type=said, default="unknown"),
        click.option("--licence", default="", help="Of these images, where the kind does not know it."),
    ]


def _option(field: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    flag = f"--{field.name.replace('_', '-')}"
    text = field.metadata["help"]
    default = None if field.default is MISSING else field.default
    if isinstance(default, bool):
        return click.option(flag, field.name, is_flag=True, default=default, help=text)
    if isinstance(default, tuple):
        return click.option(flag, field.name, multiple=True, default=default, help=text)
    shown = default not in ("", None)
    return click.option(flag, field.name, type=type(default), default=default, show_default=shown, help=text)


def _import(
    store: ObjectStore,
    kind_name: str,
    path: str,
    name: str,
    dry_run: bool,
    options: dict[str, Any],
    chosen: dict[str, Any],
) -> None:
    from fairloop import importers
    from fairloop.commands.progress import bar
    from fairloop.manifest import Terms

    full = name if name.startswith("datasets/") else f"datasets/{name}"
    started = time.monotonic()
    with bar() as progress:
        if dry_run:
            layout, findings = importers.survey(
                kind_name, path, options, progress=progress, settings=store.settings
            )
            notes = layout.notes
        else:
            namespace = chosen.pop("namespace") or full.removeprefix("datasets/")
            stated = Terms(
                licence=chosen.pop("licence") or "unknown",
                **{word: chosen.pop(word) for word in STATED},
            )
            if stated != Terms():
                chosen["terms"] = (stated,)
            store.ensure_bucket()
            done = importers.import_dataset(
                store,
                kind_name,
                path,
                full,
                importers.Choices(namespace=namespace, **chosen),
                progress=progress,
                **options,
            )
            findings, notes = done.findings, done.notes
    for note in notes:
        click.echo(f"note: {note}")
    for problem in findings.problems[:SHOWN_PROBLEMS]:
        click.echo(f"left out: {problem}" if not dry_run else f"problem: {problem}", err=True)
    if findings.problem_count > SHOWN_PROBLEMS:
        click.echo(f"… and {findings.problem_count - SHOWN_PROBLEMS:,} more", err=True)
    if dry_run:
        click.echo(f"{findings.records:,} records can be imported, {findings.problem_count:,} cannot")
        for label, count in sorted(findings.labels.items()):
            click.echo(f"  {label}: {count:,} labelled")
        if findings.problem_count:
            raise click.exceptions.Exit(1)
        return
    counts = done.dataset.manifest.counts
    again = f", {findings.resumed:,} of them from an earlier try" if findings.resumed else ""
    click.echo(
        f"{done.dataset.name}: {counts['images']:,} images of {counts['subjects']:,} subjects "
        f"in {time.monotonic() - started:.1f} s{again}"
    )
    for label, count in sorted(findings.labels.items()):
        click.echo(f"  {label}: {count:,} labelled")
    if findings.dropped:
        click.echo(f"  {findings.dropped:,} byte-identical repeats dropped")
    click.echo(f"next: fairloop datasets explore {done.dataset.name} --to FOLDER")
