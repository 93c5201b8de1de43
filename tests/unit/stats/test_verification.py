"""All pairs, exactly: against brute force on scores that any kernel computes to the same bits."""

import json

import numpy as np
import pytest

from fairloop.errors import InvalidInput
from fairloop.stats import evaluate_verification, garbe, scoring, threshold_at_fmr
from fairloop.stats.resampling import subject_weights
from fairloop.stats.summaries import BY_NAME
from fairloop.stats.watch import watched

from .worlds import Population, sample, signs

QUICK = 200


def brute_force(world, impostors="within_group"):
    """Per group: genuine and impostor scores of all pairs, and all impostor scores once."""
    rows = world.embeddings / 8.0
    score = rows @ rows.T
    subject, group = np.array(world.subjects), np.array(world.groups)
    i, j = np.triu_indices(len(rows), 1)
    s, same = score[i, j], subject[i] == subject[j]
    found, pool = {}, np.zeros(s.size, dtype=bool)
    for name in sorted(set(world.groups)):
        first, second = group[i] == name, group[j] == name
        touched = first & second if impostors == "within_group" else first | second
        found[name] = s[same & first & second], s[~same & touched]
        pool |= ~same & touched
    return found, s[pool]


@pytest.mark.parametrize("impostors", ["within_group", "all"])
@pytest.mark.parametrize("fmr", [0.01, 0.1])
def test_counts_and_thresholds_are_those_of_every_pair(impostors, fmr, monkeypatch):
    # Blocks and samples far smaller than the data, so that every seam is crossed.
    monkeypatch.setattr(scoring, "BLOCK", 17)
    monkeypatch.setattr(scoring, "SAMPLE_ROWS", 40)
    world = signs(subjects=45, images=4, groups=3, seed=1)
    expected, pool = brute_force(world, impostors)
    report = evaluate_verification(
        world.embeddings, world.subjects, world.groups, fmr=fmr, impostors=impostors, replicates=QUICK
    )
    mated = np.concatenate([genuine for genuine, _ in expected.values()])
    assert report.threshold == threshold_at_fmr(pool, fmr, mated)
    assert report.fmr == (pool >= report.threshold).mean()
    for record in report.groups:
        genuine, impostor = expected[record.group]
        assert (record.genuine, record.impostor) == (genuine.size, impostor.size)
        assert record.false_matches == (impostor >= report.threshold).sum()
        assert record.false_non_matches == (genuine < report.threshold).sum()
        assert record.own_threshold == threshold_at_fmr(impostor, fmr, genuine)
        assert record.fnmr_at_own_threshold == (genuine < record.own_threshold).mean()


def test_the_order_of_images_does_not_matter():
    world = signs(subjects=30, images=3, groups=2, seed=2)
    mixed = np.random.default_rng(0).permutation(len(world.subjects))
    first = evaluate_verification(world.embeddings, world.subjects, world.groups, fmr=0.05, replicates=QUICK)
    second = evaluate_verification(
        world.embeddings[mixed],
        [world.subjects[i] for i in mixed],
        [world.groups[i] for i in mixed],
        fmr=0.05,
        replicates=QUICK,
    )
    assert first.to_json() == second.to_json()


def test_the_length_of_embeddings_does_not_matter():
    world = signs(subjects=20, images=3, groups=2, seed=3)
    first = evaluate_verification(world.embeddings, world.subjects, world.groups, fmr=0.05, replicates=QUICK)
    second = evaluate_verification(
        4 * world.embeddings, world.subjects, world.groups, fmr=0.05, replicates=QUICK
    )
    assert first == second


def test_a_fixed_threshold_is_used_as_it_is_and_its_fmr_reported():
    world = signs(subjects=30, images=3, groups=2, seed=4)
    expected, pool = brute_force(world)
    report = evaluate_verification(
        world.embeddings, world.subjects, world.groups, threshold=0.25, replicates=QUICK
    )
    assert report.threshold == 0.25
    assert report.fmr == report.target_fmr == (pool >= 0.25).mean()
    for record in report.groups:
        assert record.own_threshold == threshold_at_fmr(
            expected[record.group][1], report.fmr, expected[record.group][0]
        )


