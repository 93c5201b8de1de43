"""`fairloop lineage`: where a resource comes from, or what came of it; loads what it needs when it runs."""

from __future__ import annotations

from pathlib import Path

import click

from fairloop.commands.stored import opened, resolved, state_dir


@click.command()
@click.argument("name")
@click.option("--descendants", is_flag=True, help="What was made from it, instead of what it was made from.")
@click.option("--svg", "drawing", type=click.Path(path_type=Path, dir_okay=False), help="Also draw it there.")
@click.option("--json", "as_json", is_flag=True, help="For machines: JSON on standard output.")
@state_dir
def lineage(name: str, descendants: bool, drawing: Path | None, as_json: bool, state_folder: Path) -> None:
    """Show where NAME comes from, down to catalogued weights and published sets.

    NAME is a dataset, model, table or report, weights/{entry of models.toml} or
    published/{set of published.toml}. What is missing is said in its place; the
    exit code is then 1.
    """
    import json

    from fairloop.provenance import lineage as graph
    from fairloop.provenance import lineage_text

    with opened(state_folder) as store:
        full = resolved(store, name, ("weights/", "published/"))
        if descendants:
            click.echo(f"reading all manifests of s3://{store.bucket}", err=True)
            found = graph.descent(store, full)
        else:
            found = graph.ancestry(store, [full])
    if as_json:
        click.echo(
            json.dumps({"schema": "fairloop.lineage/1", **found.to_json()}, ensure_ascii=False, indent=1)
        )
    else:
        for line in lineage_text.tree(found):
            click.echo(line)
    if drawing is not None:
        drawing.write_text(lineage_text.svg(found), encoding="utf-8")
        click.echo(f"drawn in {drawing}", err=True)
    wrong = [node for node in found.nodes.values() if node.wrong]
    if wrong:
        click.echo(
            f"{len(wrong)} of {len(found.nodes)} are not known: {wrong[0].name} {wrong[0].wrong}", err=True
        )
        raise click.exceptions.Exit(1)
