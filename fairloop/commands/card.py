"""`fairloop card`: what is stored about a dataset or model. What it needs is loaded when it runs."""

from __future__ import annotations

from pathlib import Path

import click

from fairloop.commands.stored import opened, resolved, state_dir


@click.command()
@click.argument("name")
@click.option(
    "--format",
    "form",
    type=click.Choice(("markdown", "croissant")),
    default="markdown",
    show_default=True,
    help="Markdown for people; Croissant JSON-LD of datasets for machines.",
)
@click.option("--to", "target", type=click.Path(path_type=Path, dir_okay=False), help="File to write.")
@state_dir
def card(name: str, form: str, target: Path | None, state_folder: Path) -> None:
    """Write the card of NAME, a dataset or a model, from stored facts.

    Composition with intervals, who labelled and how, terms with the chain that
    forbids a use, intended use, provenance, erasures.
    """
    import json

    from fairloop import cards

    with opened(state_folder) as store:
        full = resolved(store, name)
        click.echo(f"reading {full} and all manifests of s3://{store.bucket}", err=True)
        facts = cards.gather(store, full)
    if form == "croissant":
        text = json.dumps(cards.croissant(facts), ensure_ascii=False, indent=1) + "\n"
    else:
        text = cards.markdown(facts)
    if target is None:
        click.echo(text, nl=False)
    else:
        target.write_text(text, encoding="utf-8")
        click.echo(f"written to {target}", err=True)
