"""`fairloop erase` and `fairloop sweep`: who must be forgotten, and what may not be kept any longer."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fairloop.commands.stored import opened, state_dir
from fairloop.errors import FairloopError, NotFound

if TYPE_CHECKING:
    from fairloop.erasure import Receipt
    from fairloop.store import ObjectStore


@click.command()
@click.option(
    "--subject", "subjects", multiple=True, metavar="NAMESPACE:ID", help="A person; may be repeated."
)
@click.option("--image", "images", multiple=True, metavar="ID", help="An image; may be repeated.")
@click.option("--reason", required=True, help="Why; it stands in the receipt, so name nobody.")
@click.option("--yes", is_flag=True, help="Do not ask: what is erased cannot be brought back.")
@state_dir
def erase(
    subjects: tuple[str, ...], images: tuple[str, ...], reason: str, yes: bool, state_folder: Path
) -> None:
    """Erase people and images from the whole bucket, and leave a receipt.

    Their images, equal bytes in other datasets, and what was made from them go;
    datasets and tables are rewritten without them, reports that name them are
    withdrawn, models trained on them are marked. They are not imported again.
    An erasure that was interrupted goes on when the same command is run again.
    """
    from fairloop import erasure
    from fairloop.commands.progress import bar

    with opened(state_folder) as store:
        if not yes:
            what = ", ".join((*subjects, *images))
            click.confirm(f"erase {what} from s3://{store.bucket} for good?", abort=True)
        with bar() as progress:
            receipt = erasure.erase(store, subjects, images, reason=reason, progress=progress)
    _say(receipt)


@click.command()
@click.option("--dry-run", is_flag=True, help="Say what would go, and erase nothing.")
@state_dir
def sweep(dry_run: bool, state_folder: Path) -> None:
    """Erase the real images of every dataset whose `retain_until` has passed.

    Erasures that were interrupted are finished first: what they were about is
    partly gone already, so that nothing else would find the rest. What an
    operation still works with is left for the next sweep; the others are erased,
    and the exit code is 1.
    """
    with opened(state_folder) as store:
        left = [*_finish(store, dry_run), *_erase_expired(store, dry_run)]
    if left:
        raise click.ClickException(f"{len(left)} not erased, run it again: {'; '.join(left)}")


def _finish(store: ObjectStore, dry_run: bool) -> Iterator[str]:
    """Finishes what was interrupted; what could not be, and why."""
    from fairloop import erasure
    from fairloop.commands.progress import bar

    for erased in erasure.unfinished(store):
        if dry_run:
            click.echo(f"{erased}: would finish what was begun")
            continue
        try:
            with bar() as progress:
                receipt = erasure.resume(store, erased, progress=progress)
        except FairloopError as error:
            yield f"{erased} ({error})"
            continue
        _say(receipt)


def _erase_expired(store: ObjectStore, dry_run: bool) -> Iterator[str]:
    """Erases what may not be kept any longer; what could not be, and why."""
    from fairloop import erasure
    from fairloop.commands.progress import bar

    due = erasure.expired(store, datetime.now(UTC).date())
    if not due:
        click.echo(f"nothing in s3://{store.bucket} is kept for longer than it may be")
    for name, images in due.items():
        if dry_run:
            click.echo(f"{name}: would erase {len(images):,} images")
            continue
        try:
            with bar() as progress:
                receipt = erasure.erase(
                    store, (), images, reason=f"retain_until of {name} passed", progress=progress
                )
        except NotFound:
            continue  # an erasure before this one took the same images
        except FairloopError as error:
            yield f"{name} ({error})"
            continue
        _say(receipt)


def _say(receipt: Receipt) -> None:
    click.echo(
        f"{receipt.name}: {receipt.images:,} images erased, {receipt.objects_removed:,} objects removed"
    )
    for what, names in (
        ("rewritten", (*receipt.datasets, *receipt.tables)),
        ("withdrawn, since it named them", receipt.reports_withdrawn),
        ("outdated, make it again", receipt.reports_outdated),
        ("marked contains_erased, train it again", receipt.models),
    ):
        for name in names:
            click.echo(f"  {name}: {what}")
    click.echo("Backups and copies outside of this bucket are not touched; erase them by your own means.")
