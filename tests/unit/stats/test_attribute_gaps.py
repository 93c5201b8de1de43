"""AI-Face's measures over several attributes, by their formulas, and rates of identities and rankings."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, confusion_matrix, roc_auc_score, roc_curve

from fairloop.errors import InvalidInput
from fairloop.stats.attribute_gaps import attribute_gaps
from fairloop.stats.identity_rates import identity_rates
from fairloop.stats.ranking import ranking

ORDER = {"gender": ("female", "male"), "tone": ("light", "medium", "dark")}


def detector(count=900, seed=0, shift=0.8):
    """Truth, call, logit and two attributes; dark faces get higher logits by `shift`."""
    rng = np.random.default_rng(seed)
    gender = rng.choice(ORDER["gender"], count)
    tone = rng.choice(ORDER["tone"], count, p=[0.5, 0.3, 0.2])
    truth = rng.integers(0, 2, count)
    logit = rng.normal(2 * truth - 1, 1.0) + shift * (tone == "dark")
    return truth, (logit > 0).astype(int), logit, {"gender": gender, "tone": tone}


def test_f_s_f_a_and_f_cov_are_the_formulas_of_the_benchmark():
    truth, calls, logit, attributes = detector()
    found = attribute_gaps(truth, calls, attributes, logits=logit, order=ORDER, replicates=50)
    rate = calls.mean()
    cells = [
        calls[(attributes["gender"] == g) & (attributes["tone"] == t)].mean()
        for g in ORDER["gender"]
        for t in ORDER["tone"]
    ]
    f_s = max(abs(a - b) for a in cells for b in cells)
    assert found.f_s.value == pytest.approx(f_s)
    for name, groups in ORDER.items():
        f_g = max(abs(calls[attributes[name] == g].mean() - rate) for g in groups)
        assert found.attributes[name].report.measures["f_g"].value == pytest.approx(f_g)
        assert found.attributes[name].f_a == pytest.approx((f_g + f_s) / 2)
        f_cov = 0.0
        for w, group in enumerate(groups):
            mine = attributes[name] == group
            inside = sum(w * value for value in logit[mine]) / logit.size
            f_cov += abs(inside - w * mine.sum() / logit.size * logit.mean())
        assert found.attributes[name].f_cov.value == pytest.approx(f_cov)


def test_a_planted_covariance_is_above_the_null_and_equal_groups_are_not():
    truth, calls, logit, attributes = detector(shift=1.5)
    found = attribute_gaps(truth, calls, attributes, logits=logit, order=ORDER, replicates=200).attributes
    assert found["tone"].f_cov.p_value < 0.02
    assert found["tone"].f_cov.interval[0] > 0
    assert "not_above_null" in found["gender"].f_cov.flags
    assert found["gender"].f_cov.interval[0] == 0


def test_copies_of_every_image_do_not_narrow_the_covariance_when_their_subject_is_known():
    truth, calls, logit, attributes = detector(count=150)
    single = attribute_gaps(truth, calls, attributes, logits=logit, order=ORDER, replicates=300)
    copies = attribute_gaps(
        np.repeat(truth, 6),
        np.repeat(calls, 6),
        {name: np.repeat(labels, 6) for name, labels in attributes.items()},
        logits=np.repeat(logit, 6),
        order=ORDER,
        subjects=[f"s{k // 6}" for k in range(900)],
        replicates=300,
    )
    one, many = single.attributes["tone"].f_cov, copies.attributes["tone"].f_cov
    assert many.value == pytest.approx(one.value)
    assert many.null_p95 == pytest.approx(one.null_p95, rel=0.25)
    assert many.interval[1] - many.value == pytest.approx(one.interval[1] - one.value, rel=0.25)


def test_a_group_without_a_class_is_named_and_not_dropped():
    truth = np.array([0, 1, 0, 1, 1, 1])
    found = attribute_gaps(
        truth, truth, {"gender": list("ffmmff"), "tone": list("lllldd")}, logits=truth * 1.0, replicates=20
    )
    report = found.attributes["tone"].report
    assert [record.group for record in report.groups] == ["d", "l"]
    assert "insufficient:d" in report.measures["f_fpr"].flags


def test_arguments_that_do_not_fit_are_refused():
    with pytest.raises(InvalidInput, match="attributes: 1; name at least two"):
        attribute_gaps([0, 1], [0, 1], {"gender": ["f", "m"]})
    both = {"gender": ["f", "m"], "tone": ["l", "d"]}
    with pytest.raises(InvalidInput, match="order: 'age' is no attribute; there are gender, tone"):
        attribute_gaps([0, 1], [0, 1], both, order={"age": ["x"]})
    with pytest.raises(InvalidInput, match="'d'"):
        attribute_gaps([0, 1], [0, 1], both, logits=[0.1, 0.2], order={"tone": ["l", "m"]})


def test_rates_of_identities_are_those_of_the_confusion_counts():
    rng = np.random.default_rng(3)
    truth = rng.choice(list("abcd"), 400)
    called = np.where(rng.random(400) < 0.7, truth, rng.choice(list("abcd"), 400))
    counts = confusion_matrix(truth, called, labels=list("abcd"))
    for k, found in enumerate(identity_rates(truth, called)):
        assert found.identity == "abcd"[k]
        assert found.false_rejects == counts[k].sum() - counts[k, k]
        assert found.false_accepts == counts[:, k].sum() - counts[k, k]
        assert found.far == found.false_accepts / (400 - counts[k].sum())
        assert found.frr == found.false_rejects / counts[k].sum()
        assert found.far_interval[0] < found.far < found.far_interval[1]
        held = (found.true_accepts, found.false_rejects, found.false_accepts, found.true_rejects)
        assert sum(held) == 400


def test_an_identity_that_never_occurs_has_no_frr_and_unknown_ones_are_not_counted():
    found = {r.identity: r for r in identity_rates(["a", "a", None, "b"], ["a", "c", "a", None])}
    assert (found["c"].frr, found["c"].false_accepts, found["c"].far) == (None, 1, 0.5)
    assert (found["a"].far, found["a"].frr) == (None, 0.5)
    with pytest.raises(InvalidInput, match="no image has a truth and a prediction"):
        identity_rates([None], ["a"])


def test_eer_auc_average_precision_and_tar_are_those_of_scikit_learn():
    rng = np.random.default_rng(8)
    positive = rng.random(3_000) < 0.3
    scores = np.round(rng.normal(positive * 1.2, 1.0), 1)  # many ties
    found = ranking(scores, positive, far=0.05)
    assert found.auc == pytest.approx(roc_auc_score(positive, scores))
    assert found.average_precision == pytest.approx(average_precision_score(positive, scores))
    fpr, tpr, _ = roc_curve(positive, scores, drop_intermediate=False)
    assert found.tar == pytest.approx(tpr[fpr <= 0.05].max())
    nearest = np.argmin(np.abs(fpr - (1 - tpr)))
    assert min(fpr[nearest], 1 - tpr[nearest]) <= found.eer <= max(fpr[nearest], 1 - tpr[nearest])


def test_scores_that_say_nothing_have_half_and_scores_apart_have_no_error():
    same = ranking([1.0, 2.0, 3.0] * 2, [True] * 3 + [False] * 3, far=0.5)
    assert (same.eer, same.auc) == (pytest.approx(0.5), pytest.approx(0.5))
    apart = ranking([3.0, 4.0, 1.0, 2.0], [True, True, False, False], far=0.5)
    assert (apart.eer, apart.auc, apart.average_precision, apart.tar) == (0, 1, 1, 1)
    with pytest.raises(InvalidInput, match="2 positives and 0 negatives"):
        ranking([1.0, 2.0], [True, True])
