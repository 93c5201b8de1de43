"""What may be said first: of a comparison its verdict, of one evaluation whether groups differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

from fairloop.reporting.document import Highlight, Verdict
from fairloop.reporting.sections.parts import Body, estimate, ordered
from fairloop.reporting.wording import LISTED, flagged, listed, readable
from fairloop.stats.flags import explain
from fairloop.stats.null import SIGNIFICANT


def verdict(comparison: Body) -> Verdict:
    """The verdict of a comparison."""
    overruled = comparison["otherwise"] != comparison["verdict"]
    return Verdict(
        verdict=comparison["verdict"],
        sentence=comparison["sentence"],
        measure=comparison["differences"][comparison["measure"]]["formula"],
        otherwise=comparison["otherwise"] if overruled else None,
    )


def headline(summaries: Body) -> str:
    """The first summary of the page's order that has a value; the first of all when none has."""
    names = ordered(summaries)
    return next((name for name in names if summaries[name]["value"] is not None), names[0])


WITHOUT_SUBJECTS = "no_subject_ids"
"""Flag of a report that does not know whose images these are."""

INDEPENDENT = (WITHOUT_SUBJECTS, "pairs_taken_as_independent")
"""Flags of reports whose nulls take pairs as independent."""

DIFFERENT, ALIKE, UNJUDGED, UNKNOWN = (
    "a difference beyond chance",
    "no difference beyond chance seen at this size",
    "chance not taken into account",
    "nothing can be said",
)
"""What one evaluation lets be said of its groups."""


def finding(report: Body) -> Verdict:
    """What may be said first of one evaluation, on its headline summary."""
    summaries = report["measures"] if "measures" in report else report["summaries"]
    name = headline(summaries)
    summary = summaries[name]
    if summary["value"] is None:
        said, rest = UNKNOWN, "fewer than two groups have a rate to compare."
    elif summary["p_value"] is None:
        said, rest = UNJUDGED, "the rates came without counts, so nothing says what equal groups would show."
    else:
        said = DIFFERENT if summary["p_value"] < SIGNIFICANT else ALIKE
        alone = any(flag in INDEPENDENT for flag in report["flags"])
        as_if = "were all pairs independent" if alone else "with these people"
        rest = (
            f"groups with equal rates, of these sizes and {as_if}, would show as much in "
            f"{'fewer' if said == DIFFERENT else 'more'} than 1 of 20 evaluations. "
            f"Judged by {summary['formula']}."
        )
        worst = _worst(report, name) if said == DIFFERENT else None
        rest += f" Worst off: {worst}." if worst else ""
        beyond = _beyond(summaries) if said == ALIKE else []
        rest += f" Seen one by one, others do go beyond chance: {listed(beyond)}." if beyond else ""
    return Verdict(verdict=said, sentence=f"{said.capitalize()}: {rest}", measure=summary["formula"])


def _beyond(summaries: Body) -> list[str]:
    """Other summaries that chance does not explain, the first few by name: a headline must not hide them."""
    found = [
        summaries[name]["formula"].partition(" (")[0]
        for name in ordered(summaries)
        if summaries[name]["p_value"] is not None and summaries[name]["p_value"] < SIGNIFICANT
    ]
    return found if len(found) <= LISTED else [*found[:LISTED], f"{len(found) - LISTED} more"]


def _worst(report: Body, name: str) -> str | None:
    """The group with the highest rate behind a gap; None for a summary of two rates."""
    kind = {
        "fnmr_gap_at_own_threshold": "fnmr_at_own_threshold",
        "fnmr_gap": "fnmr",
        "gini_fnmr": "fnmr",
        "fmr_gap": "fmr",
        "gini_fmr": "fmr",
    }.get(name)
    if kind is None:
        return None
    if "worst" in report:
        return listed([readable(g) for g in report["worst"][kind]])
    rates = {g["group"]: g[kind] for g in report["groups"] if g[kind] is not None}
    return listed([readable(g) for g in rates if rates[g] == max(rates.values())]) if rates else None


GUARDS = (
    "few_subjects",
    "one_subject",
    "rule_of_30",
    "rule_of_30_fnmr",
    "rule_of_3",
    "no_genuine_pairs",
    "no_impostor_pairs",
    "no_positives",
    "no_negatives",
    "few_false_positives",
    "few_false_negatives",
)
"""Flags of groups that limit everything on the page, so they stand at its top."""


def limits(facts: Body, report: Body | None = None) -> Iterator[str]:
    """What the numbers do not say: whose labels, which guarantees are lost, which guards were raised."""
    yield f"Groups are labels of people as somebody perceives them. Here: {facts['label_source']}."
    yield from facts.get("notes", ())
    if report is None:
        return
    yield from guards(report["flags"], [g for g in report.get("groups", ()) if isinstance(g, Mapping)])


