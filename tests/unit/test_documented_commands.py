"""Commands that the pages about recognisers print are ones that there are, with options that they take."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from fairloop.cli import main

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGES = (
    "training-a-recogniser.md",
    "evaluate-over-the-years.md",
    "evaluate-your-own-recogniser.md",
    "published-protocols.md",
)


def printed(page: str) -> list[str]:
    """Lines of the page's code blocks that begin with `fairloop`, continued ones joined, without comments."""
    blocks = re.findall(r"^```(?:sh)?\n(.*?)^```$", (DOCS / page).read_text(encoding="utf-8"), re.M | re.S)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [line for line in lines if line.startswith("fairloop ")]


@pytest.mark.parametrize("page", PAGES)
def test_printed_commands_parse(page: str) -> None:
    lines = printed(page)
    assert lines, page
    for line in lines:
        words = shlex.split(line, comments=True)[1:]
        command: click.Command | None = main
        context = click.Context(main, info_name="fairloop")
        while isinstance(command, click.Group):
            name = words.pop(0)
            command = command.get_command(context, name)
            assert command is not None, f"{line}: no command {name}"
            context = click.Context(command, info_name=name, parent=context)
        assert command is not None
        try:
            command.make_context(command.name, words, parent=context)
        except click.UsageError as error:
            pytest.fail(f"{page}: {line}: {error.format_message()}")
