from dataclasses import replace

import pytest

from fairloop.stats.verdict import Evidence, Verdict, decide

SMALLER = Evidence(
    formula="gap",
    before=0.20,
    after=0.10,
    interval=(-0.15, -0.05),
    remaining_high=0.14,
    p_before=0.001,
    seen_from=0.04,
    runs=(3, 3),
    levelling_down=False,
    self_graded=False,
    control_called_change=False,
)


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({}, "smaller"),
        ({"remaining_high": 0.049}, "closed"),
        ({"remaining_high": 0.05}, "smaller"),
        ({"interval": (-0.15, 0.0)}, "not shown"),
        ({"interval": (0.01, 0.05)}, "not shown"),
        ({"levelling_down": True}, "smaller because the best group got worse"),
        ({"levelling_down": True, "remaining_high": 0.01}, "smaller because the best group got worse"),
        ({"p_before": 0.05}, "no gap seen at this size"),
        ({"p_before": 0.5, "interval": (0.02, 0.05)}, "not shown"),
        ({"runs": (1, 3)}, "one run"),
        ({"self_graded": True}, "self-graded"),
        ({"control_called_change": True}, "unreliable"),
        ({"self_graded": True, "control_called_change": True}, "self-graded"),
    ],
)
def test_the_words_follow_from_the_evidence(changes, verdict):
    assert decide(replace(SMALLER, **changes)).verdict == verdict


def test_what_overrules_the_numbers_keeps_what_they_said():
    found = decide(replace(SMALLER, control_called_change=True))
    assert found.verdict is Verdict.UNRELIABLE
    assert found.otherwise is Verdict.SMALLER


def test_the_sentence_holds_the_numbers_it_rests_on():
    sentence = decide(SMALLER).sentence
    for number in ("0.200", "0.100", "-0.100", "-0.150", "-0.050", "0.140", "3 and 3 training runs"):
        assert number in sentence
    assert sentence.startswith("Smaller: ")
    assert sentence.count("\n") == 0


def test_no_gap_says_the_smallest_that_could_have_been_seen():
    assert "0.040" in decide(replace(SMALLER, p_before=0.4)).sentence


def test_a_larger_gap_is_called_larger():
    assert "a larger gap" in decide(replace(SMALLER, interval=(0.01, 0.05))).sentence
