"""`fairloop annotate`: pictures on this machine, described in the files of the reference systems."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import click

from fairloop.errors import InvalidInput
from fairloop.models import fetch

EVERY = 5.0  # seconds between two lines of progress


@click.command()
@click.argument("folder", required=False, type=click.Path(path_type=Path))
@click.option("--csv", "table", type=click.Path(path_type=Path), help="CSV file with a column img_path.")
@click.option(
    "--layout",
    type=click.Choice(["s1", "s3"]),
    help="Columns for FOLDER: s1 (CLIP's gender and skin tone) or s3 (prompt, gender, age, race).",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    help="Folder (with --csv, default: here) or CSV file (with --layout) to write.",
)
@click.option(
    "--padding",
    type=click.Choice(["0.25", "1.25"]),
    default="0.25",
    show_default=True,
    help="Margin of FairFace's chips.",
)
@click.option(
    "--layer",
    default="",
    help="With --csv: also what the units of this layer of FairFace answer, as fairface_activations.csv.",
)
@click.option(
    "--drawn", type=click.Path(path_type=Path), help="With s3: also draw boxes and labels, to here."
)
def annotate(
    folder: Path | None,
    table: Path | None,
    layout: str | None,
    output: Path | None,
    padding: str,
    layer: str,
    drawn: Path | None,
) -> None:
    """Describe the faces of pictures on this machine; no picture leaves it.

    With --csv: FairFace's race, gender and age of every face, as
    detected_faces/ and test_outputs.csv. With FOLDER and --layout: a CSV file in
    the columns of another reference system. What is there already is kept and
    not done again.
    """
    if (folder is None) == (table is None):
        raise InvalidInput("FOLDER", "name either a folder (with --layout) or a CSV file (with --csv)")
    if folder is not None and layout is None:
        raise InvalidInput("--layout", "is needed with FOLDER: s1 or s3")
    if layer and table is None:
        raise InvalidInput("--layer", "goes with --csv: it is a layer of FairFace")
    if folder is not None and output is None:
        raise InvalidInput("--output", "is needed with FOLDER: the CSV file to write")
    if table is not None:
        _chips(table, output or Path(), float(padding), layer)
    elif layout == "s1" and folder is not None and output is not None:
        _rubric(folder, output)
    elif folder is not None and output is not None:
        _prompts(folder, output, drawn)


def _chips(table: Path, output: Path, padding: float, layer: str) -> None:
    from services.annotator import chip_table, detectors

    paths = chip_table.image_paths(table)
    _needs("fairface")
    from services.annotator.fairface import FairFace, FairFaceRace4
    from services.annotator.torch_device import prepared

    click.echo(f"{len(paths):,} images; loading FairFace", err=True)
    device = prepared()
    annotators = [kind(fetch(kind.weights), padding, device) for kind in (FairFace, FairFaceRace4)]
    progress = _Progress(len(paths))
    done = None
    for done in chip_table.describe_list(paths, output, detectors.load(), annotators, padding, layer):
        progress(done.before + done.images)
    if done is not None:
        click.echo(f"{done.faces:,} faces in {done.images:,} images; {done.without:,} images without a face")
    click.echo(f"Next: {output / chip_table.OUTPUTS}, and {output / chip_table.REPORT} for every image")


def _rubric(folder: Path, output: Path) -> None:
    _needs("clip_s1")
    from services.annotator import rubric_table
    from services.annotator.clip import ClipS1

    click.echo("loading CLIP", err=True)
    progress = _Progress(None)
    done = None
    for done in rubric_table.label_folder(folder, output, ClipS1.load()):
        progress(done.before + done.images)
    for path, reason in done.unreadable if done is not None else ():
        click.echo(f"skipped {path}: {reason}", err=True)
    if done is not None:
        click.echo(f"{done.images:,} pictures labelled, {len(done.unreadable):,} could not be read")
    click.echo(f"Next: {output}")


def _prompts(folder: Path, output: Path, drawn: Path | None) -> None:
    for name in ("adience", "deepface"):
        _needs(name)
    from services.annotator import detectors, prompt_table, registry

    click.echo("loading the detector and two annotators", err=True)
    (adience,) = registry.load(["adience"])
    (deepface,) = registry.load(["deepface"], ["race6"])
    progress = _Progress(None)
    done = None
    for done in prompt_table.audit_prompts(folder, output, detectors.load(), adience, deepface, drawn):
        progress(done.before + done.images)
    if done is not None:
        click.echo(
            f"{done.images:,} pictures described, {done.without:,} without a face ({prompt_table.NOTHING})"
        )
    click.echo(f"Next: {output}")


def _needs(name: str) -> None:
    """Raises `PreconditionFailed` with the command when an annotator's packages are not installed."""
    from services.annotator import registry

    registry.check_installed(name)


class _Progress:
    """A line every few seconds on stderr: how many, how fast, how long it will take."""

    def __init__(self, total: int | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._total, self._clock = total, clock
        self._began = self._said = clock()
        self._first: int | None = None

    def __call__(self, done: int) -> None:
        now = self._clock()
        if self._first is None:
            self._first = done - 1
        if now - self._said < EVERY:
            return
        self._said = now
        rate = (done - self._first) / (now - self._began)
        left = f" of {self._total:,}, {(self._total - done) / rate:.0f} s left" if self._total else ""
        click.echo(f"  {done:,}{left}, {rate:.1f} images/s", err=True)
