"""`fairloop protocol`, `fairloop compare-thresholds`: the options. What they need is loaded when they run."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click

from fairloop.commands.stored import opened, resolved, state_dir
from fairloop.errors import InvalidInput
from fairloop.standalone.commands import needing_the_extra

_FILE = click.Path(path_type=Path)


def _shared(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of both protocols."""
    for option in (
        state_dir,
        click.option("--overwrite", is_flag=True, help="Replace an earlier evaluation in that folder."),
        click.option("--to", "folder", type=_FILE, help="Folder to write [named after the input]."),
        click.option("--seed", type=click.IntRange(0, 2**63 - 1), default=0, show_default=True),
        click.option("--replicates", type=click.IntRange(100, 100_000), default=1000, show_default=True),
        click.option(
            "--distance",
            type=click.Choice(["euclidean", "squared_euclidean", "cosine"]),
            help="The scores of --pairs are distances of this kind.",
        ),
        click.option("--score", "score_column", default="score", show_default=True, metavar="COLUMN"),
        click.option("--embeddings", default="", help="embeddings/ID of DATASET, by the recogniser."),
        click.argument("dataset", required=False),
    ):
        command = option(command)
    return command


@click.group()
def protocol() -> None:
    """Judge a recogniser by a published protocol: RFW's races, BFW's subgroups."""


@protocol.command()
@_shared
@click.option(
    "--pairs",
    multiple=True,
    metavar="RACE=FILE|FILE",
    help="Scored pairs instead of DATASET: one of RFW's lists per race, or a table.",
)
@click.option("--group", "groups", multiple=True, metavar="COLUMN", help="Column of the races in a table.")
@click.option("--folds", metavar="COLUMN|N", help="Of --pairs: N of consecutive pairs of each list [10].")
@click.option("--far", type=float, default=1e-3, show_default=True, help="False accept rate of VAL.")
def rfw(dataset: str | None, state_folder: Path, **options: Any) -> None:
    """Accuracy of every race by its own ten folds, their mean, STD and skewed error ratio.

    \b
    fairloop protocol rfw datasets/rfw --embeddings embeddings/0123456789abcdef
    fairloop protocol rfw --pairs African=african.txt --pairs Asian=asian.txt

    Prints the report, and writes it as JSON, Parquet, a figure and one page.
    """
    if dataset is not None and options["groups"]:
        raise InvalidInput("--group", "goes with --pairs; a stored dataset has a list for each race")
    with needing_the_extra("protocol rfw"):
        from fairloop.standalone.protocol_runs import RFW, run_protocol
    _run(partial(run_protocol, RFW), dataset, state_folder, options)


@protocol.command()
@_shared
@click.option("--pairs", metavar="FILE", help="BFW's table with scores, or one like it, instead of DATASET.")
@click.option(
    "--group",
    "groups",
    multiple=True,
    metavar="COLUMN",
    help="Columns of the subgroups: of a table as in `fairloop evaluate` [att1, att2 of BFW's], of DATASET "
    "labels that came with it [gender, race4].",
)
@click.option("--list", "name", default="", help="Which list of DATASET, where there are several.")
@click.option("--folds", metavar="COLUMN|N", help="Of --pairs [fold].")
@click.option(
    "--fmr", "targets", type=float, multiple=True, help="Intended false match rate; the first is drawn."
)
@click.option("--alpha", type=float, default=0.5, show_default=True, help="Weight of FMR in GARBE.")
def bfw(
    dataset: str | None, state_folder: Path, pairs: str | None, targets: tuple[float, ...], **options: Any
) -> None:
    """FMR and FNMR of every subgroup at one global threshold, and at thresholds of its own.

    \b
    fairloop protocol bfw datasets/bfw --embeddings embeddings/0123456789abcdef
    fairloop protocol bfw --pairs bfw.csv --fmr 0.001 --fmr 0.01

    Thresholds of both kinds are chosen on the other folds of the list.
    """
    with needing_the_extra("protocol bfw"):
        from fairloop.standalone.protocol_runs import BFW, run_protocol
    options["pairs"] = (pairs,) if pairs else ()
    if targets:
        options["targets"] = targets
    _run(partial(run_protocol, BFW), dataset, state_folder, options)


@click.command("compare-thresholds")
@click.option("--before", type=_FILE, multiple=True, required=True, help="Embeddings; once a training run.")
@click.option("--after", type=_FILE, multiple=True, required=True, help="Those of the retrained recogniser.")
@click.option(
    "--subjects", type=_FILE, required=True, help="CSV or Parquet: subject and groups of each embedding."
)
@click.option("--group", "groups", multiple=True, required=True, metavar="COLUMN")
@click.option("--subject", "subject_column", metavar="COLUMN", help="Column of the subjects [subject].")
@click.option("--fmr", type=float, default=1e-3, show_default=True, help="At which thresholds are fitted.")
@click.option("--measure", default="garbe", show_default=True, help="The gap that the verdict is on.")
@click.option(
    "--calibration-share",
    type=float,
    default=0.5,
    show_default=True,
    help="Share of the people of each group on whom thresholds are fitted.",
)
@click.option("--tolerance", type=float, default=0.05, show_default=True, help="Below it a gap is closed.")
@click.option("--self-graded", is_flag=True, help="The groups' labels also steered the training data.")
@click.option("--alpha", type=float, default=0.5, show_default=True, help="Weight of FMR in GARBE.")
@click.option("--replicates", type=click.IntRange(100, 100_000), default=1000, show_default=True)
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), default=0, show_default=True)
@click.option("--to", "folder", type=_FILE, help="Folder to write [named after the input].")
@click.option("--overwrite", is_flag=True, help="Replace an earlier comparison in that folder.")
def compare_thresholds(**options: Any) -> None:
    """Say whether retraining does better than thresholds per group, which cost nothing.

    \b
    fairloop compare-thresholds --before b0.npy --before b1.npy --after a0.npy --after a1.npy \\
        --subjects s.csv --group race --fmr 1e-3

    Thresholds are fitted on one part of the people; the others judge all three arms.
    """
    with needing_the_extra("compare-thresholds"):
        from fairloop.standalone.protocol_runs import run_thresholds
    run_thresholds(**options)


def _run(run: Callable[..., None], dataset: str | None, state_folder: Path, options: dict[str, Any]) -> None:
    """Over the files, or over a stored dataset."""
    if (dataset is None) == (not options["pairs"]):
        raise InvalidInput("DATASET", "give DATASET with --embeddings, or --pairs")
    if dataset is None:
        if options["embeddings"]:
            raise InvalidInput(
                "--embeddings", "goes with DATASET; the scores of --pairs are used as they are"
            )
        run(store=None, dataset=None, **options)
        return
    for name in ("folds", "distance"):
        if options[name] is not None:
            raise InvalidInput(f"--{name}", "goes with --pairs; a stored list has its own folds and cosines")
    if not options["embeddings"]:
        raise InvalidInput("--embeddings", "name a table of DATASET; `Embed` makes one")
    with opened(state_folder) as store:
        run(store=store, dataset=resolved(store, dataset), **options)