def test_equal_error_policy_is_where_both_errors_meet():
    world = sample([Population(), Population()], [40, 40], 4, seed=5)
    report = evaluate_verification(
        world.embeddings, world.subjects, world.groups, policy="eer", replicates=QUICK
    )
    assert report.fmr == pytest.approx(report.fnmr, abs=0.01)


def test_summaries_are_the_scalar_measures_of_the_groups_rates():
    world = signs(subjects=45, images=4, groups=3, seed=6, flip=0.35)
    report = evaluate_verification(
        world.embeddings, world.subjects, world.groups, fmr=0.05, alpha=0.3, replicates=QUICK
    )
    fmr, fnmr = [g.fmr for g in report.groups], [g.fnmr for g in report.groups]
    own = [g.fnmr_at_own_threshold for g in report.groups]
    assert report.summaries["garbe"].value == pytest.approx(garbe(fmr, fnmr, 0.3))
    assert report.summaries["fmr_gap"].value == max(fmr) - min(fmr)
    assert report.summaries["fnmr_gap_at_own_threshold"].value == max(own) - min(own)
    assert set(report.summaries) == set(BY_NAME)


def test_null_subjects_are_in_no_pair_and_counted():
    world = signs(subjects=30, images=3, groups=2, seed=7)
    known = evaluate_verification(world.embeddings, world.subjects, world.groups, fmr=0.05, replicates=QUICK)
    extra = evaluate_verification(
        np.concatenate([world.embeddings, world.embeddings[:5]]),
        [*world.subjects, None, None, "", float("nan"), None],
        [*world.groups, *world.groups[:5]],
        fmr=0.05,
        replicates=QUICK,
    )
    assert extra.counts["images_without_subject"] == 5
    assert extra.threshold == known.threshold
    assert [(g.genuine, g.impostor, g.false_matches) for g in extra.groups] == [
        (g.genuine, g.impostor, g.false_matches) for g in known.groups
    ]
    assert "unknown_subjects:5" in extra.flags


def test_failures_count_in_the_generalised_rates_and_nowhere_else():
    world = signs(subjects=20, images=3, groups=2, seed=8)
    rows = world.embeddings.copy()
    failed = np.zeros(len(rows), dtype=bool)
    failed[[0, 1, 3]] = True  # two of s000's images and one of s001's
    rows[failed] = np.nan
    report = evaluate_verification(
        rows, world.subjects, world.groups, fmr=0.05, failures=failed, replicates=QUICK
    )
    light, dark = report.group("g0"), report.group("g1")
    assert (light.images, light.fta) == (30, 2 / 30)
    assert (dark.images, dark.fta) == (30, 1 / 30)
    # 10 subjects × 3 pairs; s000 lost all three of its pairs, s001 two.
    assert (light.genuine, dark.genuine) == (27, 28)
    assert light.generalised_fnmr == (light.false_non_matches + 3) / 30
    assert dark.generalised_fnmr == (dark.false_non_matches + 2) / 30
    assert light.generalised_fmr == light.false_matches / (45 * 9)
    assert "failures_counted" in light.flags


@pytest.mark.parametrize(
    ("value", "what"), [(np.nan, "NaN or infinity"), (np.inf, "NaN or infinity"), (0.0, "zero")]
)
def test_a_row_that_is_no_direction_names_its_subject(value, what):
    world = signs(subjects=10, images=2, groups=2, seed=9)
    rows = world.embeddings.copy()
    rows[6] = value
    with pytest.raises(InvalidInput, match=rf"row 6 \(subject 's003'\).*{what}"):
        evaluate_verification(rows, world.subjects, world.groups, fmr=0.05)


