"""`fairloop prompts targets` with a distribution that is wanted: files in, files out, and wrong ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from fairloop.cli import main
from fairloop.prompt_audit import GROUPS

RACES = GROUPS["race"]


def wanted(**shares: str) -> str:
    """A target of all twelve groups, 0 where no share is given."""
    lines = [
        f"{gender},{race},{shares.get(f'{gender}_{race}', '0')}"
        for gender in GROUPS["gender"]
        for race in RACES
    ]
    return "\n".join(["gender,race,share", *lines]) + "\n"


def targets(folder: Path, target: str, *options: str) -> Any:
    audit = "ceo,Male,white\n" * 6 + "ceo,Female,white\n" * 3 + "ceo,Female,black\n"
    (folder / "audit.csv").write_text(f"prompt,gender,race\n{audit}")
    (folder / "prompts.csv").write_text("prompt,prompt_id\nA photo of a CEO,ceo\n")
    (folder / "target.csv").write_text(target)
    words = ["prompts", "targets", "audit.csv", "prompts.csv", "--target", "target.csv"]
    paths = [str(folder / word) if word.endswith(".csv") else word for word in words]
    return CliRunner().invoke(main, [*paths, "--to", str(folder / "new"), *(options or ("--rule", "target"))])


def test_who_has_less_than_a_target_wants_is_asked_for(tmp_path: Path) -> None:
    shares = {"Male_white": "0.3", "Female_white": "0.3", "Female_black": "0.2", "Male_asian": "0.2"}
    done = targets(tmp_path, wanted(**shares))
    assert done.exit_code == 0, done.output
    # .6 and .3 of whites reach what is wanted of them, nothing is wanted of the rest.
    assert (tmp_path / "new" / "prompts_to_generate.csv").read_text().splitlines()[1:] == [
        "ceo,Male,asian,0.0",
        "ceo,Female,black,0.1",
    ]


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("gender,race\nMale,white\n", "target.csv"),
        ("gender,race,share\nMale,green,0.5\n", "Male, green is no group; there are gender: Male, Female"),
        (wanted() + "Male,white,0.1\n", "line 14: Male, white stands there twice"),
        (wanted(Male_white="1.5"), "share '1.5' is no number in 0–1"),
        (wanted(Male_white="nan"), "share 'nan' is no number in 0–1"),
        ("gender,race,share\nMale,white,0.5\n", "target: has no share for Male, asian"),
    ],
)
def test_a_target_that_is_none_is_refused_by_its_line(tmp_path: Path, target: str, said: str) -> None:
    refused = targets(tmp_path, target)
    assert refused.exit_code == 1
    assert said in refused.output
    assert not (tmp_path / "new").exists()


def test_a_target_belongs_to_its_rule(tmp_path: Path) -> None:
    refused = targets(tmp_path, wanted(), "--rule", "uniform")
    assert refused.exit_code == 1
    assert "--target: goes with --rule target" in refused.output
