"""Dawid–Skene: the 1979 example, planted confusions, and an implementation written out in loops."""

import json
import math

import numpy as np
import pytest

from fairloop.errors import InvalidInput
from fairloop.stats.consensus import dawid_skene

# Table 1 of Dawid & Skene (1979): fitness for anaesthesia of 45 patients, by observer 1 three
# times and by observers 2 to 5 once.
ANAESTHESIA = """
1111111 3334334 1122122 2223121 2223222 2223322 1222111 3333433 2222223 2322223 4444444 2223343
1111111 2223212 1211111 1112111 1111111 1111111 2222221 2221322 2222222 2222221 2223222 2212222
1111111 1111111 2322222 1111111 1111111 1121121 1111111 3333233 1111111 2222222 2223232 4334343
2212232 2323233 3333432 1111111 1111111 1212111 2322222 1211111 2222222
"""
OBSERVERS = ["1", "1", "1", "2", "3", "4", "5"]


def anaesthesia():
    return [[int(digit) for digit in patient] for patient in ANAESTHESIA.split()]


def planted(images=4_000, seed=0):
    """Labels of five annotators with known confusions, one value in ten missing."""
    rng = np.random.default_rng(seed)
    prevalence = np.array([0.5, 0.3, 0.2])
    truth = rng.choice(3, size=images, p=prevalence)
    confusions = np.stack([0.65 * np.eye(3) + 0.35 * rng.dirichlet(np.ones(3), 3) for _ in range(5)])
    labels = np.stack([(c[truth].cumsum(1) < rng.random(images)[:, None]).sum(1) for c in confusions], axis=1)
    found = labels.astype(object)
    found[rng.random(found.shape) < 0.1] = None
    return truth, prevalence, confusions, found


def loops(labels, values, iterations):
    """EM written out, without arrays: (prevalence, confusion, posterior, log likelihood)."""
    images, annotators = len(labels), len(labels[0])
    given = [[(a, row[a]) for a in range(annotators) if row[a] is not None] for row in labels]
    posterior = [[sum(o == v for _, o in row) / len(row) for v in values] for row in given]
    for _ in range(iterations):
        prevalence = [sum(p[t] for p in posterior) / images for t in range(len(values))]
        confusion = []
        for a in range(annotators):
            table = []
            for t in range(len(values)):
                counts = [
                    sum(p[t] for p, row in zip(posterior, given, strict=True) if (a, v) in row)
                    for v in values
                ]
                total = sum(counts)
                table.append([c / total if total else 1 / len(values) for c in counts])
            confusion.append(table)
        likelihood, posterior = 0.0, []
        for row in given:
            terms = [
                prevalence[t] * math.prod(confusion[a][t][values.index(o)] for a, o in row)
                for t in range(len(values))
            ]
            likelihood += math.log(sum(terms))
            posterior.append([term / sum(terms) for term in terms])
    return prevalence, confusion, posterior, likelihood


def test_the_anaesthetists_of_1979():
    found = dawid_skene(anaesthesia(), values=[1, 2, 3, 4], annotators=OBSERVERS)
    assert found.converged
    assert found.annotators == ("1", "2", "3", "4", "5")
    # The estimates of the paper, printed to two decimals.
    np.testing.assert_allclose(found.prevalence, [0.40, 0.42, 0.11, 0.07], atol=0.0051)
    first = [[0.89, 0.11, 0, 0], [0.07, 0.88, 0.05, 0], [0, 0.34, 0.66, 0]]
    np.testing.assert_allclose(found.confusion[0][:3], first, atol=0.0051)
    # Patients 1 and 11 were judged alike by all.
    assert found.labels()[0] == "1"
    assert found.labels()[10] == "4"


def test_it_equals_em_written_out_in_loops():
    _, _, _, labels = planted(images=60, seed=3)
    rows = [row for row in labels.tolist() if any(v is not None for v in row)]
    prevalence, confusion, posterior, likelihood = loops(rows, [0, 1, 2], 25)
    found = dawid_skene(rows, values=[0, 1, 2], iterations=25, tolerance=0.0)
    assert found.iterations == 25
    np.testing.assert_allclose(found.prevalence, prevalence, rtol=1e-9)
    np.testing.assert_allclose(found.confusion, confusion, atol=1e-12)
    np.testing.assert_allclose(found.posterior, posterior, atol=1e-12)
    assert found.log_likelihood == pytest.approx(likelihood, rel=1e-12)


