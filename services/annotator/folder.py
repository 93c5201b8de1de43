"""`fairloop audit FOLDER`: who is seen in a folder of images, without a server and without a store.

The annotator service's own code in this process. Images are read, never
written, and nothing leaves the machine; the results appear in a folder of
their own when all of them are there.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from fairloop.errors import InvalidInput
from fairloop.manifest import Clock, producer, rfc3339, utc_now
from services.annotator import detector, folder_shares, images, ita, registry, skin, skin_tone
from services.annotator.engine import Engine
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
from services.annotator.folder_labels import FAILED, Source, Tally, agreements, sources_of
from services.annotator.folder_output import SCHEMA, check_output, default_output, writing
from services.annotator.folder_page import OUTCOMES, percent, render
from services.annotator.folder_progress import progress
from services.annotator.folder_tables import ImageIds, ImageTables, reason_of, write_shares

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
@click.option("--output", type=click.Path(path_type=Path), help="Where to write.  [default: FOLDER-audit here]")
@click.option("--overwrite", is_flag=True, help="Replace an earlier audit in the output folder.")
@click.option(
    "--annotators",
    default=",".join(registry.ANNOTATORS),
    show_default=True,
    help="Who guesses, separated by commas; the first of each attribute is named first on the page.",
)
@click.option("--no-faces", is_flag=True, help="A page without thumbnails, to pass on.")
@click.option("--target", type=click.Choice(["uniform"]), help="Also say how far the shares are from equal ones.")
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
    help="Threads that decode, detect and annotate.",
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
    target = check_output(options.output, options.folder, options.overwrite)
    listing = list_images(options.folder)
    grouped = _grouped(options, listing, console)
    others = sum(listing.skipped.values())
    skipped = f"; {others:,} other files skipped" if others else ""
    console.print(f"{len(listing.images):,} images in {_text(options.folder)}{skipped}", markup=False)
    console.print(f"loading {', '.join(options.annotators)} (weights are fetched the first time)", markup=False)
    engine, versions = _load(options)
    # The annotators' order, not the alphabet's, says who is named first.
    guesses = [key for name in options.annotators for key in engine.guesses([name])]
    tally, ids = Tally(sources_of(guesses)), ImageIds()
    sheet = ContactSheet() if options.faces else None
    failures: list[tuple[str, str]] = []
    with writing(target) as folder:
        with ImageTables(folder, guesses) as tables, progress(console, len(listing.images)) as advance:
            for batch in read_batches(listing):
                _annotate(batch, engine, grouped, tally, ids, tables, sheet, failures)
                advance(len(batch))
        rows = folder_shares.share_rows(tally, versions, options.uniform)
        write_shares(folder, rows, folder_shares.SCHEMA)
        manifest = {
            **_manifest(options, engine, versions, tally, created),
            "counts": {
                "images": len(listing.images),
                "skipped": others,
                "repeats": ids.repeats,
                "failed": tally.statuses["corrupt"] + tally.statuses["too_large"],
                "groups": len(tally.groups()),
                "thumbnails": len(sheet) if sheet is not None else 0,
                **{f"status_{status}": count for status, count in sorted(tally.statuses.items())},
            },
            "skipped": listing.skipped,
            "seconds": round(time.monotonic() - started, 3),
        }
        examples = [(readable(path), reason) for path, reason in listing.examples]
        page = render(manifest, rows, sheet, failures, examples)
        (folder / "index.html").write_text(page, encoding="utf-8")
        text = json.dumps(manifest, indent=1, ensure_ascii=False, allow_nan=False)
        (folder / "manifest.json").write_text(text, encoding="utf-8")
    return Audit(target, manifest, rows)


def _annotate(
    batch: Sequence[ImageFile],
    engine: Engine,
    grouped: bool,
    tally: Tally,
    ids: ImageIds,
    tables: ImageTables,
    sheet: ContactSheet | None,
    failures: list[tuple[str, str]],
) -> None:
    """Describes one batch and hands its rows to whoever counts, writes or shows them."""
    shown: Source = tally.sources[-1] if len(tally.sources[-1].terms) == 1 else _first_intersection(tally)
    rows = engine.describe([file.picture for file in batch], ())
    for file, row in zip(batch, rows, strict=True):
        identifier, group = ids.next(file.picture), group_of(file.path) if grouped else None
        reason = reason_of(file.picture, row)
        tables.add(identifier, file.path, group, row, reason)
        tally.add(row, None if group is None else readable(group))
        label = shown.label(row)
        if label == FAILED and len(failures) < EXAMPLES:
            failures.append((readable(file.path), reason))
        if sheet is not None and label != FAILED and isinstance(file.picture, bytes):
            sheet.offer(label, identifier, readable(file.path), file.picture, row)
