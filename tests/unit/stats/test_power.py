"""How many subjects: against statsmodels where there is a closed form, against a pilot elsewhere."""

import json
from dataclasses import replace

import numpy as np
import pytest
from statsmodels.stats.power import NormalIndPower, TTestIndPower
from statsmodels.stats.proportion import power_proportions_2indep, proportion_effectsize

from fairloop.errors import InvalidInput
from fairloop.stats import compare_recognizers, evaluate_verification
from fairloop.stats.planning import Simulated, Spread
from fairloop.stats.power import required_subjects

from .worlds import Population, sample


@pytest.mark.parametrize(("rate", "gap"), [(0.1, 0.05), (0.02, 0.02), (0.3, -0.1), (0.5, 0.02)])
@pytest.mark.parametrize("power", [0.8, 0.95])
def test_independent_genuine_pairs_need_what_statsmodels_says_of_two_proportions(rate, gap, power):
    found = required_subjects(gap, rate=rate, power=power)
    assert found.power == pytest.approx(power_proportions_2indep(gap, rate, found.subjects).power)
    assert power_proportions_2indep(gap, rate, found.subjects - 1).power < power <= found.power
    arcsine = NormalIndPower().solve_power(proportion_effectsize(rate + gap, rate), alpha=0.05, power=power)
    assert found.subjects == pytest.approx(arcsine, rel=0.04)
    assert "independent_pairs" in found.flags


def test_independent_impostor_pairs_are_as_many_as_two_proportions_need():
    found = required_subjects(0.01, rate=0.01, kind="fmr", images_per_subject=3)
    assert found.impostor == found.subjects * (found.subjects - 1) // 2 * 9
    assert found.genuine == found.subjects * 3
    assert power_proportions_2indep(0.01, 0.01, found.impostor).power == pytest.approx(found.power)
    fewer = (found.subjects - 1) * (found.subjects - 2) // 2 * 9
    assert power_proportions_2indep(0.01, 0.01, fewer).power < 0.8


def test_more_groups_share_the_level_among_their_pairs():
    found = required_subjects(0.05, rate=0.1, groups=4)
    assert found.power == pytest.approx(
        power_proportions_2indep(0.05, 0.1, found.subjects, alpha=0.05 / 6).power
    )


def test_a_design_effect_multiplies_the_subjects():
    plain = required_subjects(0.02, rate=0.05, images_per_subject=4)
    twice = required_subjects(0.02, rate=0.05, images_per_subject=4, design_effect=2.0)
    assert twice.subjects == pytest.approx(2 * plain.subjects, abs=2)
    # Six pairs of one subject that always agree are worth one.
    one = required_subjects(0.02, rate=0.05, images_per_subject=2)
    assert (
        required_subjects(0.02, rate=0.05, images_per_subject=4, design_effect=6.0).subjects == one.subjects
    )


def test_subjects_that_differ_entirely_make_their_pairs_worth_one():
    # Rates of 0 or 1 have the largest standard deviation there is, sqrt(p(1 − p)).
    most = float(np.sqrt(0.2 * 0.8))
    found = required_subjects(0.1, rate=0.2, images_per_subject=5, between_subject_sd=most - 1e-12)
    assert found.subjects == pytest.approx(required_subjects(0.1, rate=0.2).subjects, rel=0.02)


@pytest.mark.parametrize("kind", ["fnmr", "fmr"])
def test_the_size_from_rates_reaches_its_power_in_drawn_worlds(kind):
    rate, gap, sd, images = 0.2, 0.12, 0.06, 3
    plan = required_subjects(gap, rate=rate, kind=kind, images_per_subject=images, between_subject_sd=sd)
    rng = np.random.default_rng(0)
    worlds, n = 800, plan.subjects
    rates, variances = [], []
    for p in (rate, rate + gap):
        spread = sd * p * (1 - p) / (rate * (1 - rate))
        own = p + spread * rng.choice([-1.0, 1.0], size=(worlds, n))
        if kind == "fnmr":
            shares = rng.binomial(3, own) / 3
            rates.append(shares.mean(axis=1))
            variances.append(shares.var(axis=1, ddof=1) / n)
        else:
            i, j = np.triu_indices(n, 1)
            both = np.clip(own[:, i] + own[:, j] - p, 0, 1)
            rates.append((rng.binomial(images**2, both) / images**2).mean(axis=1))
            variances.append(np.full(worlds, 4 * spread**2 / n + p * (1 - p) / (i.size * images**2)))
    z = (rates[1] - rates[0]) / np.sqrt(variances[0] + variances[1])
    # Within the error of 800 worlds and of the normal approximation at this size.
    assert (z > 1.96).mean() == pytest.approx(plan.power, abs=0.06)


def test_an_evaluation_as_pilot_scales_with_the_square_of_the_gap():
    world = sample([Population(), Population(noise=1.0)], [60, 60], 4, seed=1)
    pilot = evaluate_verification(world.embeddings, world.subjects, world.groups, fmr=0.02, replicates=300)
    small, large = (required_subjects(gap, pilot=pilot) for gap in (0.02, 0.04))
    assert small.subjects == pytest.approx(4 * large.subjects, abs=4)
    assert small.genuine == 6 * small.subjects
    assert small.impostor == 16 * small.subjects * (small.subjects - 1) // 2
    assert "p < 0.05" in small.conventions["question"]
    json.dumps(small.to_dict(), allow_nan=False)


