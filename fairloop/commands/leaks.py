"""`fairloop leaks`: what a dataset shares with others. Asks the metrics service.

The service and not this process does it: what comes of it is a stored report with
a page, the terms of both sides are asked, and the work can be watched, cancelled
and found again like any other operation.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from fairloop.commands.options import where


@click.command()
@click.argument("dataset")
@click.option(
    "--against",
    multiple=True,
    required=True,
    metavar="DATASET",
    help="A set that must share nothing with it, such as one to evaluate on; repeatable.",
)
@click.option("--embeddings", default="", help="Embedding table of DATASET: faces are compared, too.")
@click.option(
    "--against-embeddings", multiple=True, help="The table of each set after --against, in their order."
)
@click.option(
    "--threshold-embeddings",
    default="",
    help="The table whose strangers set the threshold [the first of --against-embeddings].",
)
@click.option(
    "--fmr",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="False match rate of the threshold [0.001].",
)
@click.option(
    "--radius",
    type=click.IntRange(0, 16),
    default=6,
    show_default=True,
    help="Bits of 64 in which pictures that look alike may differ.",
)
@click.option(
    "--by", "attributes", multiple=True, help="Count per cell of this attribute's given labels; repeatable."
)
@click.option("--thumbnails", is_flag=True, help="Put pairs on the page; they may show real people.")
@where
def leaks(
    dataset: str,
    against: tuple[str, ...],
    addresses: tuple[str, ...],
    state_folder: Path,
    as_json: bool,
    **options: Any,
) -> None:
    """Say which images of DATASET are also in other sets: equal bytes, equal pictures, same faces.

    No search for a person: faces are compared between sets of at least 50 images.
    Nothing is changed; the exit code is 0 whatever was found.
    """
    from fairloop.client import Client
    from fairloop.commands.stored import ended, resolved
    from fairloop.commands.surroundings import surroundings
    from fairloop.store import ObjectStore
    from fairloop.v1 import common_pb2, metrics_pb2

    with surroundings(state_folder, addresses), Client.from_environment() as client:
        store = ObjectStore.from_environment()
        request = metrics_pb2.FindLeaksRequest(
            dataset=resolved(store, dataset),
            against=[resolved(store, name) for name in against],
            embeddings=options["embeddings"],
            against_embeddings=options["against_embeddings"],
            threshold_embeddings=options["threshold_embeddings"],
            fmr=options["fmr"] or 0.0,
            radius=options["radius"],
            sources=[
                common_pb2.LabelSource(attribute=attribute, annotator="given")
                for attribute in options["attributes"]
            ],
            thumbnails=options["thumbnails"],
        )
        doing = f"comparing {request.dataset}"
        found = ended(lambda: client.metrics.find_leaks(request), "metrics", doing)
    if as_json:
        click.echo(found.summary_json)
        return
    click.echo(found.headline)
    click.echo(f"next: fairloop report {found.report}")
