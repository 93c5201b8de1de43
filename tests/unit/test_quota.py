"""The loop controller."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairloop.errors import InvalidInput
from fairloop.quota import apportion, plan


def test_apportion_gives_the_remainder_to_the_largest_fractions() -> None:
    # Hamilton's method by hand: quotas 4.5, 3.3, 2.2 of 10.
    assert apportion(10, {"a": 0.45, "b": 0.33, "c": 0.22}) == {"a": 5, "b": 3, "c": 2}
    assert apportion(3, {"a": 1, "b": 1}) == {"a": 2, "b": 1}


@given(
    st.integers(0, 10_000),
    st.dictionaries(st.text("abcdef", min_size=1, max_size=2), st.floats(0.001, 100), min_size=1),
)
def test_apportion_always_sums_to_the_total_and_stays_within_one_of_the_share(
    total: int, shares: dict[str, float]
) -> None:
    counts = apportion(total, shares)
    assert sum(counts.values()) == total
    for cell, share in shares.items():
        assert abs(counts[cell] - total * share / sum(shares.values())) < 1 + 1e-6


def test_a_plan_divides_each_deficit_by_its_yield() -> None:
    plans = {p.cell: p for p in plan({"a": 0.5, "b": 0.5}, {"a": 0.5, "b": 0.1}, 100, budget=10_000)}
    assert (plans["a"].subjects, plans["a"].candidates) == (50, 100)
    assert (plans["b"].subjects, plans["b"].candidates) == (50, 500)
    assert not plans["a"].limited


def test_what_is_there_already_is_not_asked_for_again_and_damping_closes_a_part() -> None:
    (a, b) = plan(
        {"a": 0.5, "b": 0.5}, {"a": 1, "b": 1}, 100, have={"a": 60, "b": 10}, budget=1_000, damping=0.5
    )
    assert (a.subjects, b.subjects) == (0, 20)


def test_a_budget_cuts_every_cell_in_proportion_and_says_so() -> None:
    plans = plan({"a": 0.5, "b": 0.5}, {"a": 1.0, "b": 0.1}, 100, budget=275)
    assert [p.subjects for p in plans] == [25, 25]
    assert all(p.limited for p in plans)
    assert sum(p.candidates for p in plans) <= 275


def test_wrong_inputs_name_the_field() -> None:
    with pytest.raises(InvalidInput, match="yields: no yield is known for b"):
        plan({"a": 0.5, "b": 0.5}, {"a": 1}, 10, budget=10)
    with pytest.raises(InvalidInput, match="damping: 0"):
        plan({"a": 1}, {"a": 1}, 10, budget=10, damping=0)
    with pytest.raises(InvalidInput, match="shares"):
        apportion(1, {"a": -1, "b": 2})
