"""The end of the demo on a terminal: shares, rates, differences, budget, verdict."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from fairloop.leaks.report import WORDS
from flows.artifacts import PERCEIVED, mean, percent

MEMORY_LIMIT_BYTES = 8 * 2**30


def show(console: Console, report: Mapping[str, Any], peak_bytes: int, seconds: float) -> None:
    """Prints what a round came to; every number is the report's."""
    context, comparison = report["context"], report["comparison"]
    console.print(shares_table(report["before"], report["after"]))
    console.print(reach_line(report["before"], report["after"]))
    console.print(no_face_line(report["before"], report["after"]))
    console.print(leak_line(context["leaks"]), highlight=False)
    console.print(rates_table(comparison))
    console.print(match_line(comparison), highlight=False)
    console.print(differences_table(comparison))
    console.print(budget_table(context["budget"], peak_bytes, seconds))
    console.print(f"\n[bold]{comparison['sentence']}[/bold]", highlight=False)
    control = comparison["control"]
    if control is not None:
        found = (
            "was called a change, so the verdict is unreliable"
            if control["called_change"]
            else "shows no change, as it should"
        )
        console.print(f"Control (one seed of {control['arm']} against its others): {found}.", highlight=False)
    console.print(f"{context['limits']} {PERCEIVED}", highlight=False)


def shares_table(before: Mapping[str, Any], after: Mapping[str, Any]) -> Table:
    """Shares per cell of unrejected samples, by the judges."""
    table = Table(title=f"Share of each cell among unrejected samples (judged: {after['label_source']})")
    for head in ("cell", "before", "after", "target", "no face when asked for"):
        table.add_column(head, justify="left" if head == "cell" else "right")
    later = {cell["cell"]: cell for cell in after["cells"]}
    asked = {record["requested"]: record for record in after["requested"]}
    for cell in before["cells"]:
        now = later[cell["cell"]]
        lost = asked.get(cell["cell"])
        table.add_row(
            cell["cell"],
            percent(cell["share"], cell["interval"]),
            percent(now["share"], now["interval"]),
            percent(now["target"]),
            percent(lost["no_face_rate"], lost["no_face_interval"]) if lost else "–",
        )
    return table


