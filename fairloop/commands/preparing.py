"""`fairloop datasets caption | compose | split | merge`: thin over `fairloop.preparation`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fairloop.commands.dataset_names import full_name, new_name, use
from fairloop.commands.demands import composition_of, demands, words
from fairloop.commands.stored import opened, state_dir

if TYPE_CHECKING:
    from fairloop.dataset import Dataset
    from fairloop.preparation.derived import Derived, Piece
    from fairloop.store import ObjectStore

TO = click.option("--to", required=True, metavar="NAME", help="Of the new dataset.")
SEED = click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
SHARED = click.option(
    "--shared",
    type=click.Choice(["refuse", "keep"]),
    default="refuse",
    show_default=True,
    help="Equal bytes under two subjects.",
)


@click.command()
@click.argument("name")
@click.option("--template", default=None, help="Labels stand in braces [face of {race} person].")
@click.option(
    "--compatible", is_flag=True, help="The first reference system's strings, its double space included."
)
@click.option(
    "--missing",
    type=click.Choice(["refuse", "skip"]),
    default="refuse",
    show_default=True,
    help="Images without a label of the template; with skip they get no caption.",
)
@TO
@use("research")
@state_dir
def caption(
    name: str,
    template: str | None,
    compatible: bool,
    missing: str,
    to: str,
    policy: str,
    acknowledge: str,
    state_folder: Path,
) -> None:
    """Give every image of NAME a caption made from its labels, as the label `text`."""
    from fairloop.preparation.captions import TEMPLATE, captioned, check_template
    from fairloop.preparation.derived import Piece

    target, template = new_name(to), template or TEMPLATE
    wanted = check_template(template)
    made = captioned(template, compatible)

    def change(row: Mapping[str, Any]) -> Mapping[str, Any]:
        return made(row) if set(wanted) <= dict(row["labels"] or ()).keys() else {}

    told = {"kind": "caption", "template": template, "compatible": compatible}
    with opened(state_folder) as store:
        (source,) = _opened(store, [name])
        lacking = _lacking(source, wanted, missing)
        done = _write(store, target, [Piece(source, change=change)], told, policy, acknowledge)
    if lacking:
        click.echo(f"  {lacking:,} images have no caption, since they lack a label of the template")
    _tell(done)


@click.command()
@click.argument("names", nargs=-1, required=True)
@click.option(
    "--want",
    "wants",
    multiple=True,
    metavar="CELL:SOURCE:COUNT",
    help="Such as race=white:real:3000 or gender=female,race=black:synthetic:500.",
)
@click.option(
    "--composition",
    type=click.Path(path_type=Path, dir_okay=False),
    help="TOML or JSON: races and counts, synthetic ones with S_ (White = 3000, S_White = 500).",
)
@click.option(
    "--short",
    type=click.Choice(["refuse", "take"]),
    default="refuse",
    show_default=True,
    help="When there are fewer images than wanted.",
)
@SEED
@SHARED
@TO
@use("research")
@state_dir
def compose(
    names: Sequence[str],
    wants: Sequence[str],
    composition: Path | None,
    short: str,
    seed: int,
    shared: str,
    to: str,
    policy: str,
    acknowledge: str,
    state_folder: Path,
) -> None:
    """Draw so many images of each cell, real and synthetic, from the datasets NAMES."""
    from fairloop.preparation.composition import compose as plan
    from fairloop.preparation.derived import Piece

    if bool(wants) == bool(composition):
        raise click.UsageError("give --want, once or more often, or --composition")
    wanted = composition_of(composition) if composition else demands(wants)
    target = new_name(to)
    with opened(state_folder) as store:
        sources = _opened(store, names)
        rows = [row for source in sources for row in _columns(source, "labels", "source")]
        composed = plan(rows, wanted, seed=seed, short=short)
        pieces, start = [], 0
        for source in sources:
            stop = start + len(source)
            own = [position - start for position in composed.rows if start <= position < stop]
            pieces += [Piece(source, own)] if own else []
            start = stop
        told = {
            "kind": "compose",
            "seed": seed,
            "wanted": {words(demand): count for demand, count in sorted(wanted.items())},
            "short": {words(demand): count for demand, count in sorted(composed.short.items())},
        }
        done = _write(store, target, pieces, told, policy, acknowledge, shared)
    for demand, count in sorted(composed.taken.items()):
        lacking = composed.short.get(demand)
        click.echo(f"  {words(demand)}: {count:,}" + (f" ({lacking:,} too few)" if lacking else ""))
    _tell(done)


@click.command()
@click.argument("name")
@click.option(
    "--shares", default="train=0.8,test=0.2", show_default=True, metavar="PART=SHARE,…", help="Together 1."
)
@click.option(
    "--by",
    type=click.Choice(["subject", "image"]),
    default="subject",
    show_default=True,
    help="subject: nobody stands in two parts. image: everybody stands in the first (closed set).",
)
@click.option(
    "--balance", default="", metavar="LABEL,…", help="With --by subject: the same make-up in each part."
)
@click.option("--apart", is_flag=True, help="One dataset per part, NAME-train and so on, instead of a label.")
@SEED
@TO
@use("research")
@state_dir
def split(
    name: str,
    shares: str,
    by: str,
    balance: str,
    apart: bool,
    seed: int,
    to: str,
    policy: str,
    acknowledge: str,
    state_folder: Path,
) -> None:
    """Split NAME into parts, drawn from a seed: the label `split` of each image."""
    from fairloop.errors import InvalidInput
    from fairloop.preparation.derived import Piece
    from fairloop.preparation.splits import by_image, by_subject

    target, parts = new_name(to), _shares(shares)
    attributes = [text for text in balance.split(",") if text]
    if attributes and by == "image":
        raise InvalidInput("--balance", "is for --by subject; by image every subject is split on its own")
    with opened(state_folder) as store:
        (source,) = _opened(store, [name])
        rows = _columns(source, "image_id", "subject_id", "labels")
        _check_labels(rows, attributes)
        if by == "subject":
            found = by_subject(rows, parts, seed=seed, attributes=attributes)
        else:
            found = by_image(rows, parts, seed=seed)
        part_of = {rows[i]["image_id"]: part for part, positions in found.items() for i in positions}

        def change(row: Mapping[str, Any]) -> Mapping[str, Any]:
            return {"labels": {**dict(row["labels"] or ()), "split": part_of[row["image_id"]]}}

        told = {"kind": "split", "by": by, "shares": parts, "seed": seed, "balance": attributes}
        wanted = {f"{target}-{part}": own for part, own in found.items()} if apart else {target: None}
        for full, own in wanted.items():
            done = _write(
                store, new_name(full), [Piece(source, own, change=change)], told, policy, acknowledge
            )
            _tell(done)
    for part, own in found.items():
        people = len({rows[i]["subject_id"] for i in own} - {None})
        click.echo(f"  {part}: {len(own):,} images of {people:,} subjects")


@click.command()
@click.argument("names", nargs=-1, required=True)
@click.option(
    "--prefix",
    "prefixes",
    multiple=True,
    help="New namespace of the subjects, one per dataset, so that two people called 1 stay two.",
)
@click.option(
    "--races",
    type=click.Choice(["race6", "race4"]),
    help="Also a label with East and Southeast Asian as one.",
)
@SHARED
@TO
@use("research")
@state_dir
def merge(
    names: Sequence[str],
    prefixes: Sequence[str],
    races: str | None,
    shared: str,
    to: str,
    policy: str,
    acknowledge: str,
    state_folder: Path,
) -> None:
    """Join the datasets NAMES; rows equal in bytes and subject become one."""
    from fairloop import names as patterns
    from fairloop.errors import InvalidInput
    from fairloop.preparation.composition import merged_race
    from fairloop.preparation.derived import Piece

    target = new_name(to)
    if prefixes and len(prefixes) != len(names):
        raise InvalidInput(
            "--prefix", f"{len(prefixes)} for {len(names)} datasets; give one for each, or none"
        )
    for prefix in prefixes:
        patterns.check("dataset", f"datasets/{prefix}", "--prefix")

    def change(row: Mapping[str, Any]) -> Mapping[str, Any]:
        labels = dict(row["labels"] or ())
        return {"labels": merged_race(labels, races) if races else labels}

    with opened(state_folder) as store:
        sources = _opened(store, names)
        pieces = [
            Piece(source, prefix=prefixes[k] if prefixes else None, change=change)
            for k, source in enumerate(sources)
        ]
        told = {"kind": "merge", "prefixes": list(prefixes), "races": races or ""}
        done = _write(store, target, pieces, told, policy, acknowledge, shared)
    if done.joined:
        click.echo(f"  {done.joined:,} images were in two of them with the same subject and are one now")
    _tell(done)


def _opened(store: ObjectStore, names: Sequence[str]) -> list[Dataset]:
    from fairloop.dataset import Dataset

    return [Dataset.open(store, full_name(store, name)) for name in names]


def _lacking(source: Dataset, wanted: Sequence[str], missing: str) -> int:
    """How many images lack one of these labels; `InvalidInput` when they may not."""
    from fairloop.errors import InvalidInput

    count = sum(not set(wanted) <= dict(row["labels"] or ()).keys() for row in _columns(source, "labels"))
    if count and (missing == "refuse" or count == len(source)):
        raise InvalidInput(
            "--template",
            f"{count:,} of {len(source):,} images of {source.name} lack a label that it names "
            f"({', '.join(wanted)}); --missing skip leaves them without a caption where others have one",
        )
    return count


def _columns(source: Dataset, *columns: str) -> list[dict[str, Any]]:
    """What a plan needs of every row, and no more."""
    rows: list[dict[str, Any]] = source.index.select(list(columns)).to_pylist()
    return rows


def _write(
    store: ObjectStore,
    target: str,
    pieces: Sequence[Piece],
    told: Mapping[str, Any],
    policy: str,
    acknowledge: str,
    shared: str = "refuse",
) -> Derived:
    from fairloop.commands.progress import bar
    from fairloop.preparation.derived import write
    from fairloop.provenance import terms

    allowed = terms.check(store, [piece.dataset.name for piece in pieces], policy, acknowledge)
    for note in allowed.warnings:
        click.echo(f"note: {note}", err=True)
    with terms.under(allowed), bar(unit="images") as progress:
        return write(
            store,
            target,
            pieces,
            shared=shared,
            details={"preparation": dict(told)},
            progress=lambda done, total: progress("writing", done, total),
        )


def _tell(done: Derived) -> None:
    counts = done.dataset.manifest.counts
    click.echo(f"{done.dataset.name}: {counts['images']:,} images of {counts['subjects']:,} subjects")
    click.echo(f"next: fairloop datasets explore {done.dataset.name} --to FOLDER")


def _shares(text: str) -> dict[str, float]:
    from fairloop.errors import InvalidInput
    from fairloop.preparation.splits import check_shares

    found: dict[str, float] = {}
    for part in text.split(","):
        name, _, share = part.partition("=")
        try:
            found[name] = float(share)
        except ValueError:
            raise InvalidInput("--shares", f"{part!r} is not PART=SHARE such as train=0.8") from None
        if not name.replace("_", "").isalnum() or not name.isascii() or name != name.lower():
            raise InvalidInput("--shares", f"{name!r} is no name of a–z, 0–9 and _")
    check_shares(found)
    return found


def _check_labels(rows: Sequence[Mapping[str, Any]], attributes: Sequence[str]) -> None:
    from fairloop.errors import InvalidInput

    known = {name for row in rows for name, _ in row["labels"] or ()}
    for attribute in attributes:
        if attribute not in known:
            raise InvalidInput(
                "--balance", f"no image has the label {attribute!r}; there are {', '.join(sorted(known))}"
            )
