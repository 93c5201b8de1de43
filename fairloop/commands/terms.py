"""`fairloop terms`: what may be done with a resource. What it needs is loaded when it runs."""

from __future__ import annotations

from pathlib import Path

import click

from fairloop.commands.stored import opened, resolved, state_dir


@click.command()
@click.argument("names", nargs=-1, required=True)
@click.option(
    "--policy",
    type=click.Choice(("research", "internal", "commercial", "publish")),
    help="Only this one; the exit code is 1 when something stands against it.",
)
@click.option(
    "--measuring", is_flag=True, help="Ask for work that makes numbers only, no images, labels or weights."
)
@click.option("--json", "as_json", is_flag=True, help="For machines: JSON on standard output.")
@state_dir
def terms(
    names: tuple[str, ...], policy: str | None, measuring: bool, as_json: bool, state_folder: Path
) -> None:
    """Say what NAMES may be used for together, and which chain forbids the rest.

    Terms are those of the whole ancestry: datasets, models, and the weights and
    published sets behind them.
    """
    import json

    from fairloop.provenance import lineage as graph
    from fairloop.provenance import terms as asked

    with opened(state_folder) as store:
        full = [resolved(store, name, ("weights/", "published/")) for name in names]
        found = graph.ancestry(store, full)
        notes = list(asked.warnings(store, found))
    against = {
        one: [str(o) for o in dict.fromkeys(asked.judge(found, one, derives=not measuring))]
        for one in ([policy] if policy else asked.POLICIES)
    }
    if as_json:
        body = {"schema": "fairloop.terms/1", "names": full, "against": against, "warnings": notes}
        click.echo(json.dumps(body, ensure_ascii=False, indent=1))
    else:
        for one, objections in against.items():
            click.echo(
                f"{one}: " + ("not without an acknowledgement" if objections else "nothing stands against it")
            )
            for text in objections:
                click.echo(f"  {text}")
        for note in notes:
            click.echo(f"note: {note}")
    if policy and against[policy]:
        raise click.exceptions.Exit(1)
