"""`fairloop evaluate-recognizer`: judges a recogniser's file on a folder of people, without server and store.

The second reference system's evaluation: similarity over the years, fine-tuned
against baseline, GARBE of age groups over 40 thresholds; and beside it error
rates under worse pictures.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import click
import numpy as np
from numpy.typing import NDArray

from fairloop import importers
from fairloop.degraded import TRANSFORMS, Transform
from fairloop.errors import FairloopError, InvalidInput
from fairloop.importers import Folder
from fairloop.importers.record import Problem, Record
from fairloop.importers.source import UnusableFileError
from fairloop.pixels import UnreadableImage, decode
from fairloop.reporting.aged_models import AgedModel
from fairloop.standalone.output import check_folder, write_folder
from fairloop.standalone.table import read_header, read_table
from fairloop.stats.age_bands import MATED_PAIRS, Band, MatedPairs
from fairloop.stats.age_similarity import Bands, age_similarity
from fairloop.stats.age_sweep import AGE_GROUPS, AgeSweep, age_sweep
from fairloop.stats.robustness import Copies, Robustness, robustness
from fairloop.tables import input_digest
from services.recognizer import recogniser_file
from services.recognizer.recognisers import CropRecogniser

BATCH = 64
LAYOUTS = ("identity-folders", "fgnet")
BANDS = ("young", "middle", "old", "younger_side", "older_side", "non_mated")

COMPATIBLE = (
    "GARBE, FMR and FNMR of age groups count people without such photographs as non-matches and correct "
    "rejections, as the second reference system does: they are for comparison with its numbers alone."
)
COPIES = (
    "Worse pictures are copies made by computation: noise, motion and real pose are not in them, and "
    "narrowing shows no new side of a head."
)

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class People:
    """The images of a folder in its order; a picture that cannot be read is None."""

    images: list[Pixels | None]
    subjects: list[str]
    ages: list[float]
    digest: str
    """sha256 over paths and bytes."""


def read_people(path: Path, layout: str) -> People:
    """People, ages and pixels; InvalidInput names the first file that is not part of the layout."""
    folder = Folder.open(path, "--input")
    kind = importers.kind(layout)
    images: list[Pixels | None] = []
    subjects, ages = [], []
    digest = hashlib.sha256()
    for item in kind.open(folder, kind.options()).records():
        if isinstance(item, Problem):
            raise InvalidInput("--input", f"{item.where} {item.reason}")
        record: Record = item
        try:
            data, _ = folder.read(record.path)
        except UnusableFileError as error:
            raise InvalidInput("--input", f"{record.path}: {error}") from error
        digest.update(f"{record.path}\0{hashlib.sha256(data).hexdigest()}\n".encode())
        pixels = decode(data)
        images.append(None if isinstance(pixels, UnreadableImage) else pixels)
        subjects.append(str(record.subject))
        ages.append(float(record.labels["age_years"]))
    return People(images, subjects, ages, digest.hexdigest())


def embedded(
    recogniser: CropRecogniser, images: Sequence[Pixels | None], transform: Transform | None, level: float
) -> NDArray[np.float32]:
    """(images, dimension), NaN where there is no face. Copies are made batch by batch and kept nowhere."""
    vectors = np.full((len(images), recogniser.dimension), np.nan, np.float32)
    there = [(row, image) for row, image in enumerate(images) if image is not None]
    for start in range(0, len(there), BATCH):
        batch = there[start : start + BATCH]
        changed = [image if transform is None else transform(image, level) for _, image in batch]
        vectors[[row for row, _ in batch]] = recogniser.embed(changed).vectors
    return vectors


def missing(vectors: NDArray[np.float32]) -> NDArray[np.bool_]:
    """True for images without an embedding."""
    return np.asarray(~np.isfinite(vectors).all(axis=1))


def worse(
    recogniser: CropRecogniser,
    images: Sequence[Pixels | None],
    subjects: Sequence[str],
    groups: Sequence[str | None],
    untouched: NDArray[np.float32],
    *,
    fmr: float,
    seed: int,
    say: Callable[[str], None],
) -> Robustness:
    """Rates per group under every transform and level.

    The untouched images choose the threshold before a copy is made: where they are too few for `fmr`, that
    is said at once. InvalidInput by the option.
    """

    def copies() -> Iterator[Copies]:
        for name, transform in TRANSFORMS.items():
            say(f"embedding copies: {name}, {len(transform.levels)} levels")
            for level in (transform.untouched, *transform.levels):
                quality = None
                measure = transform.quality
                if measure is not None:
                    quality = np.array(
                        [np.nan if image is None else measure(transform(image, level)) for image in images]
                    )
                rows = untouched
                if level != transform.untouched:
                    rows = embedded(recogniser, images, transform, level)
                failed = missing(rows)
                if quality is not None:
                    quality[failed] = np.nan
                yield Copies(name, level, rows, failed, quality, transform.measured_by)

    try:
        return robustness(copies(), list(subjects), list(groups), fmr=fmr, seed=seed)
    except InvalidInput as error:
        found, *rest = error.violations
        option = {"fmr": "--fmr", "subjects": "--groups"}.get(found.field, found.field)
        raise InvalidInput(option, found.description, *rest) from error


def groups_of(file: Path, column: str, subjects: Sequence[str]) -> list[str | None]:
    """Each image's group by its subject, from a table with a row per subject; None for who is not in it."""
    header = read_header(file)
    people = header.check("subject", "--groups")
    column = header.check(column, "--group")
    table = read_table(header, [people, column])
    found: dict[str | None, str | None] = {}
    for row, (subject, group) in enumerate(zip(table.labels(people), table.labels(column), strict=True)):
        if subject in found:
            table.refuse(people, row, f"{subject} is there already; one row per subject")
        found[subject] = group
    groups = [found.get(subject) for subject in subjects]
    if not any(groups):
        raise InvalidInput(
            "--groups", f"{file.name} names nobody who is in the folder, such as {subjects[0]}"
        )
    return groups


