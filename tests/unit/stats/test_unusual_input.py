"""What people hand over: nulls of other libraries, numbers too large, options that do not apply."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from fairloop.errors import InvalidInput
from fairloop.stats import evaluate_pairs, evaluate_verification, pairwise_gaps

from .lists import within
from .worlds import signs


@pytest.mark.parametrize(
    "library",
    [lambda names: pd.array(names, dtype="string"), pa.array, lambda names: np.array(names, object)],
)
def test_the_nulls_of_pandas_and_arrow_are_unknown_subjects(library):
    world = signs(12, 3, 2, seed=5)
    names = [None if name == "s003" else name for name in world.subjects]
    report = evaluate_verification(
        world.embeddings, library(names), world.groups, threshold=0.2, replicates=100
    )
    assert report.counts["images_without_subject"] == 3
    assert "unknown_subjects:3" in report.flags


def test_a_number_beyond_float32_names_its_image():
    world = signs(12, 3, 2, seed=5)
    rows = world.embeddings.astype(np.float64)
    rows[4, 0] = 1e300
    with pytest.raises(InvalidInput, match=r"row 4 \(subject 's001'\) holds NaN or infinity"):
        evaluate_verification(rows, world.subjects, world.groups, threshold=0.2)


def test_a_threshold_that_was_given_is_not_chosen_again():
    world = signs(12, 3, 2, seed=5)
    report = evaluate_verification(
        world.embeddings,
        world.subjects,
        world.groups,
        threshold=0.2,
        replicates=100,
        threshold_in_replicates="both",
    )
    assert "the common one held fixed" in report.conventions["intervals"]
    assert report.groups[0].fmr_interval_rechosen is None


def test_gaps_of_a_list_without_ids_say_nothing_about_subjects():
    score, genuine, label, _ = within(1, pairs=800)
    report = evaluate_pairs(score, genuine, label, fmr=0.05, replicates=100)
    assert "no_subject_ids" in report.flags
    assert pairwise_gaps(report, "fnmr")[0].flags == ()
