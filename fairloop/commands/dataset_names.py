"""Names of datasets as people type them, and the options that commands on datasets share."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from fairloop import names
from fairloop.commands.stored import resolved

if TYPE_CHECKING:
    from fairloop.store import ObjectStore

POLICIES = ("research", "internal", "commercial", "publish")


def full_name(store: ObjectStore, name: str) -> str:
    """The dataset version of `mine`, `datasets/mine` or the whole name."""
    found = resolved(store, name if "/" in name else f"datasets/{name}")
    return names.check("dataset version", found, "NAME")


def new_name(name: str) -> str:
    """`datasets/mine` of `mine`."""
    return names.check("dataset", name if name.startswith("datasets/") else f"datasets/{name}", "--to")


def use(default: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The options that say what it is for: `--policy` and `--acknowledge`."""

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        command = click.option(
            "--acknowledge", default="", metavar="REASON", help="Do it all the same; the reason is recorded."
        )(command)
        return click.option(
            "--policy",
            type=click.Choice(POLICIES),
            default=default,
            show_default=True,
            help="What it is for; terms of the whole ancestry are checked before work.",
        )(command)

    return add
