"""`fairloop organise KIND SOURCE TARGET`: a flat published set as a folder per person."""

from __future__ import annotations

from pathlib import Path

import click

from fairloop.organiser import KINDS


@click.command()
@click.argument("kind", type=click.Choice(KINDS))
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("target", type=click.Path(path_type=Path))
def organise(kind: str, source: Path, target: Path) -> None:
    """Copy a flat set into a folder per person: identity/identity_age.jpg.

    Nothing is moved and nothing written over; a second run does nothing.
    """
    from fairloop.commands.progress import bar
    from fairloop.organiser import organise as organise_

    with bar() as progress:
        done = organise_(kind, source, target, lambda done, total: progress("copying", done, total))
    click.echo(f"{target}: {done.copied:,} copied, {done.present:,} there already")
    if done.lettered:
        click.echo(f"  {len(done.lettered):,} have a letter, since another picture has that person and age")
    click.echo(f"next: fairloop import identity-folders {target} --name {kind}")
