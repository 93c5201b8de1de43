"""`fairloop layers` and `fairloop activations`: what there is inside a network, and what it answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fairloop.commands.options import label_source, where

if TYPE_CHECKING:
    from fairloop.store import ObjectStore
    from fairloop.v1 import annotator_pb2


@click.command()
@click.argument("network")
@where
def layers(network: str, addresses: tuple[str, ...], state_folder: Path, as_json: bool) -> None:
    """List the layers of NETWORK: name, class, shape of its answer to one image, trained numbers.

    NETWORK is an annotator that is a torch network (fairface, fairface_race4,
    clip, clip_s1), or a recogniser or classifier of the store.
    """
    from fairloop.client import Client
    from fairloop.commands.stored import resolved
    from fairloop.commands.surroundings import advised, surroundings
    from fairloop.errors import FairloopError
    from fairloop.store import ObjectStore

    with surroundings(state_folder, addresses), Client.from_environment() as client:
        try:
            name = resolved(ObjectStore.from_environment(), network) if "/" in network else network
            found = client.annotator.list_layers(name)
        except FairloopError as error:
            raise advised(error, "annotator") from error
    rows = [
        {
            "name": one.name,
            "type": one.type,
            "shape": list(one.shape),
            "units": one.units,
            "parameters": one.parameters,
            "runs": one.runs,
        }
        for one in found.layers
    ]
    if as_json:
        click.echo(json.dumps({"network": found.network, "input": list(found.input_shape), "layers": rows}))
        return
    width = max(len(one.name) for one in found.layers)
    for one in found.layers:
        shape = " × ".join(map(str, one.shape))
        click.echo(f"{one.name:{width}}  {one.type:18} {shape:>15}  {one.parameters:>12,}")
    shown = " × ".join(map(str, found.input_shape))
    click.echo(f"{found.network}: {len(rows)} layers; it is shown {shown}")
    click.echo(f"next: fairloop activations DATASET --network {network} --layer {found.layers[-1].name}")


@click.command()
@click.argument("source")
@click.option("--network", default="", help="As of `fairloop layers`; needed with a dataset.")
@click.option("--layer", "wanted", multiple=True, help="Name of a layer; repeatable.")
@click.option(
    "--pool",
    type=click.Choice(["none", "mean", "max"]),
    default="none",
    show_default=True,
    help="A unit is a number of a layer's maps, or the mean or largest of a channel's map.",
)
@click.option("--cropped", is_flag=True, help="Each image is one face that was cut out already.")
@click.option("--aligned", is_flag=True, help="Each image is what the network is shown: aligned already.")
@click.option(
    "--mask",
    "masks",
    multiple=True,
    metavar="LAYER=UNITS[*FACTOR]",
    help="Multiply units such as 0,4,7-9 with a factor [0]: predictions before and after; repeatable.",
)
@click.option(
    "--by",
    "groups",
    multiple=True,
    metavar="ATTRIBUTE=ANNOTATOR",
    help="Compare each unit between these groups; `given` for labels of the data; repeatable.",
)
@click.option("--annotations", default="", help="annotations/ID that has the labels of --by.")
@click.option(
    "--csv",
    "table",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Also write an index, image_paths and a column for each unit, as Fairface-Activations does.",
)
@where
def activations(
    source: str,
    network: str,
    wanted: tuple[str, ...],
    pool: str,
    cropped: bool,
    aligned: bool,
    masks: tuple[str, ...],
    groups: tuple[str, ...],
    annotations: str,
    table: Path | None,
    addresses: tuple[str, ...],
    state_folder: Path,
    as_json: bool,
) -> None:
    """Store what the units of a network's layers answer to each image of a dataset.

    SOURCE is a dataset, or activations/ID, of which only --csv is written.
    """
    from fairloop.client import Client
    from fairloop.commands.stored import ended, resolved
    from fairloop.commands.surroundings import surroundings
    from fairloop.store import ObjectStore
    from fairloop.v1 import annotator_pb2

    if cropped and aligned:
        raise click.BadParameter("is one of the two", param_hint="--cropped, --aligned")
    with surroundings(state_folder, addresses):
        store = ObjectStore.from_environment()
        name = resolved(store, source)
        if name.startswith("activations/"):
            if table is None:
                raise click.BadParameter("says where to write it", param_hint="--csv")
            _write(store, name, wanted, table)
            return
        if not network:
            raise click.BadParameter("is needed with a dataset", param_hint="--network")
        framing = "CROPPED" if cropped else "ALIGNED" if aligned else "UNSPECIFIED"
        request = annotator_pb2.ExtractActivationsRequest(
            dataset=name,
            network=resolved(store, network) if "/" in network else network,
            layers=wanted,
            pooling=f"POOLING_{pool.upper()}",
            framing=f"FRAMING_{framing}",
            masks=[parse_mask(text) for text in masks],
            groups=[label_source(text, "--by") for text in groups],
            annotations=annotations,
        )
        with Client.from_environment() as client:
            doing = f"looking inside {request.network}"
            found = ended(lambda: client.annotator.extract_activations(request), "annotator", doing)
        if as_json:
            from google.protobuf.json_format import MessageToDict

            click.echo(json.dumps(MessageToDict(found, preserving_proto_field_name=True)))
        else:
            _tell(found)
        if table is not None:
            _write(store, found.activations, (), table)


def parse_mask(text: str) -> annotator_pb2.UnitMask:
    """The mask of `layer4=0,4,7-9*0.5`; without a factor the units are silenced."""
    from fairloop.v1 import annotator_pb2

    layer, equals, rest = text.partition("=")
    numbers, _, factor = rest.partition("*")
    units: list[int] = []
    try:
        for part in numbers.split(","):
            first, _, last = part.partition("-")
            units += range(int(first), int(last or first) + 1)
        if not (layer and equals and units):
            raise ValueError(text)
        return annotator_pb2.UnitMask(layer=layer, units=units, factor=float(factor or 0))
    except ValueError as error:
        raise click.BadParameter(
            f"{text!r} is not LAYER=UNITS[*FACTOR], such as layer4=0,4,7-9*0.5", param_hint="--mask"
        ) from error


def _tell(found: annotator_pb2.ExtractActivationsResult) -> None:
    for warning in found.warnings:
        click.echo(f"note: {warning}")
    for effect in found.effects:
        group = effect.group or "all images"
        if effect.attribute:
            share = f"{effect.changed / effect.images:.1%} ({effect.low:.1%}–{effect.high:.1%})"
            click.echo(f"{effect.attribute}, {group}: {share} of {effect.images:,} labels changed")
        else:
            click.echo(f"{group}: mean cosine to the embedding without masks {effect.mean_cosine:.4f}")
    for one in found.selective:
        between = f" ({one.auc_low:.3f}–{one.auc_high:.3f})" if one.HasField("auc_low") else ""
        chance = f", p {one.p_holm:.2g}" if one.HasField("p_holm") else ""
        click.echo(f"{one.layer} unit {one.unit}, {one.group}: AUC {one.auc:.3f}{between}{chance}")
    shapes = ", ".join(f"{one.name} {list(one.shape)} as {one.units:,}" for one in found.layers)
    click.echo(
        f"{found.activations}: {found.images:,} images by {found.network}{': ' if shapes else ''}{shapes}"
    )
    if shapes:
        click.echo(f"next: fairloop activations {found.activations} --csv FILE, or read its table.parquet")


def _write(store: ObjectStore, name: str, wanted: tuple[str, ...], path: Path) -> None:
    """Writes a stored table as CSV; images are named by the file they came from, where that is known."""
    from fairloop.activations import opened, write_csv
    from fairloop.dataset import Dataset
    from fairloop.errors import InvalidInput

    with opened(store, name) as table:
        unknown = sorted(set(wanted) - {one.layer for one in table.layers})
        if unknown or not table.layers:
            there = ", ".join(one.layer for one in table.layers) or "none"
            raise InvalidInput("--layer", f"{name} has no layer {', '.join(unknown)}; it has {there}")
        dataset = next(parent for parent in table.manifest.parents if parent.startswith("datasets/"))
        index: Any = Dataset.open(store, dataset).index.select(["image_id", "labels"])
        columns = (index[column].to_pylist() for column in ("image_id", "labels"))
        files = {image: dict(labels or ()).get("file") for image, labels in zip(*columns, strict=True)}
        rows, left_out = write_csv(
            table, wanted, path, lambda image: files.get(image) or f"{dataset}/images/{image}"
        )
    click.echo(f"{path}: {rows:,} rows; {left_out:,} images without an answer are left out", err=True)
