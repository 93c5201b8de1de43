"""`fairloop audit FOLDER`: who is seen in a folder of images, without a server and without a store.

The annotator service's own code, without its server. Images are read, never
written, and nothing leaves the machine; the results appear in a folder of
their own when all of them are there.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from fairloop.bombs import MAX_PIXELS
from fairloop.errors import InvalidInput
from fairloop.manifest import Clock, producer, rfc3339, utc_now
from fairloop.tables import STATUSES, FaceRow
from services.annotator import detector, folder_shares, images, ita, registry, skin, skin_tone
from services.annotator.core import Facts
from services.annotator.engine import Describing, Engine
from services.annotator.folder_faces import ContactSheet
from services.annotator.folder_images import (
    EXAMPLES,
    MOST_GROUPS,
    ImageFile,
    Listing,
    group_of,
    list_images,
    read_batches,
    readable,
)
from services.annotator.folder_labels import FAILED, Tally, agreements, sources_of
from services.annotator.folder_output import SCHEMA, check_output, default_output, writing
from services.annotator.folder_page import OUTCOMES, percent, render, words
from services.annotator.folder_progress import progress
from services.annotator.folder_tables import ImageIds, ImageTables, reason_of, write_shares

HOG = {
    "score": detector.THRESHOLD,
    "score_up_to_256_pixels": detector.FEW_WINDOWS_THRESHOLD,
    "largest_side": detector.LARGEST_SIDE,
}
"""Of `dlib_hog`; the other detectors have their numbers in their own files."""

LIBRARIES = ("dlib-bin", "numpy", "onnxruntime", "pillow", "pyarrow", "scipy")


@dataclass(frozen=True)
class Options:
    """What is audited and how; the options of the command."""

    folder: Path
    output: Path
    annotators: tuple[str, ...]
    threads: int
    faces: bool = True
    """Whether the page contains thumbnails."""
    uniform: bool = False
    """Whether shares are set beside equal ones."""
    grouped: bool | None = None
    """Whether subfolders are groups; None: when there are some, and not more than `MOST_GROUPS`."""
    overwrite: bool = False


@dataclass(frozen=True)
class Audit:
    """What was written: the output folder, its manifest, and the rows of `shares.parquet`."""

    output: Path
    manifest: Mapping[str, Any]
    shares: Sequence[Mapping[str, Any]]


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--output", type=click.Path(path_type=Path), help="Where to write.  [default: FOLDER-audit here]"
)
@click.option("--overwrite", is_flag=True, help="Replace an earlier audit in the output folder.")
@click.option(
    "--annotators",
    default=",".join(registry.DEFAULT),
    show_default=True,
    help="Who guesses, separated by commas; the first of each attribute is named first on the page.",
)
@click.option("--no-faces", is_flag=True, help="A page without thumbnails, to pass on.")
@click.option(
    "--target", type=click.Choice(["uniform"]), help="Also say how far the shares are from equal ones."
)
@click.option(
    "--group-by",
    type=click.Choice(["subfolder", "nothing"]),
    help=f"Subfolders are groups or prompts.  [default: where there are 1 to {MOST_GROUPS}]",
)
@click.option(
    "--threads",
    type=click.IntRange(1, 1024),
    default=lambda: os.cpu_count() or 1,
    show_default="processors",
    envvar="FAIRLOOP_THREADS",
    help="Cores to compute on, a process on each.",
)
def audit(
    folder: Path,
    output: Path | None,
    overwrite: bool,
    annotators: str,
    no_faces: bool,
    target: str | None,
    group_by: str | None,
    threads: int,
) -> None:
    """Say who is seen in the images of FOLDER: one HTML page and tables.

    Faces are found and perceived gender, age and skin tone are guessed on this
    machine; no image leaves it and nothing is written into FOLDER.
    """
    options = Options(
        folder=folder,
        output=output or default_output(folder, Path.cwd()),
        annotators=tuple(name.strip() for name in annotators.split(",") if name.strip()),
        threads=threads,
        faces=not no_faces,
        uniform=target == "uniform",
        grouped=None if group_by is None else group_by == "subfolder",
        overwrite=overwrite,
    )
    console = Console(stderr=True, highlight=False)
    with _terminable():
        made = audit_folder(options, console)
    _summarise(made, options)


def audit_folder(options: Options, console: Console, clock: Clock = utc_now) -> Audit:
    """Audits a folder and writes the output folder; what happens is said on `console`.

    Raises `InvalidInput` naming the option or the folder for everything that
    can be wrong with them, before weights are loaded. Images that cannot be
    read are rows.
    """
    created, started = clock(), time.monotonic()
    if not options.annotators:
        raise InvalidInput("annotators", f"is empty; name some of {', '.join(registry.ANNOTATORS)}")
    for name in options.annotators:
        registry.entry(name)
    listing = list_images(options.folder)
    target = check_output(options.output, options.folder, options.overwrite)
    grouped = _grouped(options, listing, console)
    others = sum(listing.skipped.values())
    skipped = f"; {others:,} other files and links are skipped" if others else ""
    console.print(
        f"{_counted(len(listing.images))} in {readable(str(options.folder))}{skipped}",
        markup=False,
        soft_wrap=True,
    )
    console.print(
        f"loading {', '.join(options.annotators)} (weights are fetched the first time)",
        markup=False,
        soft_wrap=True,
    )
    with Engine.load(options.threads, options.annotators) as engine, writing(target) as folder:
        loaded = {annotator.name: annotator for annotator in engine.select(()).annotators}
        annotators = [loaded[name] for name in options.annotators]
        versions = {annotator.name: annotator.version for annotator in annotators}
        guesses = [
            (attribute, annotator.name) for annotator in annotators for attribute in annotator.attributes
        ]
        with ImageTables(folder, guesses) as tables, progress(console, len(listing.images)) as advance:
            seen = _Seen(Tally(sources_of(guesses)), tables, ContactSheet() if options.faces else None)
            for batch, rows in _described(listing, engine):
                for file, row in zip(batch, rows, strict=True):
                    seen.add(file, row, readable(group_of(file.path)) if grouped else None)
                advance(len(batch))
        shares = folder_shares.share_rows(seen.tally, versions, options.uniform)
        write_shares(folder, shares, folder_shares.SCHEMA)
        manifest = {
            "schema": SCHEMA,
            "folder": readable(options.folder.resolve().name),
            "created": rfc3339(created),
            "seconds": round(time.monotonic() - started, 3),
            "target": "uniform" if options.uniform else None,
            "counts": seen.counts() | {"images": len(listing.images), "skipped": others},
            "skipped": listing.skipped,
            "annotators": _listed(annotators),
            "detector": {"name": engine.detector.name, "version": engine.detector.version},
            "thresholds": _thresholds(options.annotators, engine.detector.name),
            "agreement": agreements(seen.tally),
            "distances": folder_shares.distances(seen.tally, versions) if options.uniform else [],
            "producer": producer(*LIBRARIES),
        }
        examples = [(readable(path), reason) for path, reason in listing.examples]
        page = render(manifest, shares, seen.sheet, seen.failures, examples)
        (folder / "index.html").write_text(page, encoding="utf-8")
        text = json.dumps(manifest, indent=1, ensure_ascii=False, allow_nan=False)
        (folder / "manifest.json").write_text(text, encoding="utf-8")
    return Audit(target, manifest, shares)


class _Seen:
    """Everything that rows become, one image at a time."""

    def __init__(self, tally: Tally, tables: ImageTables, sheet: ContactSheet | None) -> None:
        self.tally, self.sheet = tally, sheet
        self.failures: list[tuple[str, str]] = []
        self._tables, self._ids = tables, ImageIds()

    def add(self, file: ImageFile, row: FaceRow, group: str | None) -> None:
        """Writes, counts and, where it is chosen, shows one image."""
        path, identifier = readable(file.path), self._ids.next(file.picture)
        reason = reason_of(file.picture, row)
        self._tables.add(identifier, path, group, row, reason)
        self.tally.add(row, group)
        label = self.tally.headline.label(row)
        if label == FAILED:
            self.failures += [(path, reason)] if len(self.failures) < EXAMPLES else []
        elif self.sheet is not None and isinstance(file.picture, bytes):
            self.sheet.offer(label, identifier, path, file.picture, row)

    def counts(self) -> dict[str, int]:
        """What the manifest says of the images."""
        statuses = {f"status_{status}": self.tally.statuses[status] for status in STATUSES}
        return statuses | {
            "failed": statuses["status_corrupt"] + statuses["status_too_large"],
            "repeats": self._ids.repeats,
            "groups": len(self.tally.groups()),
            "thumbnails": 0 if self.sheet is None else len(self.sheet),
        }


def _grouped(options: Options, listing: Listing, console: Console) -> bool:
    """Whether subfolders are groups."""
    folders = len(listing.subfolders())
    if options.grouped and not folders:
        raise InvalidInput("group-by", f"{options.folder} has no subfolder with images; leave the option out")
    if options.grouped is None and folders > MOST_GROUPS:
        console.print(
            f"{folders:,} subfolders are hardly groups or prompts, so they are not counted one by one; "
            "--group-by subfolder does it all the same"
        )
        return False
    return options.grouped if options.grouped is not None else folders > 0


def _described(listing: Listing, engine: Engine) -> Iterator[tuple[list[ImageFile], list[FaceRow]]]:
    """Batches of files with their rows; the next one is read and begun while one is dealt with."""
    chosen = engine.select(())
    begun: tuple[list[ImageFile], Describing] | None = None
    for batch in read_batches(listing):
        following = engine.begin([file.picture for file in batch], chosen)
        if begun is not None:
            yield begun[0], begun[1].rows()
        begun = batch, following
    if begun is not None:
        yield begun[0], begun[1].rows()


def _listed(annotators: Sequence[Facts]) -> dict[str, dict[str, Any]]:
    return {
        annotator.name: {
            "version": annotator.version,
            "attributes": list(annotator.attributes),
            "description": registry.entry(annotator.name).description,
        }
        for annotator in annotators
    }


def _thresholds(names: Sequence[str], finder: str) -> dict[str, dict[str, Any]]:
    """The numbers that decide, by what they belong to; the versions stand for all of them."""
    rules = {
        "skin_tone": {
            "light_from_lightness": skin_tone.EDGES[0],
            "medium_from_lightness": skin_tone.EDGES[1],
        },
        "ita": {"light_from_degrees": ita.EDGES[0], "medium_from_degrees": ita.EDGES[1]},
    }
    return {
        "images": {"most_pixels": MAX_PIXELS, "formats": list(images.FORMATS)},
        **({"detector": HOG} if finder == detector.Detector.name else {}),
        "exposures": {"stops": list(skin.EXPOSURES), "most_skin_clipped": skin.MOST_CLIPPED},
        **{name: rule for name, rule in rules.items() if name in names},
    }


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM ends the block as Ctrl-C does: what was begun is cleared away."""

    def end(number: int, _frame: object) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _summarise(made: Audit, options: Options) -> None:
    """A short table of shares, where the page is, and what to do next."""
    # A pipe has no width; 80 columns would break the rows.
    console = Console(width=None if sys.stdout.isatty() else 120, highlight=False, markup=False)
    tables: dict[str, dict[str, list[Mapping[str, Any]]]] = {}
    for row in made.shares:
        if row["group"] is None and row["cell"] not in OUTCOMES:
            tables.setdefault(row["attributes"], {}).setdefault(row["cell"], []).append(row)
    columns = max(len(lines) for cells in tables.values() for lines in cells.values())
    table = Table(box=None, pad_edge=False, show_header=False)
    for attributes, cells in tables.items():
        who = [row["annotators"].replace(",", ", ") for row in next(iter(cells.values()))]
        table.add_row(f"perceived {attributes.replace(',', ' × ').replace('_', ' ')}, by", *who, style="bold")
        for cell, lines in cells.items():
            if len(cells) <= 6 or any(row["count"] for row in lines):
                table.add_row(f"  {words(cell)}", *(_share(row) for row in lines))
        table.add_row(*[""] * (1 + columns))
    console.print(table)
    counts = made.manifest["counts"]
    console.print(
        f"{_counted(counts['images'])}: {counts['status_no_face']:,} without a face, "
        f"{counts['status_several_faces']:,} with several, {counts['failed']:,} could not be read; "
        f"{made.manifest['seconds']:.1f} s"
    )
    click.echo(f"page: {readable(str(made.output / 'index.html'))}")
    if options.faces:
        command = [
            "fairloop",
            "audit",
            str(options.folder),
            "--no-faces",
            "--output",
            f"{made.output}-no-faces",
        ]
        click.echo(f"next, for a page without pictures to pass on: {readable(shlex.join(command))}")
    else:
        click.echo("next, to see a generator made fairer and what that changes: make demo")


def _counted(images: int) -> str:
    return "1 image" if images == 1 else f"{images:,} images"


def _share(row: Mapping[str, Any]) -> str:
    if row["share"] is None:
        return "–"
    ends = f"({100 * row['share_low']:.1f}–{100 * row['share_high']:.1f})"
    return f"{percent(row['share']):>7} {ends:<12} {row['count']:>6,}"
