"""`fairloop verify --regenerate`: images of datasets made again by the generator, and compared."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import click
from google.protobuf.json_format import MessageToDict

from fairloop.client import Client
from fairloop.commands.stored import opened, resolved, teller
from fairloop.commands.surroundings import advised, surroundings
from fairloop.errors import FairloopError
from fairloop.v1 import generator_pb2


def regenerated(
    names: Sequence[str], count: int, seed: int, addresses: Sequence[str], as_json: bool, state_folder: Path
) -> bool:
    """Asks for each dataset and prints what was found; whether all is as promised."""
    with opened(state_folder) as store:
        datasets = [resolved(store, name) for name in names]
    kept = True
    found = []
    with surroundings(state_folder, addresses), Client.from_environment() as client:
        for dataset in datasets:
            request = generator_pb2.RegenerateRequest(dataset=dataset, count=count, seed=seed)
            click.echo(f"making {count} images of {dataset} again", err=True)
            try:
                result = client.generator.regenerate(request).result(None, on_progress=teller())
            except FairloopError as error:
                raise advised(error, "generator") from error
            kept = kept and result.kept
            if as_json:
                found.append(MessageToDict(result, preserving_proto_field_name=True))
            else:
                click.echo(_told(result))
    if as_json:
        click.echo(json.dumps({"schema": "fairloop.regenerated/1", "datasets": found}, indent=1))
    return kept


def _told(result: generator_pb2.RegenerateResult) -> str:
    images = len(result.images)
    equal = sum(image.equal for image in result.images)
    lines = [f"{result.dataset}: {equal} of {images} images have equal bytes"]
    if result.same_profile:
        lines.append("  computed as then, so all should")
    else:
        mean = max((image.mean_difference for image in result.images), default=0.0)
        lines += [
            f"  computed in another way: {'; '.join(result.differences)}",
            f"  mean difference up to {mean:.3f} of 255 "
            f"(tolerance {result.tolerance:g}), of one value up to "
            f"{max((i.greatest_difference for i in result.images), default=0)}",
        ]
    lines += [
        f"  differs: {image.image_id} (mean {image.mean_difference:.3f}, at most {image.greatest_difference})"
        for image in result.images
        if (not image.equal if result.same_profile else image.mean_difference > result.tolerance)
    ]
    return "\n".join([*lines, "  as promised" if result.kept else "  NOT as promised"])