def test_one_group_has_rates_and_no_summary():
    world = signs(subjects=20, images=3, groups=1, seed=10)
    report = evaluate_verification(world.embeddings, world.subjects, world.groups, fmr=0.05, replicates=QUICK)
    assert report.groups[0].fmr == report.fmr
    assert report.summaries["garbe"].value is None
    assert "one_group" in report.summaries["garbe"].flags


def test_a_group_of_one_subject_keeps_its_line_and_says_what_it_lacks():
    world = signs(subjects=20, images=3, groups=2, seed=11)
    lone = signs(subjects=1, images=3, groups=1, seed=12)
    report = evaluate_verification(
        np.concatenate([world.embeddings, lone.embeddings]),
        [*world.subjects, *["lone"] * 3],
        [*world.groups, *["g9"] * 3],
        fmr=0.05,
        replicates=QUICK,
    )
    record = report.group("g9")
    assert (record.fmr, record.impostor, record.genuine) == (None, 0, 3)
    assert {"one_subject", "no_impostor_pairs", "own_threshold_undefined"} <= set(record.flags)
    assert "insufficient:g9" in report.summaries["gini_fmr"].flags
    json.loads(report.to_json())


def test_a_group_without_genuine_pairs_is_kept_and_left_out_of_fnmr_by_name():
    world = signs(subjects=20, images=3, groups=2, seed=13)
    singles = signs(subjects=15, images=1, groups=1, seed=14)
    report = evaluate_verification(
        np.concatenate([world.embeddings, singles.embeddings]),
        [*world.subjects, *(f"t{i}" for i in range(15))],
        [*world.groups, *["g9"] * 15],
        fmr=0.05,
        replicates=QUICK,
    )
    assert report.group("g9").fnmr is None
    assert report.group("g9").fmr is not None
    assert "no_genuine_pairs" in report.group("g9").flags
    assert "insufficient:g9" in report.summaries["garbe"].flags


def test_a_group_with_no_usable_image_keeps_its_line():
    world = signs(subjects=20, images=3, groups=2, seed=25)
    nobody = np.full((4, 64), np.nan)
    report = evaluate_verification(
        np.concatenate([world.embeddings, nobody]),
        [*world.subjects, "lost", "lost", None, None],
        [*world.groups, *["g9"] * 4],
        fmr=0.05,
        failures=[False] * 60 + [True] * 4,
        replicates=QUICK,
    )
    record = report.group("g9")
    assert (record.images, record.fta, record.fmr, record.fnmr) == (4, 1.0, None, None)
    assert record.generalised_fnmr == 1.0
    json.loads(report.to_json())


def test_no_errors_at_all_have_exact_intervals_and_no_gap():
    rows = np.repeat(np.eye(20), 3, axis=0)
    subjects = [f"s{i // 3}" for i in range(60)]
    report = evaluate_verification(
        rows, subjects, ["a"] * 30 + ["b"] * 30, threshold=0.5, fmr=0.1, replicates=QUICK
    )
    for record in report.groups:
        assert (record.fmr, record.fnmr) == (0.0, 0.0)
        assert record.fmr_interval[1] == pytest.approx(1 - 0.025 ** (1 / record.impostor))
        assert {"zero_false_matches", "zero_false_non_matches"} <= set(record.flags)
    assert report.summaries["garbe"].value == 0.0
    assert report.summaries["garbe"].p_value == 1.0
    assert "degenerate" in report.summaries["garbe"].flags
    assert report.summaries["inequity_rate"].value is None
    json.loads(report.to_json())


def test_all_errors_have_exact_intervals():
    rows = np.concatenate([np.tile([1.0, 0.0], (10, 1)), np.tile([1.0, 0.0], (10, 1))])
    subjects = [f"s{i // 2}" for i in range(20)]
    report = evaluate_verification(rows, subjects, ["a"] * 10 + ["b"] * 10, threshold=0.5, replicates=QUICK)
    for record in report.groups:
        assert record.fmr == 1.0
        assert record.fmr_interval == (pytest.approx(0.025 ** (1 / record.impostor)), 1.0)
        assert "all_false_matches" in record.flags


