"""`fairloop operations`: what the servers are doing. What it needs is loaded when it runs."""

from __future__ import annotations

from typing import Any

import click

from fairloop.commands.options import where
from fairloop.commands.surroundings import SERVICES

STATES = ("pending", "running", "suspended", "succeeded", "failed", "cancelled")


@click.group()
def operations() -> None:
    """Long-running operations of the servers: list, show, cancel, wait for."""


@operations.command("list")
@click.option(
    "--service",
    "services",
    multiple=True,
    type=click.Choice(SERVICES),
    help="Only this service's; repeatable.",
)
@click.option("--state", "states", multiple=True, type=click.Choice(STATES), help="Only these; repeatable.")
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    help="The newest so many [50; with --json all].",
)
@where
def list_operations(**options: Any) -> None:
    """List operations, the newest first.

    The exit code is 1 when one of the services does not answer; those of the others are listed.
    """
    from fairloop.commands import operation_calls

    operation_calls.list_operations(**options)


@operations.command()
@click.argument("name")
@where
def show(**options: Any) -> None:
    """Show all that is known of one operation: progress, owner, result or error."""
    from fairloop.commands import operation_calls

    operation_calls.show(**options)


@operations.command()
@click.argument("name")
@click.option(
    "--timeout",
    type=click.FloatRange(min=1),
    default=120.0,
    show_default=True,
    help="Seconds until it must have stopped.",
)
@where
def cancel(**options: Any) -> None:
    """Ask an operation to stop, and wait until it has.

    The exit code is 1 when it ended in another way before.
    """
    from fairloop.commands import operation_calls

    operation_calls.cancel(**options)


@operations.command()
@click.argument("name")
@click.option("--timeout", type=click.FloatRange(min=1), help="Seconds; it goes on when they have passed.")
@where
def wait(**options: Any) -> None:
    """Wait for an operation, with its progress; this keeps its lease alive.

    The exit code is 0 when it succeeds and 1 when it fails, is cancelled or is suspended.
    """
    from fairloop.commands import operation_calls

    operation_calls.wait(**options)
