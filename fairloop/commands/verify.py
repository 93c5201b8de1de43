"""`fairloop verify`: every hash, size, count and reference. What it needs is loaded when it runs."""

from __future__ import annotations

from pathlib import Path

import click

from fairloop.commands.stored import opened, resolved, state_dir, teller


@click.command()
@click.argument("names", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Everything in the bucket that has a manifest.")
@click.option(
    "--regenerate",
    type=click.IntRange(1, 1000),
    default=None,
    metavar="N",
    help="Have the generator make N images of each named dataset again, and compare those instead.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, help="Chooses the images of --regenerate.")
@click.option(
    "--address", "addresses", multiple=True, metavar="SERVICE=HOST:PORT", help="Where the generator is."
)
@click.option("--json", "as_json", is_flag=True, help="For machines: JSON on standard output.")
@state_dir
def verify(
    names: tuple[str, ...],
    everything: bool,
    regenerate: int | None,
    seed: int,
    addresses: tuple[str, ...],
    as_json: bool,
    state_folder: Path,
) -> None:
    """Check NAMES against their manifests: every hash, size, count, id and reference.

    Prints one line for each thing that is wrong, naming the object. The exit
    code is 1 when there is any.

    With --regenerate N the images are made again from their rows: their bytes
    are equal where the server computes as the one that made them, and within a
    stated tolerance where it does not.
    """
    if regenerate is not None:
        if everything or not names:
            raise click.UsageError("--regenerate needs the names of datasets")
        from fairloop.commands.regenerating import regenerated

        if not regenerated(names, regenerate, seed, addresses, as_json, state_folder):
            raise click.exceptions.Exit(1)
        return
    import json

    from fairloop.provenance import inspection

    if bool(names) == everything:
        raise click.UsageError("name resources, or give --all")
    with opened(state_folder) as store:
        wanted = [resolved(store, name) for name in names]
        click.echo(f"verifying {len(wanted) or 'everything'} in s3://{store.bucket}", err=True)
        last: inspection.Progress | None = None
        tell = teller()

        def told(progress: inspection.Progress) -> None:
            nonlocal last
            last = progress
            tell(progress)

        findings = []
        for finding in inspection.inspect(store, wanted, told):
            findings.append(finding)
            if not as_json:
                click.echo(str(finding))
    if as_json:
        rows = [{"object": f.object, "problem": f.problem} for f in findings]
        click.echo(
            json.dumps({"schema": "fairloop.verify/1", "findings": rows}, ensure_ascii=False, indent=1)
        )
    done = (
        f"{last.resources} resources, {last.bytes / 1e6:.1f} MB in {last.seconds:.1f} s"
        if last
        else "nothing"
    )
    click.echo(
        f"verified {done}: {len(findings) or 'no'} finding{'' if len(findings) == 1 else 's'}", err=True
    )
    if findings:
        raise click.exceptions.Exit(1)
