"""`fairloop fine-tune-generator`: a training as a file says it, planned or done."""

from __future__ import annotations

import json
import secrets
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fairloop.commands.options import where
from fairloop.commands.stored import resolved, teller
from fairloop.commands.surroundings import advised, surroundings
from fairloop.errors import FairloopError, InvalidInput, NotFound

if TYPE_CHECKING:
    from fairloop.operation import Progress
    from fairloop.v1 import generator_pb2

LARGEST_FILE = 1_000_000
"""Bytes; a request has a few hundred."""


@click.command("fine-tune-generator")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--dry-run", is_flag=True, help="Time a few steps, print the plan of all of it, and stop.")
@where
def fine_tune_generator(
    file: Path, dry_run: bool, addresses: tuple[str, ...], state_folder: Path, as_json: bool
) -> None:
    """Fine-tune a generator as FILE says (.toml or .json).

    FILE has the fields of FineTuneGeneratorRequest, as protos/fairloop/v1/generator.proto
    describes them: model, dataset, target_model, seed, and one recipe with its options.
    A model or dataset without version means its only one. Before a training of more
    than ten minutes goes on its plan is printed.
    """
    from google.protobuf.json_format import MessageToDict

    from fairloop import repeated
    from fairloop.client import Client
    from fairloop.store import ObjectStore

    request = read_request(file)
    request.dry_run = request.dry_run or dry_run
    with surroundings(state_folder, addresses), Client.from_environment() as client:
        store = ObjectStore.from_environment()
        for field, kind in (("model", "models/"), ("dataset", "datasets/")):
            if name := getattr(request, field):
                setattr(request, field, resolved(store, name if name.startswith(kind) else kind + name))
        if not request.target_model.startswith("models/"):
            request.target_model = f"models/{request.target_model}"
        try:
            # The same file again goes on with what was left; a plan is timed anew.
            salt = secrets.token_hex(8) if request.dry_run else ""
            operation = repeated.start("fine_tune", request, client.generator.fine_tune, salt)
            click.echo(f"{operation.name}: {request.WhichOneof('recipe')}", err=True)
            result = operation.result(None, on_progress=_teller())
        except FairloopError as error:
            raise advised(error, "generator") from error
    if as_json:
        click.echo(json.dumps(MessageToDict(result, preserving_proto_field_name=True), indent=1))
    elif request.dry_run:
        click.echo(result.plan.text)
        click.echo(f"Next: fairloop fine-tune-generator {file}", err=True)
    else:
        _print(result)


def read_request(file: Path) -> generator_pb2.FineTuneGeneratorRequest:
    """The request that a file spells out; enumerations by their last words (`schedule = "linear"`).

    Raises `NotFound` without the file, and `InvalidInput` for one that is too large,
    is no TOML or JSON, or has a field or value that the request does not know.
    """
    from google.protobuf.json_format import ParseDict, ParseError

    from fairloop.v1 import generator_pb2

    if not file.is_file():
        raise NotFound(f"there is no file {file}")
    if file.stat().st_size > LARGEST_FILE:
        raise InvalidInput(file.name, f"has {file.stat().st_size:,} bytes; at most {LARGEST_FILE:,}")
    try:
        text = file.read_text(encoding="utf-8")
        found = json.loads(text) if file.suffix.lower() == ".json" else tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # of either format, and of what is no UTF-8
        raise InvalidInput(file.name, f"is no TOML, or JSON under the name .json: {error}") from error
    message = generator_pb2.FineTuneGeneratorRequest()
    if not isinstance(found, dict):
        raise InvalidInput(file.name, "is no request of a training: it has no fields")
    try:
        return ParseDict(_spelt(found, message.DESCRIPTOR), message)
    except (ParseError, RecursionError) as error:
        raise InvalidInput(file.name, f"is no request of a training: {error}") from error


def _spelt(value: Any, of: Any) -> Any:
    """The value of a message with this descriptor, its enumerations by their full names."""
    if not isinstance(value, dict):
        return value
    found = {}
    for name, inner in value.items():
        field = of.fields_by_name.get(name)
        if field is not None and field.message_type is not None:
            many = isinstance(inner, list)
            whole = [_spelt(one, field.message_type) for one in (inner if many else [inner])]
            inner = whole if many else whole[0]
        elif field is not None and field.enum_type is not None and isinstance(inner, str):
            word = inner.upper()
            first = field.enum_type.values[0].name.removesuffix("UNSPECIFIED")
            inner = first + word if first + word in field.enum_type.values_by_name else inner
        found[name] = inner
    return found


def _teller() -> Callable[[Progress], None]:
    """Tells progress in lines on standard error, and the plan of a long training once."""
    tell = teller()
    planned = False

    def told(progress: Progress) -> None:
        nonlocal planned
        plan = {name: value for name, value in progress.measures.items() if name.startswith("plan_")}
        if plan and not planned:
            planned = True
            click.echo(
                f"plan: {progress.total:,} steps, about {plan['plan_seconds'] / 60:,.0f} min in all; "
                f"memory {plan['plan_memory_bytes'] / 1e9:.1f} GB, temporary files "
                f"{plan['plan_disk_bytes'] / 1e9:.1f} GB, store {plan['plan_store_bytes'] / 1e9:.1f} GB; "
                f"fairloop operations cancel {progress.operation.removeprefix('operations/')} stops it",
                err=True,
            )
        tell(progress)

    return told


def _print(result: generator_pb2.FineTuneGeneratorResult) -> None:
    for run in result.runs:
        name = f"{run.name}: " if run.name else ""
        click.echo(f"{name}{run.model} ({run.steps:,} steps on {run.images:,} images, loss {run.loss:.4f})")
    if result.class_dataset:
        click.echo(f"class images: {result.class_dataset}")
    if result.runs:
        click.echo(f"Next: fairloop playground {result.model} 'a photo of a person' first", err=True)
    else:
        click.echo(result.model)
        click.echo(f"Next: fairloop lineage {result.model}", err=True)
