import json

import numpy as np
import pytest
from scipy import stats

from fairloop.errors import InvalidInput, PreconditionFailed
from fairloop.stats import audit_distribution, compare_audits, distribution, wilson

CELLS = ["a", "b", "c", "d"]


def labelled(shares, images, seed, extra=()):
    rng = np.random.default_rng(seed)
    names = [*CELLS, *(name for name, _ in extra)]
    weights = np.array([*shares, *(w for _, w in extra)], dtype=float)
    return rng.choice(names, size=images, p=weights / weights.sum()).tolist()


def test_shares_have_three_denominators_and_wilson_intervals():
    labels = ["a"] * 40 + ["b"] * 20 + ["no_face"] * 30 + ["uncertain"] * 8 + [None] * 2 + ["failed"] * 5
    report = audit_distribution(labels, CELLS)
    a = report.cell("a")
    assert (a.share, a.share_of_faces, a.share_of_images) == (40 / 60, 40 / 70, 40 / 105)
    assert a.interval == wilson(40, 60)
    assert a.share_of_faces_interval == wilson(40, 70)
    assert a.share_of_images_interval == wilson(40, 105)
    assert report.outcomes == {"no_face": 30, "uncertain": 10, "failed": 5}
    assert report.no_face_rate == 30 / 100
    assert report.uncertain_rate == 10 / 70
    assert report.counts == {"images": 105, "faces": 70, "certain": 60, "clusters": 105}
    assert report.cell("c").flags == ("empty_cell",)


def test_distances_are_those_of_distribution():
    report = audit_distribution({"a": 70, "b": 10, "c": 10, "d": 10}, CELLS)
    expected = distribution([70, 10, 10, 10])
    assert report.distribution == expected
    assert report.summaries["total_variation"].value == expected.total_variation
    assert report.summaries["kl_to_target"].value == pytest.approx(expected.kl_to_target)
    assert report.summaries["chi_square"].value == pytest.approx(expected.chi_square / 100)


def test_the_chi_square_p_value_agrees_with_scipy():
    counts = {"a": 31, "b": 24, "c": 18, "d": 27}
    report = audit_distribution(counts, CELLS, replicates=20_000)
    expected = stats.chisquare(list(counts.values())).pvalue
    assert report.summaries["chi_square"].p_value == pytest.approx(expected, abs=0.015)


def test_shares_on_target_are_not_called_a_distance():
    report = audit_distribution(labelled([1, 1, 1, 1], 800, seed=1), CELLS)
    found = report.summaries["total_variation"]
    assert found.p_value >= 0.05
    assert found.interval[0] == 0.0
    assert found.flags == ("not_above_null",)


def test_a_target_may_be_weights_by_cell():
    report = audit_distribution({"a": 50, "b": 50}, CELLS, target={"a": 2, "b": 2})
    assert [c.target for c in report.cells] == [0.5, 0.5, 0.0, 0.0]
    assert report.summaries["total_variation"].value == 0.0


