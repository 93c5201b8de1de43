"""`python -m deploy.gpu_check`."""

from __future__ import annotations

import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import click

from deploy.gpu_check import drawing, faces, report, training
from deploy.gpu_check.device import Device, NoDevice, find
from deploy.gpu_check.servers import Servers
from deploy.gpu_check.world import SD1, TINY, World, Wrong, prepare, weights
from fairloop.errors import FairloopError
from fairloop.manifest import rfc3339, utc_now
from fairloop.scratch import scratch_folder

NO_DEVICE = 3
"""Exit status where there is nothing to check; 1 is that a check failed."""

Check = Callable[[World], dict[str, Any]]


@click.command()
@click.option(
    "--device",
    "kind",
    type=click.Choice(["cuda", "cpu"]),
    default="cuda",
    show_default=True,
    help="What is checked.",
)
@click.option("--tiny", is_flag=True, help="Tiny networks and few images, to try the check itself.")
@click.option(
    "--report",
    "path",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("gpu-report.json"),
    show_default=True,
    help="Where the results go.",
)
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=None,
    help="Where the store and the logs go, and stay; default: a temporary one. 20 GB, or 1 with --tiny.",
)
def main(kind: str, tiny: bool, path: Path, folder: Path | None) -> None:
    """Whether everything that computes on a GPU does so here, how fast, and in how much memory.

    Exit status 0 when every check passed, 1 when one failed, 3 when there is no
    such device. Nothing is fetched from a hub.
    """
    try:
        device = find(kind)
    except NoDevice as error:
        click.echo(f"no GPU: {error}", err=True)
        sys.exit(NO_DEVICE)
    # Whoever ends us has the servers stopped, too.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    named = ", ".join(f"{name} {value}" for name, value in device.facts.items())
    click.echo(f"checking {device.kind} ({named})")
    with scratch_folder("gpu-check") as temporary:
        place = (folder or temporary).resolve()
        place.mkdir(parents=True, exist_ok=True)
        try:
            outcomes = run(device, tiny, place)
        except FairloopError as error:
            raise click.ClickException(f"the check could not begin: {error}") from error
    report.write(path, device.kind, device.facts, tiny, outcomes, rfc3339(utc_now()))
    failed = [outcome.name for outcome in outcomes if not outcome.passed]
    seconds = sum(outcome.seconds for outcome in outcomes)
    verdict = f"{len(failed)} failed: {', '.join(failed)}" if failed else "all passed"
    click.echo(f"{len(outcomes)} checks in {seconds:.0f} s, {verdict}; next: read {path}")
    if failed and folder is not None:
        click.echo(f"logs of the servers: {folder / 'stack' / 'logs'}")
    sys.exit(1 if failed else 0)


def checks(device: Device) -> Iterator[tuple[str, Check]]:
    """In order: later ones use what earlier ones made."""
    yield "models", prepare
    yield "a step of all weights", training.full
    yield "LoRA", training.lora
    yield "killed and resumed", training.resumed
    first, *others = device.dtypes
    yield f"draws in {first}", partial(drawing.draws, dtype=first)
    yield "made again", drawing.made_again
    yield "draws with the LoRA", drawing.with_lora
    yield "memory runs out", drawing.short_of_memory
    yield "rendered faces", faces.rendered
    yield "trains a GAN", faces.trains_gan
    for dtype in others:
        yield f"draws in {dtype}", partial(drawing.draws, dtype=dtype)
    yield "trains a recogniser", faces.trains_recogniser
    yield "annotators agree", faces.annotates
    yield "embeddings agree", faces.embeds
    yield "audit", faces.audits


def run(device: Device, tiny: bool, folder: Path) -> list[report.Outcome]:
    """Every check once, whatever became of those before; one that cannot go without them says so."""
    scale = TINY if tiny else SD1
    idle = device.used(0) if device.kind == "cuda" else 0
    servers = Servers(folder / "stack", weights(folder, scale.clip), lambda _: None)
    world = World(device, scale, folder, servers, idle)
    outcomes = []
    try:
        servers.open()
        for name, check in checks(device):
            click.echo(f"…       {name}")
            outcomes.append(outcome_of(name, check, world))
            click.echo(outcomes[-1].line)
    finally:
        servers.close()
    return outcomes


def outcome_of(name: str, check: Check, world: World) -> report.Outcome:
    """What became of a check. Whatever it raises is its result, and ends up in the report."""
    begun = time.monotonic()
    said, measures = "", {}
    try:
        measures = check(world)
    except (FairloopError, Wrong) as error:
        said = str(error) or type(error).__name__
    except Exception as error:
        traceback.print_exc()
        said = f"{type(error).__name__}: {error}"
    return report.Outcome(name, time.monotonic() - begun, said, measures)


if __name__ == "__main__":
    main()