def garbe_text(sweep: AgeSweep, epoch: int) -> str:
    """`garbe_metrics_.txt` as the second reference system writes it."""
    lines = [f"Epoch {epoch}:"]
    for at, threshold in enumerate(sweep.thresholds):
        lines += [
            f"Threshold = {threshold}: FMR {group.group.capitalize()} = {group.fmr[at]}, "
            f"FNMR {group.group.capitalize()} = {group.fnmr[at]}"
            for group in sweep.groups
        ]
        value = sweep.garbe[at]
        lines.append(f"GARBE({threshold}) = {'nan' if value is None else value}")
    return "\n".join(lines) + "\n"


def moments_text(found: Sequence[AgedModel]) -> str:
    """`mean_and_std.txt`: mean and sample deviation of every group, of every model."""
    lines = []
    for one in found:
        lines.append(f"{one.name}:")
        lines += [f"{g.group}: mean {g.mean}, std {g.std}" for g in one.similarity.groups]
    return "\n".join(lines) + "\n"


@click.command("evaluate-recognizer")
@click.option("--input", "data", type=click.Path(path_type=Path), required=True, help="Folder of people.")
@click.option("--layout", type=click.Choice(LAYOUTS), default=LAYOUTS[0], show_default=True)
@recogniser_file.model
@click.option("--baseline", help="The model that it is compared with, named in the same way.")
@recogniser_file.architecture
@recogniser_file.alignment
@click.option("--flip", is_flag=True, help="Sum the embeddings of an image and its mirror image.")
@click.option("--pairs", type=click.Choice(MATED_PAIRS), default=MATED_PAIRS[0], show_default=True)
@click.option(
    "--band", "bands", multiple=True, metavar="NAME=LOW-HIGH", help=f"Ages of a group: {', '.join(BANDS)}."
)
@click.option(
    "--age-group",
    "age_groups",
    multiple=True,
    metavar="NAME=LOW-HIGH",
    help="Age groups of GARBE [young=5-20, old=45-70].",
)
@click.option(
    "--compatible",
    is_flag=True,
    help="Count people without photographs as errors and write the reference system's text files.",
)
@click.option("--epoch", default=0, show_default=True, help="Named in those text files.")
@click.option(
    "--groups", type=click.Path(path_type=Path), help="Table: subject and group; asks for worse pictures."
)
@click.option("--group", "column", default="group", show_default=True, help="Column of --groups.")
@click.option("--fmr", default=0.001, show_default=True, help="Of the threshold for worse pictures.")
@click.option("--seed", default=0, show_default=True)
@click.option(
    "--to",
    "target",
    type=click.Path(path_type=Path),
    default=Path("recogniser-evaluation"),
    show_default=True,
)
@click.option("--overwrite", is_flag=True, help="Replace an earlier evaluation in that folder.")
def evaluate_recognizer(**given: Any) -> None:
    """Judge a recogniser on a folder of people (identity/identity_age images, or FG-NET's).

    Similarity over the years in five groups of pairs, GARBE of age groups at
    40 thresholds, and with --groups error rates of copies that are darker,
    blurred, compressed and turned. Writes tables, figures and one page.
    """
    try:
        _run(given)
    except FairloopError as error:
        raise click.ClickException(str(error)) from error