@pytest.fixture(scope="module")
def pilot():
    people = replace(Population(), noise=0.5)
    drawn = sample([people, people], [40, 40], 4, seed=1)
    first = np.array([name == "g0" for name in drawn.groups])
    rng = np.random.default_rng(1)

    def runs(noise):
        scale = np.where(first, noise, 0.7)[:, None]
        return [drawn.embeddings + scale * rng.standard_normal(drawn.embeddings.shape) for _ in range(3)]

    return compare_recognizers(runs(1.0), runs(0.8), drawn.subjects, drawn.groups, fmr=0.02, replicates=150)


def test_a_comparison_asks_for_more_where_less_is_to_be_seen_or_fewer_runs_are_made(pilot):
    gap = pilot.arms[0].values[pilot.measure].value
    half = required_subjects(pilot=pilot, runs=8)
    assert half.power >= 0.8
    assert required_subjects(pilot=pilot, change=gap / 2, runs=8) == half
    assert required_subjects(pilot=pilot, change=gap / 4, runs=12).subjects > half.subjects
    assert required_subjects(pilot=pilot, runs=20).subjects <= half.subjects
    assert required_subjects(pilot=pilot, runs=8, power=0.9).subjects >= half.subjects
    assert half.conventions["runs"] == "8 per arm"
    assert int(half) == half.subjects


def test_where_runs_differ_too_much_it_says_how_many_are_needed(pilot):
    gap = pilot.arms[0].values[pilot.measure].value
    with pytest.raises(InvalidInput, match=r"runs: 2 an arm are not enough .*at least \d+ runs could"):
        required_subjects(pilot=pilot, change=gap / 4, runs=2)


def test_simulated_comparisons_are_those_of_the_t_test_without_subjects():
    # Only runs vary, with a variance that is known: Welch's test of two groups of 4 with effect size 2.5.
    spread = Spread(runs=1.0, inner=0.0, df=10**9)
    simulated = Simulated(100.0, 2.5, 0.0, (spread, spread), np.zeros((2, 2)))
    expected = TTestIndPower().power(2.5, 4, 0.05)
    # Welch's degrees of freedom are fewer; one control in twenty is called a change.
    assert 0.95 * expected - 0.06 < simulated.power(1.0, 4) < 0.95 * expected + 0.01


def test_in_a_comparison_without_a_change_smaller_is_said_in_one_of_forty():
    spread = Spread(runs=1.0, inner=0.4, df=10**9)
    simulated = Simulated(100.0, 0.0, 0.0, (spread, spread), np.full((2, 2), 0.5))
    for runs in (3, 4):
        assert simulated.power(1.0, runs) == pytest.approx(0.025 * 0.95, abs=0.012)


def test_more_subjects_and_more_runs_never_lower_the_power(pilot):
    simulated = Simulated.of(pilot, pilot.measure, 0.05)
    grown = [simulated.power(factor, 5) for factor in (0.5, 1, 2, 4, 8, 16)]
    assert grown == sorted(grown)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "rate: give a `rate`"),
        ({"rate": 0.1}, "gap: None from 0.1"),
        ({"gap": 0.95, "rate": 0.1}, "gap: 0.95 from 0.1; both rates lie in 0–1"),
        ({"gap": 0.0, "rate": 0.1}, "gap: 0.0 from 0.1"),
        ({"gap": 0.1, "rate": 0.1, "power": 1.0}, "power: 1.0 is outside"),
        ({"gap": 0.1, "rate": 0.1, "kind": "tmr"}, "kind: 'tmr'"),
        (
            {"gap": 0.1, "rate": 0.1, "images_per_subject": 1},
            "images_per_subject: 1; an FNMR",
        ),
        ({"gap": 0.1, "rate": 0.1, "groups": 1}, "groups: 1"),
        ({"gap": 0.1, "rate": 0.1, "between_subject_sd": 0.4}, "between_subject_sd: 0.4; at a rate of 0.1"),
        ({"gap": 0.1, "rate": 0.1, "between_subject_sd": 0.1, "design_effect": 2.0}, "not together"),
        ({"gap": 0.1, "rate": 0.1, "design_effect": 0.0}, "design_effect: 0.0; above 0"),
        ({"gap": 0.1, "rate": 0.1, "runs": 3}, "are about a pilot"),
        ({"gap": 1e-6, "rate": 0.1}, "needs more than 10,000,000 subjects"),
    ],
)
def test_what_cannot_be_planned_is_said(given, message):
    with pytest.raises(InvalidInput, match=message):
        required_subjects(**given)


def test_what_a_pilot_cannot_tell_is_said(pilot):
    single = pilot.arms[0].runs[0]
    one = replace(pilot, arms=tuple(replace(arm, runs=arm.runs[:1]) for arm in pilot.arms))
    for given, message in (
        ({"pilot": pilot, "gap": 0.1}, "gap: a comparison is planned by `change`"),
        ({"pilot": pilot, "change": 2.0}, "change: 2; above 0 and at most the gap"),
        ({"pilot": pilot, "runs": 1}, "runs: 1 per arm"),
        ({"pilot": pilot, "runs": 100}, "runs: 100 per arm; 2–40"),
        ({"pilot": replace(pilot, differences={})}, "pilot: fnmr_gap_at_own_threshold has no value"),
        ({"pilot": pilot, "alpha": 0.01}, "alpha: 0.01"),
        ({"pilot": pilot, "measure": "inequity_rate"}, "measure: 'inequity_rate'"),
        ({"pilot": single, "change": 0.1}, "need the pilot of a comparison"),
        ({"pilot": single, "gap": -0.1}, "gap: -0.1; a gap to be seen is above 0"),
        ({"pilot": one}, "pilot: arm before has one run"),
    ):
        with pytest.raises(InvalidInput, match=message):
            required_subjects(**given)
