"""`fairloop calibrate` and `fairloop agree`: how annotators err, and how far they agree.

Both ask a service: what comes of them is a stored resource that audits can use.
"""

from __future__ import annotations

from pathlib import Path

import click

from fairloop.commands.options import label_source, where


@click.command()
@click.argument("dataset")
@click.option(
    "--source",
    "sources",
    multiple=True,
    required=True,
    metavar="ATTRIBUTE=ANNOTATOR",
    help="Who is measured on which attribute; the images must have come with it; repeatable.",
)
@click.option(
    "--by", "groups", multiple=True, help="Stability per value of this given attribute; repeatable."
)
@click.option(
    "--change", "changes", multiple=True, help="exposure-1, exposure+1, blur, jpeg [all]; repeatable."
)
@click.option("--cropped", is_flag=True, help="Each image is one face that was cut out already.")
@where
def calibrate(
    dataset: str,
    sources: tuple[str, ...],
    groups: tuple[str, ...],
    changes: tuple[str, ...],
    cropped: bool,
    addresses: tuple[str, ...],
    state_folder: Path,
    as_json: bool,
) -> None:
    """Measure how annotators err on DATASET, whose labels are taken as true.

    The calibration that is stored corrects the shares of audits by the same
    version of the same annotators.
    """
    from fairloop.client import Client
    from fairloop.commands.stored import ended, resolved
    from fairloop.commands.surroundings import surroundings
    from fairloop.store import ObjectStore
    from fairloop.v1 import annotator_pb2

    wanted = [label_source(text, "--source") for text in sources]
    with surroundings(state_folder, addresses), Client.from_environment() as client:
        request = annotator_pb2.CalibrateRequest(
            dataset=resolved(ObjectStore.from_environment(), dataset),
            sources=wanted,
            groups=groups,
            changes=changes,
            cropped=cropped,
        )
        doing = f"measuring on {request.dataset}"
        found = ended(lambda: client.annotator.calibrate(request), "annotator", doing)
    if as_json:
        click.echo(found.summary_json)
        return
    for warning in found.warnings:
        click.echo(f"note: {warning}")
    click.echo(f"{found.calibration}: {len(found.sources)} measured on {found.images:,} images")
    click.echo(f"next: give {found.calibration} to an audit as `calibrations`, or to the loop")


@click.command()
@click.argument("annotations")
@click.option("--attribute", "attributes", multiple=True, help="Compare this one [all that two guessed].")
@click.option("--annotator", "annotators", multiple=True, help="Compare these [all]; repeatable.")
@click.option("--by", metavar="ATTRIBUTE=ANNOTATOR", help="Who says which group an image is in, or `given`.")
@click.option(
    "--certainty",
    type=click.FloatRange(0, 1),
    default=0.0,
    show_default=True,
    help="Posterior probability below which the consensus is uncertain.",
)
@click.option(
    "--listed",
    type=click.IntRange(1, 10_000),
    default=100,
    show_default=True,
    help="Most images of each attribute to list, the least certain first.",
)
@click.option(
    "--csv",
    "table",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Also write the listed images there: who said what, and the consensus.",
)
@where
def agree(
    annotations: str,
    attributes: tuple[str, ...],
    annotators: tuple[str, ...],
    by: str | None,
    certainty: float,
    listed: int,
    table: Path | None,
    addresses: tuple[str, ...],
    state_folder: Path,
    as_json: bool,
) -> None:
    """Say how far the annotators of the table ANNOTATIONS agree, and store their consensus.

    The report lists the images that are worth a person's look, by name.
    """
    from fairloop.client import Client
    from fairloop.commands.stored import ended
    from fairloop.commands.surroundings import surroundings
    from fairloop.disagreements import read_disagreements, write_csv
    from fairloop.store import ObjectStore
    from fairloop.v1 import metrics_pb2

    request = metrics_pb2.CompareAnnotatorsRequest(
        annotations=annotations,
        attributes=attributes,
        annotators=annotators,
        certainty=certainty,
        listed=listed,
    )
    if by:
        request.groups.CopyFrom(label_source(by, "--by"))
    with surroundings(state_folder, addresses), Client.from_environment() as client:
        doing = f"comparing {annotations}"
        found = ended(lambda: client.metrics.compare_annotators(request), "metrics", doing)
        if table is not None:
            differing = read_disagreements(ObjectStore.from_environment(), found.report)
            write_csv(differing, table)
            click.echo(f"{table}: {differing.listed:,} rows, the least certain first", err=True)
    if as_json:
        click.echo(found.summary_json)
        return
    click.echo(found.headline)
    click.echo(f"consensus: {found.consensus}")
    click.echo(f"next: fairloop report {found.report}")
