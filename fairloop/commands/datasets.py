"""`fairloop datasets`: what there is, and what is made of it. What a command needs is loaded when it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from fairloop.commands.dataset_names import full_name
from fairloop.commands.exporting import explore, export
from fairloop.commands.preparing import caption, compose, merge, split
from fairloop.commands.stored import opened, state_dir


@click.group()
def datasets() -> None:
    """List, explore, prepare and export the datasets of the store."""


for _command in (caption, compose, split, merge, export, explore):
    datasets.add_command(_command)


@datasets.command("list")
@click.option("--json", "as_json", is_flag=True, help="For machines: JSON on standard output.")
@state_dir
def list_datasets(as_json: bool, state_folder: Path) -> None:
    """List all versions of all datasets, the newest of each name first."""
    import json

    from fairloop import manifest
    from fairloop.dataset import SCHEMA
    from fairloop.errors import FairloopError

    rows: list[dict[str, Any]] = []
    unreadable = 0
    with opened(state_folder) as store:
        for folder in list(store.list("datasets/", recursive=False)):
            for version in list(store.list(f"{folder}versions/", recursive=False)):
                try:
                    found = manifest.load(store, version.rstrip("/"), SCHEMA)
                except FairloopError as error:
                    unreadable += 1
                    click.echo(str(error), err=True)
                    continue
                rows.append({"name": found.name, "created": found.created, **found.counts})
        where = f"s3://{store.bucket}"
    rows.sort(key=lambda row: row["created"], reverse=True)
    rows.sort(key=lambda row: row["name"].split("/")[1])
    if as_json:
        click.echo(json.dumps({"schema": "fairloop.datasets/1", "datasets": rows}, indent=1))
    else:
        for row in rows:
            click.echo(
                f"{row['name']}  {row.get('images', 0):,} images  {row.get('subjects', 0):,} subjects  "
                f"{row['created']}"
            )
        if not rows and not unreadable:
            click.echo(f"{where} has no dataset; next: fairloop import --help")
    if unreadable:
        raise click.exceptions.Exit(1)


@datasets.command()
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="For machines: the manifest as JSON.")
@state_dir
def show(name: str, as_json: bool, state_folder: Path) -> None:
    """Show what the manifest of NAME says: counts, labels and how they are known, terms, origin."""
    import json
    from dataclasses import asdict

    from fairloop import manifest
    from fairloop.dataset import SCHEMA

    with opened(state_folder) as store:
        found = manifest.load(store, full_name(store, name), SCHEMA)
    if as_json:
        click.echo(json.dumps(asdict(found), ensure_ascii=False, indent=1))
        return
    click.echo(found.name)
    for what, count in found.counts.items():
        click.echo(f"  {what}: {count:,}")
    click.echo(f"  created: {found.created}")
    for attribute, label in found.details.get("labels", {}).items():
        click.echo(f"  label {attribute}: {label.get('how', 'unknown')}, {label.get('source', 'not told')}")
    for terms in found.terms:
        click.echo(
            f"  terms: {terms.licence} (commercial {terms.commercial}, derivatives {terms.derivatives}, "
            f"redistribution {terms.redistribution}, consent {terms.consent})"
        )
    for parent in found.parents:
        click.echo(f"  made from: {parent}")
    for key in ("import", "preparation", "retain_until"):
        if key in found.details:
            click.echo(f"  {key}: {json.dumps(found.details[key], ensure_ascii=False)}")
    click.echo(f"next: fairloop datasets explore {found.name} --to FOLDER")
