"""`fairloop models curves`: how a recogniser's training went, as a figure or as its data."""

from __future__ import annotations

import io
from pathlib import Path

import click

from fairloop.commands.stored import opened, resolved, state_dir
from fairloop.errors import PreconditionFailed


@click.command("curves")
@click.argument("model")
@click.option(
    "--to",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="Folder for curves.png and the Parquet files.",
)
@state_dir
def curves(model: str, folder: Path, state_folder: Path) -> None:
    """Write the curves of the training of MODEL: curves.png, steps.parquet, validations.parquet."""
    import pyarrow.parquet as pq

    from fairloop import manifest, registry
    from fairloop.reporting.figures.training import training_png

    with opened(state_folder) as store:
        name = resolved(store, model)
        found = registry.open_model(store, name, "recognizer", "MODEL")
        files = {
            part.key.rsplit("/", 1)[1]: manifest.read_part(store, part)
            for part in found.parts
            if part.key.endswith(("/steps.parquet", "/validations.parquet"))
        }
    if "steps.parquet" not in files:
        raise PreconditionFailed(f"{name} keeps no curves: it was not trained here, or by an older version")
    tables = {file: pq.read_table(io.BytesIO(data)) for file, data in files.items()}
    folder.mkdir(parents=True, exist_ok=True)
    for file, data in files.items():
        (folder / file).write_bytes(data)
    png = training_png(tables["steps.parquet"], tables.get("validations.parquet"), name)
    (folder / "curves.png").write_bytes(png)
    click.echo(f"{len(files) + 1} files in {folder}; open {folder / 'curves.png'}")
