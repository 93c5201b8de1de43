"""`fairloop predictions TABLE`: how fair a classifier is by each attribute, and its predictions as files."""

from __future__ import annotations

import json
from pathlib import Path

import click

from fairloop.commands.stored import opened, state_dir


@click.command()
@click.argument("table")
@click.option(
    "--by",
    "attributes",
    multiple=True,
    required=True,
    metavar="LABEL[,LABEL…]",
    help="A label that came with the dataset, such as gender, or an intersection. May be repeated.",
)
@click.option("--to", "folder", type=click.Path(path_type=Path), required=True, help="The new folder.")
@click.option("--positive", default="fake", show_default=True, help="The class that rates are about.")
@click.option("--replicates", default=1000, show_default=True, help="Draws behind intervals.")
@click.option(
    "--keep-predictions",
    is_flag=True,
    help="Also write LABELlabels.npy and LABELpredictions.npy of each label, and predictions.csv.",
)
@click.option(
    "--overwrite", is_flag=True, help="Replace the folder of an earlier run, and predictions kept there."
)
@state_dir
def predictions(
    table: str,
    attributes: tuple[str, ...],
    folder: Path,
    positive: str,
    replicates: int,
    keep_predictions: bool,
    overwrite: bool,
    state_folder: Path,
) -> None:
    """Say how fair a classifier is by each label, from its prediction table TABLE (predictions/ID).

    One JSON per label: rates of every group, and the gaps of AI-Face FairnessBench
    with their intervals.
    """
    from fairloop.dataset import Dataset
    from fairloop.errors import PreconditionFailed
    from fairloop.prediction_files import fairness, file_name, groups_of, prediction_files
    from fairloop.standalone.output import check_folder, write_folder
    from fairloop.table_store import PREDICTIONS, read_table

    target = check_folder(folder, overwrite)
    with opened(state_folder) as store:
        manifest, rows = read_table(store, table, PREDICTIONS)
        dataset = next((name for name in manifest.parents if name.startswith("datasets/")), None)
        if dataset is None:
            raise PreconditionFailed(f"{table} names no dataset among its parents, so there are no labels")
        groups = groups_of(rows, Dataset.open(store, dataset).index, attributes)
    found = fairness(rows, groups, positive, replicates)
    files = {
        f"{file_name(attribute)}.json": (json.dumps(report.to_dict(), indent=1) + "\n").encode()
        for attribute, report in found.items()
    }
    if keep_predictions:
        files |= prediction_files(rows, groups, positive)
    write_folder(target, files)
    for attribute, report in found.items():
        click.echo(f"{attribute}:\n{report}\n")
    kept = ", with the predictions" if keep_predictions else "; --keep-predictions also keeps them"
    click.echo(f"{folder}: {', '.join(sorted(files))}{kept}")