def test_one_person_under_two_labels_is_flagged_by_name_and_their_pairs_across_are_counted():
    world = signs(subjects=20, images=4, groups=2, seed=15)
    groups = list(world.groups)
    groups[0] = groups[1] = "g1"  # half of s000's images; the rest stay in g0
    report = evaluate_verification(world.embeddings, world.subjects, groups, fmr=0.05, replicates=QUICK)
    assert "shared_subjects:1, such as s000" in report.flags
    assert report.counts["genuine_across_groups"] == 4
    assert report.group("g0").genuine == 9 * 6 + 1


def test_groups_may_be_an_intersection_of_attributes():
    world = signs(subjects=24, images=3, groups=2, seed=16)
    tones = [("light", "dark")[int(s[1:]) // 12] for s in world.subjects]
    report = evaluate_verification(
        world.embeddings,
        world.subjects,
        {"skin_tone_band": tones, "gender": [{"g0": "female", "g1": "male"}[g] for g in world.groups]},
        fmr=0.05,
        replicates=QUICK,
    )
    assert [g.group for g in report.groups] == [
        "gender=female,skin_tone_band=dark",
        "gender=female,skin_tone_band=light",
        "gender=male,skin_tone_band=dark",
        "gender=male,skin_tone_band=light",
    ]


def test_images_without_a_group_are_in_no_comparison_and_counted():
    world = signs(subjects=20, images=3, groups=2, seed=17)
    groups = [None, *world.groups[1:]]
    report = evaluate_verification(world.embeddings, world.subjects, groups, fmr=0.05, replicates=QUICK)
    assert report.counts["images_without_group"] == 1
    assert report.group("g0").images == 29


def test_fewer_impostor_comparisons_than_the_target_needs_are_refused():
    world = signs(subjects=6, images=2, groups=2, seed=18)
    with pytest.raises(InvalidInput, match="24 impostor comparisons, at least 1000"):
        evaluate_verification(world.embeddings, world.subjects, world.groups, fmr=1e-3)


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({}, "fmr"),
        ({"fmr": 0.0}, "fmr"),
        ({"fmr": 0.1, "policy": "eer"}, "fmr"),
        ({"policy": "best"}, "policy"),
        ({"threshold": float("nan")}, "threshold"),
        ({"fmr": 0.1, "impostors": "some"}, "impostors"),
        ({"fmr": 0.1, "alpha": 2.0}, "alpha"),
        ({"fmr": 0.1, "replicates": 10}, "replicates"),
        ({"fmr": 0.1, "failures": [True]}, "failures"),
    ],
)
def test_options_that_make_no_sense_are_refused_by_name(options, field):
    world = signs(subjects=10, images=2, groups=2, seed=19)
    with pytest.raises(InvalidInput) as error:
        evaluate_verification(world.embeddings, world.subjects, world.groups, **options)
    assert error.value.violations[0].field == field


def test_lengths_that_differ_are_refused():
    world = signs(subjects=10, images=2, groups=2, seed=20)
    with pytest.raises(InvalidInput, match="19 values for 20 images"):
        evaluate_verification(world.embeddings, world.subjects, world.groups[:-1], fmr=0.1)
    with pytest.raises(InvalidInput, match="19 rows for 20 subjects"):
        evaluate_verification(world.embeddings[:-1], world.subjects, world.groups, fmr=0.1)


def test_nobody_to_compare_with_is_refused():
    with pytest.raises(InvalidInput, match="no impostor pair"):
        evaluate_verification(np.eye(2), ["a", "b"], ["x", "y"], fmr=0.5)


def test_the_guards_of_30_and_3_and_few_subjects_are_set():
    world = signs(subjects=20, images=3, groups=2, seed=21)
    flags = (
        evaluate_verification(world.embeddings, world.subjects, world.groups, fmr=0.005, replicates=QUICK)
        .group("g0")
        .flags
    )
    # 405 impostor comparisons at 0.005: 2 expected, and 3/FMR is 600.
    assert {"few_subjects", "rule_of_30", "rule_of_3"} <= set(flags)


