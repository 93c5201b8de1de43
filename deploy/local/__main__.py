"""`python -m deploy.local up | down | status`."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import Any

import click

from deploy.local import stack
from deploy.local.parts import DEFAULT_BASE, DEPLOYMENT, make_plan
from fairloop.errors import FairloopError

STATE = click.option(
    "--state",
    type=click.Path(path_type=Path, file_okay=False),
    default=".fairloop",
    show_default=True,
    help="Folder of everything the stack stores, writes and remembers.",
)


@click.group()
def main() -> None:
    """The real stack on one machine: store, four services, Prefect."""


@main.command()
@STATE
@click.option(
    "--port-base",
    type=int,
    default=DEFAULT_BASE,
    show_default=True,
    help="Store there, services 11 to 14 above, Prefect 20 above.",
)
def up(state: Path, port_base: int) -> None:
    """Start what does not run and wait until all is healthy.

    FAIRLOOP_S3_ENDPOINT names another S3 server to use instead of starting one.
    """
    # A shell that starts us in the background has us ignore Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    begun = time.monotonic()
    lines: list[str] = []

    def say(line: str) -> None:
        lines.append(line)
        click.echo(line)

    plan = make_plan(state, port_base)
    stack.up(plan, say)
    took = time.monotonic() - begun
    click.echo(f"up after {took:.1f} s" if lines else "the stack runs already; nothing was started")
    rows = [(part.name, part.address, _USE.get(part.name, "")) for part in plan.parts]
    if not plan.owns_store:
        rows.insert(0, ("store", plan.store.endpoint, "yours (FAIRLOOP_S3_ENDPOINT); `down` leaves it alone"))
    click.echo()
    _table(("what", "address", ""), rows)
    click.echo(f"\nfor a shell: set -a; . {stack.shown(plan.state / 'environment')}; set +a")
    click.echo("next: make demo   (then: make down)")


_USE = {
    "store": "what is made: datasets, models, reports",
    "prefect": "open it in a browser: runs, artifacts, progress",
    "flows": f"start a round there, or: prefect deployment run {DEPLOYMENT}",
}


@main.command()
@STATE
def down(state: Path) -> None:
    """Stop everything; what it stored stays."""
    begun = time.monotonic()
    stopped = stack.down(state, click.echo)
    if stopped:
        took = time.monotonic() - begun
        click.echo(f"down after {took:.1f} s; what it stored is in {state}. next: make up")
    else:
        click.echo("nothing runs. next: make up")


@main.command()
@STATE
def status(state: Path) -> None:
    """Show every part: healthy, unhealthy or dead. Exit status 1 unless all are healthy."""
    lines = stack.status(state)
    if not lines:
        click.echo("nothing runs. next: make up")
        sys.exit(1)
    rows = []
    for line in lines:
        age = str(timedelta(seconds=int(time.time() - line.started)))
        memory = f"{line.memory >> 20} MiB"
        rows.append((line.name, line.state, line.address, str(line.pid), age, memory, line.detail))
    _table(("what", "state", "address", "pid", "age", "memory", ""), rows)
    if any(line.state != "healthy" for line in lines):
        click.echo("\nnext: make up   (starts anew what is not healthy)")
        sys.exit(1)


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    for row in [head, *rows]:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _interrupt(number: int, _: FrameType | None) -> None:
    """Ends like Ctrl-C, so that what was started is stopped."""
    sys.exit(128 + number)


def run(command: Callable[..., Any]) -> None:
    """Runs the command; an error of ours is a sentence and exit status 1, Ctrl-C is 130."""
    try:
        command(standalone_mode=False)
    except FairloopError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(1)
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted; nothing that was started is left", err=True)
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)


if __name__ == "__main__":
    run(main)
