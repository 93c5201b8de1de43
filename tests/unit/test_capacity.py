"""The capacity model: its sums worked out by hand, and that the page prints what it says."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from deploy.capacity import Loop, core_hours, cost, lines, requests, stages, stored_bytes
from fairloop.errors import InvalidInput

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "capacity.md").read_text(encoding="utf-8")

HAND = Loop(
    images=36_000,
    accepted=0.25,
    annotators=3,
    generate=40.0,
    annotate=20.0,
    embed=10.0,
    generate_requests=10.0,
    annotate_requests=20.0,
    embed_requests=30.0,
    image_bytes=1_000,
    dimension=250,
)
"""144,000 candidates: an hour of a core to generate, two to annotate; 1.5 to annotate 36,000 thrice; 1."""


def test_hours_requests_bytes_and_cost_are_those_worked_out_by_hand() -> None:
    assert [stage.core_hours for stage in stages(HAND)] == pytest.approx([1.0, 2.0, 1.5, 1.0])
    assert core_hours(HAND) == pytest.approx(5.5)
    # 562.5, 421.875 and 140.625 shards of 256, each begun one counted.
    assert requests(HAND) == 563 * 10 + 422 * 20 + 141 * 30
    assert stored_bytes(HAND) == 36_000 * (1_000 + 4 * 250)
    assert cost(HAND, 2.0) == pytest.approx(11.0)
    assert cost(HAND, 2.0, 1_000_000.0) == pytest.approx(11.0 + 18_300)


def test_replicas_are_as_many_as_end_a_stage_in_time_at_nine_tenths_of_linear() -> None:
    assert [stage.replicas(1.0) for stage in stages(HAND)] == [2, 3, 2, 2]
    assert [stage.replicas(0.25) for stage in stages(HAND)] == [5, 9, 7, 5]
    assert [stage.replicas(1_000.0) for stage in stages(HAND)] == [1, 1, 1, 1]


def test_money_is_spoken_of_only_where_a_price_is_given() -> None:
    without = "\n".join(lines(HAND, 1.0, None, 0.0))
    assert "cost:" not in without
    assert "--core-hour PRICE" in without
    assert lines(HAND, 1.0, 2.0, 1e6)[-1] == "cost: 5.5 × 2 + 0.018 × 1e+06 = 18,311.00"


def test_replicas_that_have_nothing_to_do_or_are_beyond_what_was_simulated_are_said_so() -> None:
    shown = lines(replace(HAND, images=360_000), 0.1, None, 0.0)
    assert sum("(simulated up to 100)" in line for line in shown) == 4
    assert "(too few shards for all)" in lines(HAND, 0.001, None, 0.0)[1]


@pytest.mark.parametrize(
    ("change", "field"),
    [({"accepted": 1.5}, "accepted"), ({"embed": 0.0}, "embed"), ({"images": -1}, "images")],
)
def test_what_cannot_be_is_refused_by_name(change: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput, match=field):
        replace(HAND, **change)


def test_the_page_names_the_rates_that_are_the_defaults_and_prints_what_the_command_prints() -> None:
    for name, rate in (("Generate", Loop.generate), ("Annotate", Loop.annotate), ("Embed", Loop.embed)):
        (row,) = re.findall(rf"^\| {name} \([^|]+\| ([\d.]+) images/s", PAGE, re.MULTILINE)
        assert float(row) == rate, name
    (block,) = re.findall(r"^\$ (python -m deploy\.capacity .+)\n((?:(?!```).*\n)+)", PAGE, re.MULTILINE)
    command, expected = block
    words = [sys.executable, *command.split()[1:]]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout == expected