def reach_line(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """Whether what was wanted of the shares was reached."""
    change = after["change"]["total_variation"]
    fell = 1 - change["after"] / change["before"] if change["before"] else 0.0
    later = {cell["cell"]: cell["share"] for cell in after["cells"]}
    rare = [cell for cell in before["cells"] if (cell["share_of_faces"] or 0) < 0.05]
    doubled = [c["cell"] for c in rare if (later[c["cell"]] or 0) >= 2 * (c["share"] or 0)]
    low = [cell for cell, share in later.items() if (share or 0) < 0.03]
    lines = [
        f"Total variation to uniform: {change['before']:.3f} → {change['after']:.3f} "
        f"(fell by {fell:.0%}; a third was wanted).",
        f"Cells under 5 % before: {len(rare)}, of which at least doubled: {len(doubled)}.",
        f"Cells under 3 % after: {', '.join(low) if low else 'none'}.",
    ]
    return " ".join(lines)


def no_face_line(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """How many samples show no face, and how many labels are uncertain."""
    return (
        f"No face found: {percent(before['no_face_rate'], before['no_face_interval'])} before, "
        f"{percent(after['no_face_rate'], after['no_face_interval'])} after. Uncertain labels: "
        f"{percent(before['uncertain_rate'])} and {percent(after['uncertain_rate'])} of the faces."
    )


def leak_line(leaks: Mapping[str, Any]) -> str:
    """What the gate left out of each training set before the training."""
    told = []
    for arm, found in leaks.items():
        nets = ", ".join(
            f"{net['images']} by {WORDS[net['kind']]} ({net['pairs']} pairs{by_chance(net)})"
            for net in found["nets"]
        )
        told.append(f"{arm} {found['left_out']} of {found['images']} images ({nets})")
    return f"Left out of training, shared with the evaluation set: {'; '.join(told)}."


def by_chance(net: Mapping[str, Any]) -> str:
    """How many of a net's pairs strangers would give; empty where that is none or unknown."""
    if net["expected_by_chance"] is None or not net["expected_interval"][1]:
        return ""
    low, high = net["expected_interval"]
    return f", by chance {net['expected_by_chance']:.0f}, 95 %: {low:.0f} to {high:.0f}"


def rates_table(comparison: Mapping[str, Any]) -> Table:
    """Error rates per arm and group, means over the runs."""
    table = Table(title=f"Error rates by group (groups: {comparison['label_source']})")
    for head in ("arm", "group", "subjects", "FMR", "FNMR", "FNMR at own threshold", "by seed"):
        table.add_column(head, justify="left" if head in ("arm", "group") else "right")
    for arm in comparison["arms"]:
        for place, group in enumerate(arm["runs"][0]["groups"]):
            runs = [run["groups"][place] for run in arm["runs"]]
            own = [run["fnmr_at_own_threshold"] for run in runs]
            table.add_row(
                arm["name"],
                group["group"],
                str(group["subjects"]),
                percent(mean([run["fmr"] for run in runs])),
                percent(mean([run["fnmr"] for run in runs])),
                percent(mean(own)),
                " ".join("–" if value is None else f"{100 * value:.1f}" for value in own),
            )
    return table


def match_line(comparison: Mapping[str, Any]) -> str:
    """What this round's training reached: the true match rate of each arm, over all groups."""
    first = comparison["arms"][0]["runs"][0]
    reached = []
    for arm in comparison["arms"]:
        missed = mean([run["fnmr"] for run in arm["runs"]])
        reached.append(f"{arm['name']} {percent(None if missed is None else 1 - missed)}")
    return (
        f"True match rate at FMR {percent(first['target_fmr'])} over all groups: {', '.join(reached)} (means "
        f"over the training runs; {first['counts']['subjects']} people whom no arm was trained on)."
    )


def differences_table(comparison: Mapping[str, Any]) -> Table:
    """The headline measures per arm and their paired difference."""
    table = Table(title="How unequal the groups are, and what changed (95 % over seeds and subjects)")
    names = [arm["name"] for arm in comparison["arms"]]
    for head in ("measure", *names, "if groups were equal", f"{names[1]} − {names[0]}"):
        table.add_column(head, justify="left" if head == "measure" else "right")
    for measure in (comparison["measure"], "garbe", "fmr_gap", "fnmr_gap"):
        difference = comparison["differences"].get(measure)
        if difference is None:
            continue
        values = [arm["values"][measure] for arm in comparison["arms"]]
        interval = difference["interval"] or difference["joint_interval"]
        floor = values[0]["null_p95"]
        table.add_row(
            difference["formula"],
            *(f"{v['value']:.3f} [{v['interval'][0]:.3f}, {v['interval'][1]:.3f}]" for v in values),
            "–" if floor is None else f"under {floor:.3f} in 95 %",
            f"{difference['value']:+.3f} [{interval[0]:+.3f}, {interval[1]:+.3f}]",
        )
    return table


def budget_table(budget: Mapping[str, Any], peak_bytes: int, seconds: float) -> Table:
    """Planned and actual time and memory."""
    table = Table(title="Budget")
    for head in ("", "planned", "actual"):
        table.add_column(head, justify="left" if not head else "right")
    for stage, row in budget.items():
        table.add_row(stage, f"{row['planned']:.0f} s", f"{row['actual']:.0f} s")
    table.add_row("whole flow", f"{sum(row['planned'] for row in budget.values()):.0f} s", f"{seconds:.0f} s")
    table.add_row("peak memory", f"{MEMORY_LIMIT_BYTES / 2**30:.1f} GB", f"{peak_bytes / 2**30:.1f} GB")
    return table
