"""Commands that README and pages print are ones that there are, with options that they take."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from fairloop.cli import main

ROOT = Path(__file__).resolve().parents[2]


def printed(page: str) -> list[str]:
    """Lines of the page's code blocks that begin with `fairloop`, continued ones joined, without comments."""
    blocks = re.findall(r"^```(?:sh)?\n(.*?)^```$", (ROOT / page).read_text(encoding="utf-8"), re.M | re.S)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [line for line in lines if re.match(r"fairloop [a-z-]+(?: |$)(?!KIND)", line)]


PAGES = [
    page
    for page in ("README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")))
    if printed(page)
]


@pytest.mark.parametrize("page", PAGES)
def test_printed_commands_parse(page: str) -> None:
    lines = printed(page)
    assert len(PAGES) > 10, "the pattern finds the blocks no more"
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
