"""`python -m deploy.images base | build | check | pin`."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import click

from deploy.images import building, checks, pinning
from fairloop.errors import FairloopError

NAMES = click.argument("names", nargs=-1, type=click.Choice(building.NAMES))
COMPUTE = click.option(
    "--compute", type=click.Choice(building.COMPUTE), default="cpu", show_default=True, help="What of torch."
)


@click.group()
def main() -> None:
    """The container images, without a container engine."""


@main.command()
@click.argument("tar", type=click.Path(path_type=Path, dir_okay=False))
def base(tar: Path) -> None:
    """Write Debian with Python into TAR, to build on where no registry is reached (about a minute)."""
    building.make_base(tar)
    click.echo(f"{tar}: {tar.stat().st_size / 1e6:.0f} MB. next: python -m deploy.images build --base {tar}")


@main.command()
@NAMES
@COMPUTE
@click.option("--base", "of", default="", help="Image or tar to build on [debian:12.12-slim].")
@click.option(
    "--volume", "volumes", multiple=True, help="Mounted meanwhile, source:target:options; repeatable."
)
@click.option("--build-arg", "arguments", multiple=True, help="NAME=VALUE of a Containerfile; repeatable.")
def build(
    names: tuple[str, ...], compute: str, of: str, volumes: tuple[str, ...], arguments: tuple[str, ...]
) -> None:
    """Build the images (all without NAMES); minutes each, those with torch take several GB."""
    plan = building.Plan(of, compute, volumes, arguments)
    image = building.base_image(of)
    for name in names or building.NAMES:
        click.echo(f"{name}: building from {building.containerfile(name).name}", err=True)
        begun = time.monotonic()
        made = building.build(name, plan, image)
        click.echo(f"{made}: {building.size(made) / 1e6:,.0f} MB, {time.monotonic() - begun:.0f} s")
    click.echo("next: python -m deploy.images check")


@main.command()
@NAMES
@COMPUTE
@click.option(
    "--cache",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(os.environ.get("FAIRLOOP_CACHE") or Path.home() / ".cache" / "fairloop"),
    help="Weights, mounted read-only [FAIRLOOP_CACHE].",
)
def check(names: tuple[str, ...], compute: str, cache: Path) -> None:
    """Run what is built: imports, --help, settings, a server, its health, one real call."""
    for name in names or building.NAMES:
        for line in checks.check(name, cache, compute):
            click.echo(f"{building.tag(name, compute)}: {line}")


@main.command()
def pin() -> None:
    """Write digests beside the tags of other publishers' images; asks their registries."""
    for image, digest in pinning.pin(pinning.files()).items():
        click.echo(f"{image} {digest}")


if __name__ == "__main__":
    try:
        main(standalone_mode=False)
    except FairloopError as error:
        sys.exit(f"error: {error}")
    except subprocess.CalledProcessError as error:
        sys.exit(f"error: {error.cmd[0]} ended with {error.returncode}")
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
