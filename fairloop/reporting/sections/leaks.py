"""What a check for leaks found, as a section; conversion only."""

from __future__ import annotations

from collections.abc import Iterator

from fairloop.leaks.report import WORDS
from fairloop.reporting.document import Highlight
from fairloop.reporting.leaked import LeakingCell, Leaks, LookedAt, Net
from fairloop.reporting.measured import Estimate
from fairloop.reporting.sections.parts import Body, conventions, estimate


def leaks(report: Body) -> Leaks:
    """Every net, set and cell of the report."""
    return Leaks(
        dataset=report["dataset"],
        against=tuple(report["against"]),
        radius=report["radius"],
        fmr=report["fmr"],
        threshold=report["threshold"],
        groups=report["groups"],
        listed=len(report["pairs"]),
        nets=tuple(
            Net(
                name=WORDS[net["kind"]],
                **{key: net[key] for key in ("pairs", "images", "images_against", "same_subject_pairs")},
                expected=estimate(net["expected_by_chance"], net["expected_interval"]),
            )
            for net in report["nets"]
        ),
        sets=tuple(LookedAt(**found) for found in report["sets"]),
        cells=tuple(
            LeakingCell(
                net=WORDS[cell["kind"]],
                cell=cell["cell"],
                images=cell["images"],
                leaking=cell["leaking"],
                share=estimate(cell["share"], cell["interval"]),
            )
            for cell in report["cells"]
        ),
        cell_source=report["label_source"],
        conventions=conventions(report),
    )


def leak_highlights(report: Body) -> Iterator[Highlight]:
    """Pairs of each net, beside what chance gives."""
    for net in report["nets"]:
        chance = net["expected_by_chance"]
        yield Highlight(
            label=f"Pairs: {WORDS[net['kind']]}",
            after=Estimate(value=net["pairs"]),
            format="count",
            note="by chance: unknown, no subject is known"
            if chance is None
            else f"by chance alone about {chance:,.1f}",
        )


def leak_limits(report: Body) -> Iterator[str]:
    """What the numbers do not say."""
    yield (
        "A pair is a question, not a proof: strangers who look alike are among the pairs, about as many as "
        "chance gives. Crops, mirrored or turned pictures are not found as pictures."
    )
    if report["threshold"] is None:
        yield "Faces were not compared: another picture of the same person is not found."
    if report["cells"]:
        yield f"Cells are labels of people as somebody perceives them. Here: {report['label_source']}."
