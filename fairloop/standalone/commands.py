"""`fairloop evaluate` and `fairloop stats`: the options. What they need is loaded when they run."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from fairloop.errors import InvalidInput

EXTRA = {"matplotlib", "jinja2"}
"""What the extra `stats` adds to the package's own dependencies."""

_FILE = click.Path(path_type=Path)


@contextlib.contextmanager
def needing_the_extra(command: str) -> Iterator[None]:
    """Says which extra to install when something of it is missing in the block."""
    try:
        yield
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in EXTRA:
            raise
        raise click.ClickException(
            f"`fairloop {command}` needs {missing}, which is not installed: pip install 'fairloop[stats]'"
        ) from error


@click.command()
@click.option(
    "--embeddings", type=_FILE, help="Embeddings: .npy (images × dimension), or an embedding table."
)
@click.option(
    "--subjects", type=_FILE, help="CSV or Parquet: one row per embedding with its subject and groups."
)
@click.option(
    "--pairs",
    multiple=True,
    metavar="FILE|RACE=FILE",
    help="Scored pairs instead: BFW's table, RFW's lists (one per race), or score,genuine,group.",
)
@click.option(
    "--group",
    "groups",
    multiple=True,
    metavar="COLUMN",
    help="Column of the groups; twice: intersections. For pairs also the stem of two (att: att1, att2).",
)
@click.option("--subject", "subject_column", metavar="COLUMN", help="Column of the subjects [subject].")
@click.option(
    "--score", "score_column", default="score", show_default=True, metavar="COLUMN", help="Of --pairs."
)
@click.option(
    "--distance",
    type=click.Choice(["euclidean", "squared_euclidean", "cosine"]),
    help="The scores of --pairs (and --threshold) are distances of this kind.",
)
@click.option("--fmr", type=float, help="False match rate of the common threshold [0.001].")
@click.option("--threshold", type=float, help="A common threshold from a calibration split instead.")
@click.option("--eer", is_flag=True, help="The common threshold where FMR and FNMR are equal instead.")
@click.option(
    "--folds",
    metavar="COLUMN|N",
    help="Choose the threshold of each fold of --pairs on the others; N: so many of consecutive pairs.",
)
@click.option(
    "--best-accuracy", is_flag=True, help="With --folds: the most accurate threshold instead (LFW)."
)
@click.option(
    "--impostors",
    type=click.Choice(["within_group", "all"]),
    default="within_group",
    show_default=True,
    help="Who is compared with whom.",
)
@click.option(
    "--alpha", type=float, default=0.5, show_default=True, help="Weight of FMR in GARBE and its kin."
)
@click.option("--replicates", type=int, default=1000, show_default=True, help="Of the resampling.")
@click.option(
    "--threshold-in-replicates",
    type=click.Choice(["fixed", "rechosen", "both"]),
    default="fixed",
    show_default=True,
    help="The common threshold in the replicates.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of the resampling.")
@click.option("--to", "folder", type=_FILE, help="Folder to write [named after the input].")
@click.option("--overwrite", is_flag=True, help="Replace an earlier evaluation in that folder.")
def evaluate(**options: Any) -> None:
    """Error rates per group and how unequal they are, with uncertainty over subjects.

    \b
    fairloop evaluate --embeddings e.npy --subjects s.csv --group race --fmr 1e-3
    fairloop evaluate --pairs bfw.csv --group e --group g
    fairloop evaluate --pairs African=african.txt --pairs Asian=asian.txt
    fairloop evaluate --pairs scores.csv

    Prints the report, and writes it as JSON, Parquet, figures and one page.
    """
    _check(options)
    with needing_the_extra("evaluate"):
        from fairloop.standalone import runs
    if options["pairs"]:
        for name in ("embeddings", "subjects", "subject_column"):
            del options[name]
        runs.evaluate_pair_files(**options)
    else:
        for name in ("pairs", "score_column", "distance", "folds"):
            del options[name]
        runs.evaluate_embedding_files(**options)


@click.group()
def stats() -> None:
    """Statistics of given numbers."""


@stats.command()
@click.argument("file", metavar="RATES", type=_FILE)
@click.option(
    "--alpha", type=float, default=0.5, show_default=True, help="Weight of FMR in GARBE and its kin."
)
@click.option("--replicates", type=int, default=1000, show_default=True, help="Of the resampling.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the resampling.")
@click.option("--to", "folder", type=_FILE, help="Folder to write [named after the input].")
@click.option("--overwrite", is_flag=True, help="Replace an earlier summary in that folder.")
def summary(**options: Any) -> None:
    """Every fairness summary of published rates.

    RATES is a table with the columns group, fmr, fnmr (0–1) and perhaps impostor,
    genuine (comparisons) and accuracy (percent).
    """
    _check_sampling(options)
    with needing_the_extra("stats summary"):
        from fairloop.standalone import runs
    runs.summarise_file(**options)


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _check(options: dict[str, Any]) -> None:
    """What options cannot stand together, before anything is read."""
    if options["pairs"]:
        for name in ("embeddings", "subjects", "subject_column"):
            if options[name] is not None:
                raise InvalidInput(_option(name).removesuffix("-column"), "does not go with --pairs")
    elif options["embeddings"] is None or options["subjects"] is None:
        raise InvalidInput("--embeddings", "give --embeddings and --subjects, or --pairs")
    else:
        for name in ("distance", "folds"):
            if options[name] is not None:
                raise InvalidInput(
                    _option(name), "is of the scores of --pairs; embeddings are compared by cosine"
                )
    for name in ("eer", "best_accuracy"):
        if options[name] and (options["fmr"] is not None or options["threshold"] is not None):
            raise InvalidInput(_option(name), "does not go with --fmr or --threshold")
    if options["folds"] is not None and options["threshold"] is not None:
        raise InvalidInput("--threshold", "does not go with --folds, which choose it")
    if options["eer"] and options["best_accuracy"]:
        raise InvalidInput("--best-accuracy", "does not go with --eer")
    if options["best_accuracy"] and options["folds"] is None:
        raise InvalidInput("--best-accuracy", "needs --folds")
    _check_sampling(options)


def _check_sampling(options: dict[str, Any]) -> None:
    if options["seed"] < 0 or options["seed"] >= 2**63:
        raise InvalidInput("--seed", f"{options['seed']} is outside 0–2^63−1")
    if not 100 <= options["replicates"] <= 100_000:
        raise InvalidInput("--replicates", f"{options['replicates']:,} is outside 100–100,000")