def _bands(words: Sequence[str], option: str) -> dict[str, Band]:
    found = {}
    for word in words:
        name, _, text = word.partition("=")
        if not name or name in found:
            raise InvalidInput(option, f"{word!r} is not NAME=LOW-HIGH, or names a band twice")
        found[name] = Band.parse(text, option)
    return found


def _run(given: Mapping[str, Any]) -> None:
    from fairloop.reporting.bundle import aged_files

    if not 0 < given["fmr"] < 1:
        raise InvalidInput("--fmr", f"{given['fmr']} is outside 0–1, both excluded")
    target = check_folder(given["target"], given["overwrite"])
    own = _bands(given["bands"], "--band")
    if strange := own.keys() - set(BANDS):
        raise InvalidInput("--band", f"{min(strange)!r} is not one of {', '.join(BANDS)}")
    bands = replace(Bands(), **own)
    age_groups = _bands(given["age_groups"], "--age-group") or AGE_GROUPS
    named = [name for name in (given["model"], given["baseline"]) if name is not None]
    files = [recogniser_file.located(name) for name in named]
    short = [recogniser_file.label(name) for name in named]
    names = short if len(set(short)) == len(short) else named
    if len(set(names)) < len(names):
        names = [names[0], f"{names[1]} (baseline)"]
    click.echo(f"reading {given['data']}")
    people = read_people(given["data"], given["layout"])
    groups = groups_of(given["groups"], given["column"], people.subjects) if given["groups"] else None
    unreadable = sum(image is None for image in people.images)
    known: dict[Path, NDArray[np.float32]] = {}
    found = []
    for name, path in zip(names, files, strict=True):
        recogniser = recogniser_file.read(
            path, given["architecture"], alignment=given["alignment"], flip=given["flip"]
        )
        click.echo(f"{name}: embedding {len(people.images):,} images of {len(set(people.subjects)):,} people")
        # The baseline may be the model itself: each file is embedded once.
        if path not in known:
            known[path] = embedded(recogniser, people.images, None, 0.0)
        vectors = known[path]
        pairs, failed = cast(MatedPairs, given["pairs"]), missing(vectors)
        who = people.subjects, people.ages
        found.append(
            AgedModel(
                name,
                age_similarity(vectors, *who, bands=bands, pairs=pairs, failures=failed),
                age_sweep(
                    vectors,
                    *who,
                    groups=age_groups,
                    pairs=pairs,
                    missing="non_match" if given["compatible"] else "left_out",
                    failures=failed,
                ),
                None
                if groups is None
                else worse(
                    recogniser,
                    people.images,
                    people.subjects,
                    groups,
                    vectors,
                    fmr=given["fmr"],
                    seed=given["seed"],
                    say=click.echo,
                ),
            )
        )
    inputs = {given["data"].name: people.digest}
    for path, name in zip(files, names, strict=True):
        with path.open("rb") as file:
            inputs[name] = hashlib.file_digest(file, "sha256").hexdigest()
    notes = [
        *([f"{unreadable} of {len(people.images)} images could not be read."] if unreadable else []),
        *([COMPATIBLE] if given["compatible"] else []),
        *([COPIES] if groups else []),
    ]
    facts = {
        "title": f"{names[0]} on {given['data'].name}",
        "label_source": f"file names of {given['data'].name}",
        "inputs": inputs,
        "digest": input_digest(inputs),
        "notes": notes,
        **({"picture_groups": f"column {given['column']} of {given['groups'].name}"} if groups else {}),
    }
    written = aged_files(found, facts)
    if given["compatible"]:
        written["garbe_metrics_.txt"] = garbe_text(found[0].sweep, given["epoch"]).encode()
        written["mean_and_std.txt"] = moments_text(found).encode()
    write_folder(target, written)
    for group in found[0].similarity.groups:
        mean = "none" if group.mean is None else f"{group.mean:.4f}"
        click.echo(f"{group.group}: mean {mean} over {group.identities} people, {group.left_out} left out")
    click.echo(f"{len(written)} files written; open {target / 'index.html'}")