def test_it_recovers_planted_confusions_and_prevalence():
    truth, prevalence, confusions, labels = planted()
    found = dawid_skene(labels, values=[0, 1, 2])
    assert found.converged
    assert np.abs(np.array(found.prevalence) - prevalence).max() < 0.03
    assert np.abs(found.confusion - confusions).max() < 0.06
    agreed = np.mean([int(label or 0) == t for label, t in zip(found.labels(), truth, strict=True)])
    votes = [max((0, 1, 2), key=row.count) for row in labels.tolist()]
    assert agreed > np.mean(np.array(votes) == truth) > 0.8


def test_the_likelihood_never_falls_and_rows_sum_to_one():
    for seed in range(4):
        found = dawid_skene(planted(images=200, seed=seed)[3], tolerance=0.0, iterations=60)
        steps = np.diff(found.log_likelihoods)
        assert steps.min() >= -1e-9
        np.testing.assert_allclose(found.confusion.sum(axis=2), 1.0, rtol=1e-12)
        np.testing.assert_allclose(found.posterior.sum(axis=1), 1.0, rtol=1e-12)


def test_the_order_of_images_and_the_names_of_values_do_not_matter():
    labels = planted(images=300, seed=5)[3]
    forward, backward = dawid_skene(labels), dawid_skene(labels[::-1])
    np.testing.assert_allclose(forward.posterior, backward.posterior[::-1], atol=1e-6)
    named = [[None if v is None else "cab"[v] for v in row] for row in labels]
    renamed = dawid_skene(named, values=["c", "a", "b"])
    np.testing.assert_array_equal(renamed.posterior, forward.posterior)


def test_an_image_without_labels_has_the_prevalence_and_no_label():
    labels = [*anaesthesia(), [None] * 7]
    found = dawid_skene(labels, annotators=OBSERVERS)
    alone = dawid_skene(anaesthesia(), annotators=OBSERVERS)
    assert found.labels()[-1] is None
    assert "unlabelled_images:1" in found.flags
    np.testing.assert_allclose(found.posterior[-1], alone.prevalence, rtol=1e-9)
    assert found.log_likelihood == pytest.approx(alone.log_likelihood, rel=1e-12)


def test_labels_below_a_certainty_are_withheld():
    labels = dawid_skene(planted(images=300, seed=1)[3])
    sure = labels.labels(certainty=0.99)
    assert 0 < sure.count(None) < 300
    assert all(s is None or s == plain for s, plain in zip(sure, labels.labels(), strict=True))


def test_a_value_an_annotator_never_met_is_flagged_and_uniform():
    labels = [["x", "x", "x"], ["x", "x", "x"], ["y", "y", None], ["y", "y", None]]
    found = dawid_skene(labels, annotators=["p", "q", "r"])
    assert found.flags == ("never_met:r=y",)
    np.testing.assert_array_equal(found.confusion[2][1], [0.5, 0.5])


def test_two_annotators_are_flagged_as_too_few():
    assert dawid_skene([["x", "x"], ["y", "y"]]).flags == ("few_annotators:2",)


def test_its_json_is_plain_and_leaves_the_posterior_out():
    found = dawid_skene(anaesthesia(), annotators=OBSERVERS)
    plain = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert plain["images"] == 45
    assert "posterior" not in plain
    assert plain["confusion"] == found.confusion.tolist()


@pytest.mark.parametrize(
    ("labels", "options", "message"),
    [
        ([["x", "y"], ["x"]], {}, "row 1 has 1 labels, row 0 has 2"),
        ([[None, None]], {}, "no label at all"),
        ([["x", "z"]], {"values": ["x", "y"]}, "'z' at position 1"),
        ([["x", "y"]], {"annotators": ["one"]}, "1 names for 2 columns"),
        ([["x", "y"]], {"iterations": 0}, "at least 1"),
        ([], {}, "no images"),
    ],
)
def test_labels_that_do_not_fit_are_refused(labels, options, message):
    with pytest.raises(InvalidInput, match=message):
        dawid_skene(labels, **options)
