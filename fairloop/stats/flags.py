"""Every guard a report can carry, and what it means in words."""

from __future__ import annotations

from collections.abc import Mapping

FEW_SUBJECTS = 250
"""Below this many subjects in a group the coverage of its intervals falls under 93 % (docs/statistics.md)."""

RULE_OF_30 = 30
"""Errors needed for a rate to be within ±30 % (Doddington's rule of 30)."""

FLAGS: Mapping[str, str] = {
    "few_subjects": f"fewer than {FEW_SUBJECTS} subjects: intervals cover less than they say",
    "one_subject": "one subject: no impostor comparison, and no variance between subjects",
    "rule_of_30": "fewer than 30 false matches expected at the target FMR",
    "rule_of_30_fnmr": "fewer than 30 false non-matches seen",
    "rule_of_3": "fewer than 3/FMR impostor comparisons: no false match may mean nothing",
    "zero_false_matches": "no false match: exact interval of independent comparisons",
    "zero_false_non_matches": "no false non-match: exact interval of independent comparisons",
    "all_false_matches": "every impostor comparison matched",
    "all_false_non_matches": "every genuine comparison failed",
    "no_genuine_pairs": "no subject with two usable images: FNMR has no value",
    "no_impostor_pairs": "fewer than two subjects with a usable image: FMR has no value",
    "own_threshold_undefined": "fewer than 1/FMR impostor comparisons: no threshold of its own",
    "failures_counted": "some images failed: the generalised rates count them",
    "shared_subjects": "some subjects have images in several groups: groups are drawn jointly",
    "pairs_across_groups": "genuine pairs of one subject in two groups are left out and counted",
    "unknown_subjects": "images without a subject: in no genuine pair, left out of impostor pairs",
    "images_without_group": "images without a group: in no comparison",
    "opposite_directions": "FMR and FNMR disagree about which group is worse off",
    "one_group": "one group: nothing to compare",
    "degenerate": "all rates are zero",
    "zero_policy": "a zero rate was replaced by its one-sided 95 % upper bound",
    "not_above_null": "not above what equal groups would show: the interval ends at the fair value",
    "permutation_refused": "no null by permutation: labels moved between people who look alike bring easy "
    "cross-group pairs in, and the floor comes out too high",
    "empty_cell": "no image in this cell",
    "outside_simplex": "no shares explain the labels exactly; the nearest ones that do are given",
    "confusion_taken_as_exact": "the confusion came without counts: its own error is not included",
    "levelling_down": "the gap shrank because the best group got worse",
    "opposite_moves": "the FMR gap and the FNMR gap moved in opposite directions",
    "self_graded": "the groups' labels come from the annotator that steered the data",
    "one_run": "one run: not a claim about the method",
    "subjects_not_covered": "with subjects resampled too, the interval includes no change",
    "no_control": "no arm has three runs, so nothing says how often no change is called one",
    "unreliable": "the control, where nothing was changed, was called a change",
}
"""Flag to sentence. A flag may carry its object after a colon: `insufficient:dark`."""


def explain(flag: str) -> str:
    """The sentence of a flag; a flag with an object says which object."""
    name, _, what = flag.partition(":")
    if name == "insufficient":
        return f"left out, because it has no such rate: {what}"
    if name == "undefined":
        return f"undefined: {what}"
    return FLAGS.get(name, name.replace("_", " ")) + (f" ({what})" if what else "")
