"""Options that the commands of this package share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fairloop.commands.surroundings import STATE

if TYPE_CHECKING:
    from fairloop.v1.common_pb2 import LabelSource


def where(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say where the servers are, and `--json`."""
    for option in (
        click.option("--json", "as_json", is_flag=True, help="For machines: JSON on standard output."),
        click.option(
            "--state-dir",
            "state_folder",
            type=click.Path(path_type=Path, file_okay=False),
            default=STATE,
            show_default=True,
            help="Folder of a local stack, which wrote the addresses there.",
        ),
        click.option(
            "--address",
            "addresses",
            multiple=True,
            metavar="SERVICE=HOST:PORT",
            help="Where a service is; otherwise FAIRLOOP_{SERVICE}_ADDRESS, then the local stack.",
        ),
    ):
        command = option(command)
    return command


def label_source(text: str, option: str) -> LabelSource:
    """The label source of an option's ATTRIBUTE=ANNOTATOR; `click.BadParameter` names the option."""
    from fairloop.v1 import common_pb2

    attribute, equals, annotator = text.partition("=")
    if not (attribute and equals and annotator):
        raise click.BadParameter(f"{text!r} is not ATTRIBUTE=ANNOTATOR", param_hint=option)
    return common_pb2.LabelSource(attribute=attribute, annotator=annotator)
