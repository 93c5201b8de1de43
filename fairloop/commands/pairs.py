"""`fairloop pairs DATASET`: lists of pairs that came with a dataset, and a recogniser's accuracy on one."""

from __future__ import annotations

import csv
from pathlib import Path

import click

from fairloop.commands.stored import opened, state_dir


@click.command()
@click.argument("dataset")
@click.option("--embeddings", default="", help="embeddings/ID of that dataset; without it lists are counted.")
@click.option("--list", "name", default="", help="Which list, where there are several.")
@click.option("--far", default=1e-3, show_default=True, help="False accept rate of VAL.")
@click.option(
    "--csv",
    "table",
    type=click.Path(path_type=Path, dir_okay=False),
    default=None,
    help="Also write the scored pairs, for `fairloop evaluate`.",
)
@state_dir
def pairs(
    dataset: str, embeddings: str, name: str, far: float, table: Path | None, state_folder: Path
) -> None:
    """Verification by the LFW protocol on a list of pairs that came with DATASET.

    DATASET is datasets/NAME/versions/VERSION. The threshold of each fold is
    chosen on the others; pairs of an image without an embedding are rejected.
    """
    from fairloop.dataset import Dataset
    from fairloop.pair_table import read_pairs, score_pairs
    from fairloop.stats import lfw_accuracy
    from fairloop.table_store import EMBEDDINGS, read_table

    with opened(state_folder) as store:
        manifest = Dataset.open(store, dataset).manifest
        listed = read_pairs(store, manifest, name)
        rows = read_table(store, embeddings, EMBEDDINGS)[1] if embeddings else None
    if rows is None:
        for one, counts in manifest.details["pairs"]["lists"].items():
            click.echo(f"{one}: {counts['pairs']:,} pairs, {counts['same']:,} of one person")
        click.echo(f"next: fairloop pairs {dataset} --list NAME --embeddings embeddings/ID")
        return
    scored = score_pairs(listed, rows)
    found = lfw_accuracy(scored.decided, scored.same, scored.folds, far=far)
    click.echo(f"accuracy {found.mean:.4f} ± {found.std:.4f} over {len(found.folds)} folds")
    if found.val is None:
        click.echo(f"VAL at FAR {far:g}: too few impostor pairs to say")
    else:
        click.echo(f"VAL {found.val:.4f} ± {found.val_std:.4f} at FAR {found.far:.2g} (asked: {far:g})")
    click.echo(
        f"{found.genuine:,} pairs of one person, {found.impostor:,} of two; "
        f"{int(scored.failed.sum()):,} have an image without an embedding and are rejected"
    )
    if table is not None:
        with table.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["image1", "image2", "subject1", "subject2", "same", "score"])
            for row, score in enumerate(scored.score):
                images, who = scored.images, scored.subjects
                writer.writerow(
                    [
                        images[0][row],
                        images[1][row],
                        who[0][row] or "",
                        who[1][row] or "",
                        int(scored.same[row]),
                        "" if scored.failed[row] else repr(float(score)),
                    ]
                )
        click.echo(f"{table}: {len(scored.score):,} scored pairs")
