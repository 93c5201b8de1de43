"""`fairloop doctor`: its options. What it needs is loaded when it runs."""

from __future__ import annotations

from typing import Any

import click

from fairloop.commands.options import where


@click.command()
@click.option(
    "--require",
    "required",
    is_flag=True,
    help="A store or service that does not answer is a failure, not a warning.",
)
@where
def doctor(**options: Any) -> None:
    """Look at what Fairloop needs: packages, disks, weights, store, clock, services, a test image.

    Every line is ok, warn or fail, with what to do. The exit code is 1 when a line is fail. The only thing
    that is written is a small object under doctor/ in the store, which is deleted at once.
    """
    from fairloop.doctor import examination

    examination.examine(**options)
