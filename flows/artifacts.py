"""What a flow run leaves in Prefect: tables and links a person can read, and the report's context."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from prefect.artifacts import Artifact, create_markdown_artifact, create_table_artifact

FACES_PER_CELL = 4
PERCEIVED = "Labels are perceived attributes guessed by models, not anybody's identity."


def percent(value: float | None, interval: Sequence[float] | None = None) -> str:
    """`12.3 % [10.1, 14.7]`."""
    if value is None:
        return "–"
    text = f"{100 * value:.1f} %"
    return text + (f" [{100 * interval[0]:.1f}, {100 * interval[1]:.1f}]" if interval else "")


def shares(before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
    """Shares per cell before and after, by the judging annotators."""
    later = {cell["cell"]: cell for cell in after["cells"]}
    create_table_artifact(
        key="shares",
        table=[
            {
                "cell": cell["cell"],
                "before": percent(cell["share"], cell["interval"]),
                "after": percent(later[cell["cell"]]["share"], later[cell["cell"]]["interval"]),
                "target": percent(cell["target"]),
            }
            for cell in before["cells"]
        ],
        description=f"Unrejected samples, labelled by {after['label_source']}. {PERCEIVED}",
    )


def rates(summary: Mapping[str, Any]) -> None:
    """Error rates per arm and group: means over the runs."""
    rows = []
    for arm in summary["arms"]:
        for place, group in enumerate(arm["runs"][0]["groups"]):
            runs = [run["groups"][place] for run in arm["runs"]]
            rows.append(
                {
                    "arm": arm["name"],
                    "group": group["group"],
                    "subjects": group["subjects"],
                    **{
                        key: percent(mean([run[key] for run in runs]))
                        for key in ("fmr", "fnmr", "fnmr_at_own_threshold")
                    },
                }
            )
    create_table_artifact(key="rates", table=rows, description=summary["sentence"])


def mean(values: Sequence[float | None]) -> float | None:
    """The mean, or None when a value is missing."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if len(known) == len(values) and known else None


def decisions(made: Sequence[Mapping[str, Any]]) -> None:
    """Every decision with its reason."""
    create_table_artifact(
        key="decisions",
        table=[{"decision": d["decision"], "because": d["because"]} for d in made],
        description="What the loop decided, and why.",
    )


def report_link(report: str, sentence: str, path_hint: str) -> None:
    """Where the page is."""
    create_markdown_artifact(
        key="report",
        markdown=f"## {sentence}\n\nThe page is `{report}/index.html` in the store; `{path_hint}` opens it.",
        description="The report of this round.",
    )


def report_name(report: str) -> None:
    """The report's name, for whoever started the run."""
    Artifact(
        key="report-name", type="text", data=report, description="Name of the report in the store."
    ).create()


def face_grid(document: Mapping[str, Any]) -> None:
    """A few faces of each cell, as the page's document holds them."""
    lines = [document["faces_note"], PERCEIVED, ""]
    for row in document["faces"]:
        faces = " ".join(f"![{face['alt']}]({face['uri']})" for face in row["faces"][:FACES_PER_CELL])
        lines += [f"**{row['cell']}**", "", faces or "none", ""]
    create_markdown_artifact(key="faces", markdown="\n".join(lines), description="Faces by perceived cell.")
