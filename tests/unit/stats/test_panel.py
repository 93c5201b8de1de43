"""Several annotators: statsmodels' and krippendorff's coefficients, closed forms, known worlds."""

import krippendorff
import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score
from statsmodels.stats.inter_rater import aggregate_raters, fleiss_kappa

from fairloop.errors import InvalidInput
from fairloop.stats.panel import annotator_panel, posterior_entropy

VALUES = ("light", "medium", "dark")


def world(images=400, seed=0, accuracy=(0.9, 0.8, 0.7)):
    """Truth and the labels of annotators that are right with these probabilities, in codes."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 3, images)
    said = [
        np.where(rng.random(images) < p, truth, (truth + rng.integers(1, 3, images)) % 3) for p in accuracy
    ]
    return truth, np.stack(said, axis=1)


def columns(codes):
    return {f"a{k}": [VALUES[c] if c >= 0 else None for c in codes[:, k]] for k in range(codes.shape[1])}


@pytest.mark.parametrize("ordered", [False, True])
def test_coefficients_of_all_and_of_each_group_are_those_of_statsmodels_and_krippendorff(ordered):
    truth, codes = world()
    codes[5:40, 1] = -1
    groups = ["left" if t == 0 else "right" for t in truth]
    found = annotator_panel(columns(codes), groups, VALUES, ordered=ordered, replicates=100)
    masks = {"(all)": np.ones(len(truth), bool), "left": truth == 0, "right": truth != 0}
    for record in (found.overall, *found.groups):
        mine = codes[masks[record.group]]
        complete = mine[(mine >= 0).all(axis=1)]
        table, _ = aggregate_raters(complete, n_cat=3)
        assert record.complete == len(complete)
        assert record.fleiss == pytest.approx(fleiss_kappa(table))
        data = np.where(mine >= 0, mine, np.nan).astype(float).T
        level = "ordinal" if ordered else "nominal"
        alpha = krippendorff.alpha(reliability_data=data, level_of_measurement=level, value_domain=[0, 1, 2])
        assert record.alpha == pytest.approx(alpha)
    both = (codes[:, 0] >= 0) & (codes[:, 1] >= 0)
    kappa = cohen_kappa_score(codes[both, 0], codes[both, 1], weights="quadratic" if ordered else None)
    assert found.pairs["a0 and a1"].overall.kappa == pytest.approx(kappa)


def test_intervals_of_fleiss_and_alpha_hold_the_value_of_a_large_sample_about_as_often_as_they_say():
    _, many = world(60_000, seed=99)
    table, _ = aggregate_raters(many, n_cat=3)
    true = fleiss_kappa(table)
    inside = np.zeros(2)
    worlds = 60
    for seed in range(worlds):
        _, codes = world(120, seed=seed)
        record = annotator_panel(columns(codes), ["g"] * 120, VALUES, replicates=200).overall
        for k, interval in enumerate((record.fleiss_interval, record.alpha_interval)):
            inside[k] += interval[0] <= true <= interval[1]
    # 95 % of 60 is 57; a binomial has its .1 % quantile at 51.
    assert (inside >= 51).all()


def test_images_of_one_subject_are_redrawn_together():
    _, codes = world(60)
    repeated = np.repeat(codes, 10, axis=0)
    who = np.repeat(np.arange(60), 10).tolist()
    alone = annotator_panel(columns(repeated), ["g"] * 600, VALUES, replicates=300).overall.alpha_interval
    together = annotator_panel(
        columns(repeated), ["g"] * 600, VALUES, subjects=who, replicates=300
    ).overall.alpha_interval
    assert (together[1] - together[0]) / (alone[1] - alone[0]) == pytest.approx(10**0.5, rel=0.25)


def test_the_consensus_is_nearer_to_the_truth_than_any_annotator():
    truth, codes = world(3_000, accuracy=(0.8, 0.8, 0.8, 0.8))
    found = annotator_panel(columns(codes), ["g"] * 3_000, VALUES, replicates=100)
    agreed = np.array([VALUES.index(v) for v in found.consensus.labels()])
    each = (codes == truth[:, None]).mean(axis=0)
    # Four annotators at .8 that err independently: the plurality is right in about .92.
    assert (agreed == truth).mean() > each.max() + 0.08


def test_disagreements_are_listed_by_entropy_and_only_where_labels_differ():
    truth, codes = world()
    found = annotator_panel(columns(codes), ["g"] * len(truth), VALUES, listed=25, replicates=100)
    differs = [len(set(row)) > 1 for row in codes.tolist()]
    assert found.differing == sum(differs)
    entropies = [one.entropy for one in found.disagreements]
    assert entropies == sorted(entropies, reverse=True)
    assert len(entropies) == 25
    every = posterior_entropy(found.consensus.posterior)
    listed = {one.image for one in found.disagreements}
    assert all(differs[i] for i in listed)
    left_out = [every[i] for i in range(len(truth)) if differs[i] and i not in listed]
    assert min(entropies) >= max(left_out)
    assert posterior_entropy(np.array([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]])) == pytest.approx([np.log(2), 0.0])


def test_one_label_everywhere_has_no_coefficient_and_says_so():
    found = annotator_panel({"a": ["light"] * 4, "b": ["light"] * 4}, ["g"] * 4, VALUES, replicates=100)
    assert (found.overall.fleiss, found.overall.alpha) == (None, None)
    assert any(flag.startswith("undefined:only one label") for flag in found.overall.flags)
    assert found.differing == 0


def test_one_annotator_cannot_agree():
    with pytest.raises(InvalidInput, match="annotators: 1; agreement needs at least two"):
        annotator_panel({"a": ["light"]}, ["g"], VALUES)
    with pytest.raises(InvalidInput, match="no image has two labels"):
        annotator_panel({"a": ["light", None], "b": [None, "dark"]}, ["g", "g"], VALUES)