def test_a_group_worse_by_fmr_and_better_by_fnmr_is_flagged_as_opposite_directions():
    tight = Population(reach=0.6, noise=0.5)
    loose = Population(reach=0.05, noise=1.0)
    world = sample([tight, loose], [60, 60], 4, seed=22)
    report = evaluate_verification(world.embeddings, world.subjects, world.groups, fmr=0.02, replicates=QUICK)
    assert "opposite_directions" in report.flags


def test_a_report_prints_converts_and_repeats():
    world = signs(subjects=30, images=3, groups=2, seed=23)
    report = evaluate_verification(world.embeddings, world.subjects, world.groups, fmr=0.05, seed=5)
    again = evaluate_verification(world.embeddings, world.subjects, world.groups, fmr=0.05, seed=5)
    assert report.to_json() == again.to_json()
    plain = json.loads(report.to_json())
    assert plain["schema"] == "fairloop.verification/1"
    frame = report.to_pandas()
    assert list(frame["group"]) == ["g0", "g1"]
    assert list(frame.columns[:5]) == ["group", "subjects", "images", "genuine", "impostor"]
    assert (
        report.to_pandas("summaries").set_index("name").loc["garbe", "value"]
        == report.summaries["garbe"].value
    )
    text = str(report)
    assert "GARBE" in text
    assert "fewer than 250 subjects" in text


def test_rechosen_thresholds_are_another_interval_around_the_same_estimate():
    world = sample([Population(), Population(noise=1.0)], [40, 40], 4, seed=24)
    fixed, rechosen = (
        evaluate_verification(
            world.embeddings, world.subjects, world.groups, fmr=0.01, threshold_in_replicates=choice, seed=1
        )
        for choice in ("fixed", "rechosen")
    )
    for a, b in zip(fixed.groups, rechosen.groups, strict=True):
        assert (a.fmr, a.fnmr, a.fnmr_at_own_threshold) == (b.fmr, b.fnmr, b.fnmr_at_own_threshold)
        assert b.fmr_interval[0] < b.fmr < b.fmr_interval[1]
        assert a.fmr_interval != b.fmr_interval


def test_the_worst_groups_are_named_for_every_kind_of_error():
    world = signs(subjects=30, images=3, groups=3, seed=12)
    report = evaluate_verification(world.embeddings, world.subjects, world.groups, fmr=0.05, replicates=QUICK)
    for kind, names in report.worst.items():
        rates = {record.group: getattr(record, kind) for record in report.groups}
        assert set(names) == {name for name, rate in rates.items() if rate == max(rates.values())}
    assert set(report.worst) == {"fmr", "fnmr", "fnmr_at_own_threshold"}
    assert f"worst fmr: {', '.join(report.worst['fmr'])}" in str(report)


def test_a_threshold_beyond_every_cosine_is_refused():
    world = signs(subjects=10, images=2, groups=2, seed=13)
    with pytest.raises(InvalidInput, match=r"threshold: 1\.5 is no cosine similarity"):
        evaluate_verification(world.embeddings, world.subjects, world.groups, threshold=1.5)


def test_more_weights_than_memory_holds_are_refused_with_what_is_allowed():
    with pytest.raises(InvalidInput, match="replicates: 100,000 for 6,000 subjects; at most 83,333"):
        subject_weights([np.arange(6_000)], 6_000, 100_000, np.random.default_rng(0))


def test_what_a_watcher_raises_ends_the_drawing_of_replicates():
    class Stopped(Exception):
        pass

    calls: list[tuple[int, int]] = []

    def stop_after_the_scores(done: int, total: int) -> None:
        calls.append((done, total))
        if calls.count((total, total)) == 2:
            # The first was the last block; this one comes from the replicates.
            raise Stopped

    world = signs(subjects=40, images=3, groups=2, seed=14)
    with pytest.raises(Stopped), watched(stop_after_the_scores):
        evaluate_verification(world.embeddings, world.subjects, world.groups, fmr=0.05, replicates=QUICK)
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)
