"""Labels as codes, whatever they come in."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairloop.errors import InvalidInput
from fairloop.stats.coding import coded, group_codes, joint


@pytest.mark.parametrize(
    "labels",
    [
        [1, 10, 2, 1],
        ["1", "10", "2", "1"],
        [1.0, 10.0, 2.0, 1.0],
        np.array([1, 10, 2, 1], dtype=np.uint8),
        np.array([1.0, 10.0, 2.0, 1.0]),
        np.array(["1", "10", "2", "1"]),
        np.array([1, "10", 2.0, np.int64(1)], dtype=object),
    ],
)
def test_the_same_classes_in_any_type_are_the_same_codes(labels):
    found = coded(labels, "labels")
    assert found.names == ("1", "2", "10")
    assert found.codes.tolist() == [0, 2, 1, 0]


def test_unknown_labels_are_minus_one():
    found = coded(["b", None, "", float("nan"), "a"], "labels")
    assert found.names == ("a", "b")
    assert found.codes.tolist() == [1, -1, -1, -1, 0]
    assert coded(np.array([np.nan, 2.5]), "labels").codes.tolist() == [-1, 0]


def test_whole_numbers_far_apart_are_coded_like_close_ones():
    far = np.array([-(2**62), 5, 2**62, 5])
    assert coded(far, "labels").codes.tolist() == [0, 1, 2, 1]
    assert coded(np.array([], dtype=np.int64), "labels").names == ()


def test_a_label_outside_the_names_is_refused_with_its_position():
    with pytest.raises(InvalidInput, match="'z' at position 2 is none of x, y"):
        coded(["x", "y", "z"], "labels", ["x", "y"])
    with pytest.raises(InvalidInput, match="'x' is named twice"):
        coded(["x"], "labels", ["x", "x"])


def test_two_annotators_share_the_names_that_either_used():
    names, one, other = joint(["b", "a", None], ["c", "a", "b"], ("first", "second"), None)
    assert names == ("a", "b", "c")
    assert one.tolist() == [1, 0, -1]
    assert other.tolist() == [2, 0, 1]


def test_groups_keep_their_own_spelling_and_the_order_of_their_text():
    found = group_codes([True, False, None], 3)
    assert found.names == ("False", "True")
    assert group_codes(["10", "9"], 2).names == ("10", "9")
    assert group_codes({"b": ["x", None], "a": [1, 2]}, 2).names == ("a=1,b=x",)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.one_of(st.none(), st.integers(-3, 3), st.text("xy", max_size=2)), max_size=30))
def test_codes_spell_the_labels_back(labels):
    found = coded(labels, "labels")
    back = [None if code < 0 else found.names[code] for code in found.codes]
    assert back == [None if label in (None, "") else str(label) for label in labels]
