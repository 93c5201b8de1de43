"""`fairloop models pull-diffusion`, `put-diffusion` and `put-lora`: diffusion models into the store."""

from __future__ import annotations

from pathlib import Path

import click

from fairloop.commands.stored import opened, resolved, state_dir
from fairloop.scratch import scratch_folder


@click.command("pull-diffusion")
@click.argument("name")
@click.option(
    "--to",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=None,
    help="Folder to put the files into [default: a folder of this name here].",
)
def pull_diffusion(name: str, folder: Path | None) -> None:
    """Fetch the base model NAME of the catalogue into a folder, from the first source that has it.

    HF_TOKEN, HF_ENDPOINT and HF_HUB_OFFLINE are honoured. Without a name that is
    known the message lists those there are.
    """
    from fairloop import diffusion_catalogue

    wanted = diffusion_catalogue.base(name)
    click.echo(f"fetching {name}, about {wanted.megabytes:,} MB", err=True)
    place = diffusion_catalogue.fetch(wanted, folder or Path(name))
    click.echo(f"{name}: {place}")
    if wanted.terms.note:
        click.echo(f"terms: {wanted.terms.licence}; {wanted.terms.note}")
    if wanted.component:
        option = wanted.component.replace("_", "-")
        click.echo(f"Next: fairloop models put-diffusion MODEL_FOLDER --{option} {place} --name NAME")
    else:
        click.echo(f"Next: fairloop models put-diffusion {place} --name {name} --terms {name}")


@click.command("put-diffusion")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option("--name", required=True, help="Name of the model: NAME, or models/NAME.")
@click.option("--description", default="", help="What it is, in a sentence.")
@click.option("--terms", "terms_of", default="", help="Entry of the catalogue whose terms it has.")
@click.option("--licence", default="unknown", show_default=True, help="Its licence, where no entry has it.")
@click.option("--variant", default="", help="Take the weights published under this infix, such as fp16.")
@click.option(
    "--vae",
    type=click.Path(path_type=Path, file_okay=False),
    default=None,
    help="Folder of another VAE to use in it.",
)
@click.option(
    "--safety-checker",
    type=click.Path(path_type=Path, file_okay=False),
    default=None,
    help="Folder with safety_checker and feature_extractor, for a model that has none.",
)
@state_dir
def put_diffusion(
    folder: Path,
    name: str,
    description: str,
    terms_of: str,
    licence: str,
    variant: str,
    vae: Path | None,
    safety_checker: Path | None,
    state_folder: Path,
) -> None:
    """Make a model in the folder format of diffusers a model of the store.

    Only the files of the format are taken, and weights only as safetensors: a
    pickle is refused.
    """

    from fairloop import diffusers_folder, diffusion_catalogue, diffusion_models
    from fairloop.manifest import Terms

    terms = [Terms(licence=licence)]
    if terms_of:
        t = diffusion_catalogue.base(terms_of).terms
        terms = [Terms(t.licence, t.commercial, t.derivatives, t.redistribution, t.consent)]
    with scratch_folder("model") as scratch:
        if vae is not None or safety_checker is not None:
            folder = diffusers_folder.combined(folder, scratch, vae, safety_checker, variant)
            variant = ""
        found = diffusers_folder.look_through(folder, variant)
        size = sum(file.stat().st_size for file in found.files.values())
        click.echo(f"storing {len(found.files)} files, {size / 1e6:,.1f} MB", err=True)
        with opened(state_folder) as store:
            made = diffusion_models.publish_folder(
                store,
                found,
                name if name.startswith("models/") else f"models/{name}",
                description=description or f"Stable Diffusion, {found.image_size}×{found.image_size}",
                terms=terms,
            )
    for file in found.left_out:
        click.echo(f"left out: {file}", err=True)
    if not found.has_safety_checker:
        click.echo("it has no safety checker: --safety-checker FOLDER adds one", err=True)
    click.echo(made.name)
    click.echo(f"Next: fairloop playground {made.name} 'a photo of a person' first", err=True)


@click.command("put-lora")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--base", required=True, help="The model that it changes: models/NAME, or a version of it.")
@click.option("--name", required=True, help="Name of the new model: NAME, or models/NAME.")
@click.option("--description", default="", help="What it is, in a sentence.")
@click.option(
    "--licence", default="unknown", show_default=True, help="Its licence; the base's comes with it."
)
@state_dir
def put_lora(file: Path, base: str, name: str, description: str, licence: str, state_folder: Path) -> None:
    """Make a LoRA (a safetensors file as diffusers writes it) a model of the store."""
    from fairloop import diffusion_models
    from fairloop.errors import NotFound
    from fairloop.manifest import Terms

    if not file.is_file():
        raise NotFound(f"there is no file {file}")
    with opened(state_folder) as store:
        made = diffusion_models.publish_lora(
            store,
            file,
            resolved(store, base if base.startswith("models/") else f"models/{base}"),
            name if name.startswith("models/") else f"models/{name}",
            description=description or f"LoRA of {base}",
            terms=[Terms(licence=licence)],
        )
    click.echo(made.name)
    click.echo(f"Next: fairloop playground {made.name} 'a photo of a person' first", err=True)
