"""`fairloop verify`: every hash, size, count and reference. What it needs is loaded when it runs."""

from __future__ import annotations

from pathlib import Path

import click

from fairloop.commands.stored import opened, resolved, state_dir, teller


@click.command()
@click.argument("names", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Everything in the bucket that has a manifest.")
@click.option("--json", "as_json", is_flag=True, help="For machines: JSON on standard output.")
@state_dir
def verify(names: tuple[str, ...], everything: bool, as_json: bool, state_folder: Path) -> None:
    """Check NAMES against their manifests: every hash, size, count, id and reference.

    Prints one line for each thing that is wrong, naming the object. The exit
    code is 1 when there is any.
    """
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
