"""`fairloop train-classifier`, `fairloop models evaluation`: a network for one attribute, and its verdict."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from fairloop.commands.options import where
from fairloop.commands.stored import ended, opened, resolved, state_dir
from fairloop.errors import DataLoss, PreconditionFailed

LOSSES = ("cross_entropy", "dag", "daw")
CHANGES = ("blur", "brightness", "crop", "hue", "jpeg", "rotation")


@click.command("train-classifier")
@click.argument("dataset")
@click.argument("attribute")
@click.option("--name", required=True, help="Name of the model in the store.")
@click.option("--base", help="A classifier, or what `models put-classifier-base` stored.")
@click.option(
    "--architecture", type=click.Choice(["vgg_face", "resnet34", "resnet_small"]), help="Fresh weights."
)
@click.option("--train", "trained", type=click.Choice(["head", "top", "all"]), help="Which part learns.")
@click.option(
    "--images",
    "demands",
    multiple=True,
    metavar="CELL:SOURCE:COUNT",
    help="Composition of the training set, such as race=white:real:3000; repeatable.",
)
@click.option("--take-what-there-is", is_flag=True, help="Where the composition asks for more.")
@click.option("--validation", help="Dataset that chooses the best epoch [a share of DATASET].")
@click.option("--test", help="Dataset that judges the result [a share of DATASET].")
@click.option("--epochs", type=click.IntRange(1, 10_000), default=20, show_default=True)
@click.option(
    "--epoch-images",
    type=click.IntRange(0),
    default=0,
    help="Draws of an epoch, such as 512 [each image once].",
)
@click.option(
    "--patience", type=click.IntRange(0), default=10, show_default=True, help="0: never ends early."
)
@click.option("--learning-rate", type=float, default=0.0, help="Of Adam [0.001].")
@click.option("--batch-size", type=click.IntRange(0), default=0, help="Images of a step [32].")
@click.option("--loss", type=click.Choice(LOSSES), default="cross_entropy", show_default=True)
@click.option("--class-weights", is_flag=True, help="Rare classes weigh more.")
@click.option("--align", is_flag=True, help="Find each face and turn it upright.")
@click.option(
    "--by", "groups", multiple=True, help="Given attribute to judge by, and groups of daw; repeatable."
)
@click.option(
    "--robustness", "changes", multiple=True, type=click.Choice([*CHANGES, "all"]), help="Repeatable."
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@where
def train_classifier(
    dataset: str,
    attribute: str,
    name: str,
    base: str | None,
    validation: str | None,
    test: str | None,
    addresses: tuple[str, ...],
    state_folder: Path,
    as_json: bool,
    **options: Any,
) -> None:
    """Train a network that guesses ATTRIBUTE on DATASET, whose images came with it.

    The model is an annotator: its name stands where annotators are named.
    """
    from fairloop.client import Client
    from fairloop.commands.surroundings import surroundings
    from fairloop.store import ObjectStore

    request = _request(attribute, name, options)
    with surroundings(state_folder, addresses), Client.from_environment() as client:
        store = ObjectStore.from_environment()
        named = {"dataset": dataset, "base": base, "validation_dataset": validation, "test_dataset": test}
        for field, value in named.items():
            if value:
                setattr(request, field, resolved(store, value))
        doing = f"training on {request.dataset}"
        found = ended(lambda: client.annotator.train_classifier(request), "annotator", doing)
    if as_json:
        click.echo(found.evaluation_json)
        return
    for one in found.lacking:
        click.echo(f"note: {one.count:,} {one.source} images of {one.cell or 'anybody'} were lacking")
    click.echo(
        f"{found.model}: {found.accuracy:.1%} ({found.accuracy_low:.1%}–{found.accuracy_high:.1%}) of "
        f"{found.test_images:,} images are called what they are; epoch {found.best_epoch} of {found.epochs}"
    )
    click.echo(f"predictions: {found.predictions}")
    click.echo(f"next: fairloop models evaluation {found.model} --to FOLDER")


def _request(attribute: str, name: str, options: Mapping[str, Any]) -> Any:
    from fairloop.v1 import annotator_pb2 as pb

    changes = CHANGES if "all" in options["changes"] else options["changes"]
    wanted = pb.ClassifierOptions(
        **{
            field: options[field]
            for field in ("epochs", "epoch_images", "patience", "learning_rate", "batch_size")
        },
        loss=f"CLASSIFIER_LOSS_{options['loss'].upper()}",
        trained=f"CLASSIFIER_TRAINED_{(options['trained'] or 'unspecified').upper()}",
        class_weights=options["class_weights"],
        group_by=options["groups"],
        take_what_there_is=options["take_what_there_is"],
        robustness=changes,
    )
    if options["align"]:
        wanted.alignment = pb.CLASSIFIER_ALIGNMENT_LANDMARKS
    return pb.TrainClassifierRequest(
        target_model=f"models/{name.removeprefix('models/')}",
        attribute=attribute,
        architecture=options["architecture"] or "",
        composition=[_demand(text) for text in options["demands"]],
        seed=options["seed"],
        options=wanted,
    )


def _demand(text: str) -> Any:
    from fairloop.v1 import annotator_pb2

    cell, first, rest = text.partition(":")
    source, second, count = rest.partition(":")
    if not (first and second and count.isdecimal()):
        raise click.BadParameter(f"{text!r} is not CELL:SOURCE:COUNT", param_hint="--images")
    return annotator_pb2.ImageDemand(cell=cell, source=source, count=int(count))


@click.command("evaluation")
@click.argument("model")
@click.option(
    "--to",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="Folder for the figures, tables and JSON.",
)
@state_dir
def evaluation(model: str, folder: Path, state_folder: Path) -> None:
    """Write how the classifier MODEL was judged: confusion matrices, histogram, losses; PNG, CSV and JSON."""
    import pyarrow.parquet as pq

    from fairloop import manifest, registry
    from fairloop.reporting.figures import classifier as drawn

    with opened(state_folder) as store:
        name = resolved(store, model)
        found = registry.open_model(store, name, "annotator", "MODEL")
        parts = {part.key.rsplit("/", 1)[1]: part for part in found.parts}
        if "evaluation.json" not in parts:
            raise PreconditionFailed(f"{name} keeps no evaluation: it was not trained here")
        judged = manifest.read_part(store, parts["evaluation.json"])
        epochs = manifest.read_part(store, parts["epochs.parquet"])
    try:
        body = json.loads(judged)
        groupings = list(dict.fromkeys(table["grouping"] for table in body["tables"]))
        files = {
            "evaluation.json": judged,
            "epochs.parquet": epochs,
            "confusion.csv": _confusion_csv(body),
            "predictions.png": drawn.png(drawn.called_canvas(body)),
            "losses.png": drawn.png(drawn.curve_canvas(pq.read_table(io.BytesIO(epochs)), name)),
        }
        for grouping in groupings:
            suffix = f"-{grouping.replace(' × ', '-')}" if grouping else ""
            files[f"confusion{suffix}.png"] = drawn.png(drawn.confusion_canvas(body, grouping))
        if "robustness" in body:
            files["robustness.csv"] = _robustness_csv(body)
    except (ValueError, KeyError, TypeError) as error:
        raise DataLoss(f"{parts['evaluation.json'].key} is no evaluation ({error})") from error
    folder.mkdir(parents=True, exist_ok=True)
    for file, data in files.items():
        (folder / file).write_bytes(data)
    click.echo(f"{len(files)} files in {folder}; open {folder / 'confusion.png'}")


def _confusion_csv(body: Mapping[str, Any]) -> bytes:
    """One line for each cell: grouping, group, true class, predicted class, images."""
    rows = [
        (table["grouping"], table["group"], true, predicted, count)
        for table in body["tables"]
        for true, line in zip(body["classes"], table["confusion"], strict=True)
        for predicted, count in zip(body["classes"], line, strict=True)
    ]
    return _csv(("grouping", "group", "true", "predicted", "images"), rows)


def _robustness_csv(body: Mapping[str, Any]) -> bytes:
    """One line for each group under each level of each change."""
    rows = [
        (step["change"], step["level"], grouping["grouping"], one["group"], one["images"], one["accuracy"])
        for step in body["robustness"]
        for grouping in step["groupings"]
        for one in grouping["groups"]
    ]
    return _csv(("change", "level", "grouping", "group", "images", "accuracy"), rows)


def _csv(header: tuple[str, ...], rows: list[tuple[Any, ...]]) -> bytes:
    sink = io.StringIO(newline="")
    writer = csv.writer(sink)
    writer.writerow(header)
    writer.writerows(rows)
    return sink.getvalue().encode()
