"""Every guard a report can carry, and what it means in words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

FEW_SUBJECTS = 250
"""Below this many subjects in a group the coverage of its intervals falls under 93 % (docs/coverage.md)."""

RULE_OF_30 = 30
"""Errors needed for a rate to be within ±30 % (Doddington's rule of 30)."""

FLAGS: Mapping[str, str] = {
    "few_subjects": f"fewer than {FEW_SUBJECTS} subjects: intervals cover less than they say",
    "one_subject": "one subject: no impostor comparison within the group, and no variance between subjects",
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
    "degenerate_fmr": "no group has a false match",
    "degenerate_fnmr": "no group has a false non-match",
    "undefined_zero_rate": "undefined: a group's rate is zero and its number of comparisons unknown",
    "undefined_zero_fmr": "undefined: a group's FMR is zero",
    "undefined_zero_fnmr": "undefined: a group's FNMR is zero",
    "undefined_no_variance": "undefined: neither genuine nor impostor scores vary",
    "zero_policy": "a zero rate was replaced by its one-sided 95 % upper bound",
    "not_above_null": "not above what equal groups would show: the interval ends at the fair value",
    "permutation_refused": "no null by permutation: labels moved between people who look alike bring easy "
    "cross-group pairs in, and the floor comes out too high",
    "no_subject_ids": "nobody knows who is on the pairs: they are taken as independent, so intervals and "
    "null floors are too narrow",
    "pairs_without_subject": "pairs without a subject on a side: in no rate",
    "pairs_without_group": "pairs without a group on a side: in no rate",
    "impostors_across_groups": "impostor pairs across groups: left out",
    "folds_share_subjects": "people are in several folds: calibration and test are not apart",
    "fold_of_one_class": "a fold lacks genuine or impostor pairs",
    "fmr_undefined": "too few impostor pairs in some group for a threshold at this FMR: left out",
    "val_undefined": "fewer than 1/FAR impostor pairs in the other folds",
    "one_genuine_subject": "all genuine pairs are of one subject: FNMR has no interval",
    "one_label": "only one label occurs",
    "no_disagreement": "no disagreement seen, so replicates cannot show any",
    "undefined_replicates": "too many replicates without a value for an interval",
    "no_items": "nothing that both annotators labelled",
    "no_images": "no image that counts",
    "one_item": "one item: nothing varies",
    "never_met": "the annotator never met this value: its row of the confusion is uniform",
    "few_annotators": "fewer than three annotators cannot tell who errs",
    "not_converged": "the iteration ended before it converged",
    "unlabelled_images": "images without a label: left out",
    "images_without_subject": "images without a subject: each counts as a subject of its own",
    "no_positives": "no positive image in this group",
    "no_negatives": "no negative image in this group",
    "one_subject_with_positives": "all positive images are of one subject: TPR has no interval",
    "one_subject_with_negatives": "all negative images are of one subject: FPR has no interval",
    "few_false_positives": "fewer than 30 false positives seen",
    "few_false_negatives": "fewer than 30 false negatives seen",
    "perfect_separation": "AUC of 0 or 1: no interval",
    "pairs_taken_as_independent": "comparisons are taken as independent: real floors are higher",
    "without_comparison_counts": "without numbers of comparisons: no interval, no null floor, no zero policy",
    "undefined_zero_error": "undefined: a group has an accuracy of 100 %",
    "independent_pairs": "pairs taken as independent: real ones share people and need more subjects",
    "fewest_planned": "fewer might do; plans go no lower than 30 subjects and the rule of 30",
    "one_cluster": "all images with a certain label are of one cluster: their shares have no interval",
    "empty_cell": "no image in this cell",
    "outside_target": "a cell outside the target is occupied",
    "outside_simplex": "no shares explain the labels exactly; the nearest ones that do are given",
    "confusion_taken_as_exact": "the confusion came without counts: its own error is not included",
    "errors_taken_as_independent": "errors on several attributes are taken as independent",
    "never_predicted": "the annotator never says this",
    "rare_truth": "fewer than 5 labelled images of this truth: its row of the confusion says little",
    "levelling_down": "the gap shrank because the best group got worse",
    "opposite_moves": "the FMR gap and the FNMR gap moved in opposite directions",
    "self_graded": "the groups' labels come from the annotator that steered the data",
    "equal_runs": "the runs of an arm do not differ, so the interval is that over subjects",
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


def by_sentence(flags: Iterable[tuple[str, str]]) -> list[str]:
    """(name, flag) pairs as one line for each sentence: `sentence: this, that`."""
    about: dict[str, list[str]] = {}
    for name, flag in flags:
        about.setdefault(explain(flag), []).append(name)
    return [f"{sentence}: {', '.join(dict.fromkeys(names))}" for sentence, names in sorted(about.items())]