def test_clusters_of_equal_images_are_worth_one_image_each():
    labels = labelled([4, 3, 2, 1], 200, seed=2)
    repeated = [label for label in labels for _ in range(5)]
    clusters = [i // 5 for i in range(1000)]
    single = audit_distribution(labels, CELLS, replicates=4000)
    clustered = audit_distribution(repeated, CELLS, clusters=clusters, replicates=4000)
    naive = audit_distribution(repeated, CELLS, replicates=4000)
    for one, five, wrong in zip(single.cells, clustered.cells, naive.cells, strict=True):
        width = [r.interval[1] - r.interval[0] for r in (one, five, wrong)]
        assert width[1] == pytest.approx(width[0], rel=0.12)
        assert width[2] < 0.55 * width[0]
    floors = [r.summaries["total_variation"].null_p95 for r in (single, clustered)]
    assert floors[1] == pytest.approx(floors[0], rel=0.12)


def test_a_cell_absent_from_every_cluster_has_the_exact_interval_of_clusters():
    report = audit_distribution(["a", "b"] * 30, CELLS, clusters=[i // 2 for i in range(60)])
    assert report.cell("c").interval == (0.0, pytest.approx(1 - 0.025 ** (1 / 30)))


def test_requested_against_obtained():
    labels = ["a", "a", "b", "no_face", "b", "uncertain"]
    requested = ["a", "a", "a", "a", "b", "old prompt"]
    report = audit_distribution(labels, CELLS, requested=requested)
    a = report.requested[0]
    assert (a.requested, a.images, a.obtained["b"], a.hit_rate, a.no_face_rate) == ("a", 4, 1, 0.5, 0.25)
    assert a.hit_interval == wilson(2, 4)
    assert report.requested[2].hit_rate is None


def test_shares_are_corrected_for_the_annotator():
    confusion = np.array([[90, 10, 0, 0], [5, 90, 5, 0], [0, 10, 80, 10], [0, 0, 10, 90]])
    true = np.array([0.4, 0.3, 0.2, 0.1])
    observed = np.round(true @ (confusion / 100) * 10_000).astype(int)
    report = audit_distribution(dict(zip(CELLS, observed.tolist(), strict=True)), CELLS, confusion=confusion)
    np.testing.assert_allclose([c.corrected_share for c in report.cells], true, atol=2e-4)
    for record, share in zip(report.cells, true, strict=True):
        assert record.corrected_interval[0] < share < record.corrected_interval[1]
    assert report.summaries["corrected_total_variation"].value == pytest.approx(0.2, abs=1e-3)
    with pytest.raises(PreconditionFailed):
        audit_distribution({"a": 5, "b": 5}, ["a", "b"], confusion=[[1, 1], [1, 1]])


def test_two_audits_show_how_far_total_variation_fell():
    before = audit_distribution(labelled([6, 2, 1, 1], 2000, seed=3), CELLS, label_source="judge")
    after = audit_distribution(labelled([3, 3, 2, 2], 2000, seed=4), CELLS, label_source="judge")
    change = compare_audits(before, after).total_variation
    assert change.before == before.summaries["total_variation"].value
    assert change.difference == pytest.approx(change.after - change.before)
    # True values .35 and .1.
    assert change.difference_interval[0] < -0.25 < change.difference_interval[1]
    assert change.ratio_interval[0] < 0.1 / 0.35 < change.ratio_interval[1]


def test_a_cells_ratio_covers_the_truth_and_an_empty_cell_has_only_a_lower_end():
    before = audit_distribution({"a": 900, "b": 100}, CELLS, label_source="judge")
    after = audit_distribution({"a": 500, "b": 300, "c": 200}, CELLS, label_source="judge")
    a, b, c, d = compare_audits(before, after).cells
    assert b.ratio == pytest.approx(3.0)
    assert b.ratio_interval[0] < 3.0 < b.ratio_interval[1]
    # Katz's log interval for a ratio of proportions, as a second implementation.
    spread = np.sqrt(1 / 100 - 1 / 1000 + 1 / 300 - 1 / 1000)
    assert b.ratio_interval == pytest.approx(
        (3 * np.exp(-1.96 * spread), 3 * np.exp(1.96 * spread)), rel=0.08
    )
    assert a.ratio == pytest.approx(5 / 9)
    assert c.ratio is None
    assert c.ratio_interval[0] > 1
    assert c.ratio_interval[1] is None
    assert d.ratio_interval == (0.0, None)


def test_audits_by_different_annotators_are_refused():
    before = audit_distribution({"a": 5}, CELLS, label_source="steerer")
    after = audit_distribution({"a": 5}, CELLS, label_source="judge")
    with pytest.raises(InvalidInput, match="do not compare"):
        compare_audits(before, after)


def test_total_variation_intervals_cover():
    true, worlds, covered = np.array([0.4, 0.3, 0.2, 0.1]), 150, 0
    for world in range(worlds):
        counts = np.random.default_rng(world).multinomial(400, true)
        report = audit_distribution(
            dict(zip(CELLS, counts.tolist(), strict=True)), CELLS, replicates=200, seed=world
        )
        low, high = report.summaries["total_variation"].interval
        covered += low <= 0.2 <= high
    assert 0.89 <= covered / worlds <= 1.0


@pytest.mark.parametrize(
    ("labels", "options", "field"),
    [
        (["a", "z"], {}, "labels"),
        (["no_face"], {}, "labels"),
        ([], {}, "labels"),
        ({"a": -1}, {}, "labels"),
        ({"z": 1}, {}, "labels"),
        ({"a": 1}, {"clusters": ["x"]}, "clusters"),
        (["a", "b"], {"clusters": ["x"]}, "clusters"),
        (["a", "b"], {"clusters": ["x", "x"]}, "clusters"),
        (["a"], {"target": {"z": 1.0}}, "target"),
        (["a"], {"requested": []}, "requested"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(labels, options, field):
    with pytest.raises(InvalidInput) as error:
        audit_distribution(labels, CELLS, **options)
    assert error.value.violations[0].field == field


def test_an_unknown_label_names_the_image():
    with pytest.raises(InvalidInput, match="image 1: 'z' is no cell"):
        audit_distribution(["a", "z"], CELLS)


def test_a_report_prints_converts_and_repeats():
    report = audit_distribution(labelled([4, 3, 2, 1], 100, seed=5), CELLS, label_source="judge", seed=3)
    again = audit_distribution(labelled([4, 3, 2, 1], 100, seed=5), CELLS, label_source="judge", seed=3)
    assert report.to_json() == again.to_json()
    assert json.loads(report.to_json())["schema"] == "fairloop.audit/1"
    assert list(report.to_pandas()["cell"]) == CELLS
    assert "perceived labels from judge" in str(report)


def test_what_was_requested_has_intervals_over_clusters():
    clusters = [i // 4 for i in range(80)]
    labels = ["a" if c % 2 else "b" for c in clusters]
    report = audit_distribution(labels, CELLS, clusters=clusters, requested=["a"] * 80, replicates=4000)
    wide = report.requested[0].hit_interval
    plain = audit_distribution(labels, CELLS, requested=["a"] * 80).requested[0].hit_interval
    assert plain == wilson(40, 80)
    # Four equal images each: the variance is that of 20 clusters, with t on 19 degrees of freedom.
    half = stats.t.ppf(0.975, 19) * np.sqrt(0.25 / 19)
    assert (wide[1] - wide[0]) / 2 == pytest.approx(half, rel=0.1)
    assert report.requested[0].no_face_interval == (0.0, pytest.approx(1 - 0.025 ** (1 / 20)))


def test_a_request_of_one_prompt_is_over_its_images():
    labels = ["a", "b", "a", "a"] * 5
    prompts = ["p"] * 10 + ["q"] * 10
    report = audit_distribution(labels, CELLS, clusters=prompts, requested=prompts)
    assert report.requested[0].no_face_interval == wilson(0, 10)


def test_clusters_without_a_certain_label_are_no_trials_of_a_share():
    labels = ["a"] * 10 + ["b"] * 10 + ["no_face"] * 80
    report = audit_distribution(labels, CELLS, clusters=list(range(100)), replicates=200)
    assert report.cell("c").interval == (0.0, pytest.approx(1 - 0.025 ** (1 / 20)))
    assert report.cell("c").share_of_images_interval == (0.0, pytest.approx(1 - 0.025 ** (1 / 100)))


@pytest.mark.parametrize("confusion", [None, [[9, 1], [1, 9]]])
def test_replicates_without_a_certain_label_leave_no_hole(confusion):
    labels = ["no_face"] * 8 + ["a", "b"]
    clusters = [*range(8), 8, 8]
    report = audit_distribution(labels, ("a", "b"), clusters=clusters, confusion=confusion, replicates=200)
    json.loads(report.to_json())
    assert report.flags[0] == "one_cluster"
    assert report.cell("a").interval is None


def test_a_single_certain_image_has_its_chi_square():
    assert audit_distribution(["a"], CELLS, replicates=100).distribution.chi_square == pytest.approx(3.0)