def compared_limits(comparison: Body) -> Iterator[str]:
    """The guards of a comparison and of the groups of all its runs."""
    runs = [run for arm in comparison["arms"] for run in arm["runs"]]
    yield from guards(comparison["flags"], [group for run in runs for group in run["groups"]])


def guards(flags: Sequence[str], groups: Sequence[Body]) -> Iterator[str]:
    """What was raised on the whole, and on which groups."""
    for flag in flags:
        yield _sentence(explain(flag))
    for line in flagged([(g["group"], [f for f in g["flags"] if f in GUARDS]) for g in groups]):
        yield _sentence(line)


def _sentence(words: str) -> str:
    return f"{words[:1].upper()}{words[1:]}."


def highlights(report: Body) -> Iterator[Highlight]:
    """The figures at the top of the page of one evaluation."""
    summaries = report["summaries"]
    for name in dict.fromkeys((headline(summaries), "garbe")):
        summary = summaries.get(name)
        if summary is not None:
            style: Literal["percent", "number"] = "percent" if "gap" in name else "number"
            yield Highlight(
                label=summary["formula"],
                after=estimate(summary["value"], summary["interval"]),
                format=style,
                null_p95=summary["null_p95"],
            )
    for label, key in (("FMR over all groups", "fmr"), ("FNMR over all groups", "fnmr")):
        if isinstance(report.get(key), float):
            yield Highlight(label=label, after=estimate(report[key]), format="percent")


def classified(report: Body) -> Iterator[Highlight]:
    """The figures at the top of the page of a classifier."""
    measures = report["measures"]
    for name in dict.fromkeys((headline(measures), "f_oae")):
        if name in measures:
            yield Highlight(
                label=measures[name]["formula"],
                after=estimate(measures[name]["value"], measures[name]["interval"]),
                null_p95=measures[name]["null_p95"],
            )
    overall = report["overall"]
    for label, key in (("Accuracy over all", "accuracy"), ("FPR over all", "fpr"), ("TPR over all", "tpr")):
        yield Highlight(
            label=label, after=estimate(overall[key], overall[f"{key}_interval"]), format="percent"
        )


def compared(comparison: Body) -> Iterator[Highlight]:
    """The figures at the top of the page of a comparison: its measure and GARBE, before and after."""
    first, second = comparison["arms"]
    for name in dict.fromkeys((comparison["measure"], "garbe")):
        if name not in comparison["differences"]:
            continue
        values = [arm["values"][name] for arm in (first, second)]
        style: Literal["percent", "number"] = "percent" if "gap" in name else "number"
        yield Highlight(
            label=comparison["differences"][name]["formula"],
            before=estimate(values[0]["value"], values[0]["interval"]),
            after=estimate(values[1]["value"], values[1]["interval"]),
            format=style,
            null_p95=values[1]["null_p95"],
            note=f"{first['name']} and {second['name']}",
        )


def balance(audit: Body) -> Verdict:
    """What may be said first of an audit: whether chance explains its distance to the target."""
    summary = audit["summaries"]["total_variation"]
    if summary["value"] is None or summary["p_value"] is None:
        return Verdict(
            verdict=UNKNOWN,
            sentence=f"{UNKNOWN.capitalize()}: no image has a certain label.",
            measure=summary["formula"],
        )
    off = summary["p_value"] < SIGNIFICANT
    said = "off target beyond chance" if off else "no distance to the target beyond chance at this size"
    return Verdict(
        verdict=said,
        sentence=f"{said.capitalize()}: samples of this size that are exactly on target would be as far from "
        f"it in {'fewer' if off else 'more'} than 1 of 20. Judged by {summary['formula']}.",
        measure=summary["formula"],
    )


def distance(before: Body | None, after: Body) -> Iterator[Highlight]:
    """The figures at the top of the page of an audit."""
    for name in ("total_variation", "corrected_total_variation"):
        new = after["summaries"].get(name)
        old = before["summaries"].get(name) if before else None
        if new is not None:
            yield Highlight(
                label=new["formula"],
                before=estimate(old["value"], old["interval"]) if old else None,
                after=estimate(new["value"], new["interval"]),
                null_p95=new["null_p95"],
            )
    yield Highlight(label="Images", after=estimate(after["counts"]["images"]), format="count")
    yield Highlight(
        label="No face found",
        after=estimate(after["no_face_rate"], after["no_face_interval"]),
        format="percent",
    )
