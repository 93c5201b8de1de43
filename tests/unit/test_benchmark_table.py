"""The table of benchmarks: which goals are met, and that rows survive the way between processes."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

import pytest

from benchmarks.__main__ import benchmarks
from benchmarks.table import Goal, Row, from_json, markdown, parser, run

SLOWER = Row("product", "s", 5.0, 2.0, "numpy", Goal("ours / peer", "≤", 2.5))
FASTER = Row("curve", "s", 2.0, 30.0, "scikit-learn", Goal("peer / ours", "≥", 10))
PEAK = Row("peak", "MB", 1500.0, goal=Goal("ours", "≤", 500))
WRONG = Row("counts", "s", 1.0, 20.0, "peer", Goal("peer / ours", ">", 1), wrong="3 is not 4")
INFORMS = Row("more", "images/s", 10.0, 5.0, "loop")


@pytest.mark.parametrize(
    ("row", "figure", "met"),
    [
        (SLOWER, 2.5, True),
        (FASTER, 15.0, True),
        (PEAK, 1500.0, False),
        (WRONG, 20.0, False),
        (INFORMS, 0.5, None),
    ],
)
def test_a_goal_is_about_the_ratio_that_it_names(row: Row, figure: float, met: bool | None) -> None:
    assert (row.figure, row.met) == (figure, met)


def test_a_median_of_ratios_counts_where_it_is_given() -> None:
    row = Row("product", "s", 5.0, 2.0, "numpy", Goal("ours / peer", "≤", 2.5), ratio=2.6)
    assert not row.met


def test_benchmarks_are_found_by_their_main_and_the_study_is_none() -> None:
    found = benchmarks()
    assert {"classification", "roc", "verification"} <= {
        name for name, gives_rows in found.items() if gives_rows
    }
    assert found.keys().isdisjoint({"coverage", "table", "__init__", "__main__"})


def test_rows_survive_the_way_between_processes() -> None:
    rows = [SLOWER, FASTER, PEAK, WRONG, INFORMS]
    assert from_json(json.loads(json.dumps([asdict(row) for row in rows]))) == rows


def test_the_table_names_peer_goal_and_what_is_wrong() -> None:
    lines = markdown([SLOWER, PEAK, WRONG, INFORMS]).splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    assert cells[0] == ["what", "peer", "peer's", "ours", "ratio", "goal", "met"]
    assert cells[2] == ["product", "numpy", "2 s", "5 s", "2.5", "ours / peer ≤ 2.5", "yes"]
    assert cells[3] == ["peak", "–", "–", "1,500 MB", "–", "ours ≤ 500 MB", "**no**"]
    assert cells[4][-1] == "**wrong**"
    assert lines[-1] == "- counts: 3 is not 4"


@pytest.mark.parametrize(
    ("rows", "small", "code"),
    [([SLOWER], False, 0), ([SLOWER, PEAK], False, 1), ([PEAK], True, 0), ([WRONG], True, 1)],
)
def test_small_sizes_are_not_judged_by_goals_but_by_values(
    rows: list[Row], small: bool, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["bench", "--rows", str(tmp_path / "rows.json"), *(["--small"] if small else [])]
    monkeypatch.setattr("sys.argv", words)
    seen: list[argparse.Namespace] = []

    def measure(options: argparse.Namespace) -> list[Row]:
        seen.append(options)
        return rows

    assert run(measure, parser("A benchmark.\n\nMore of it.")) == code
    assert seen[0].small is small
    assert from_json(json.loads((tmp_path / "rows.json").read_text())) == rows
