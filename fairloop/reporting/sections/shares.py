"""Who is in the images: audits of shares."""

from __future__ import annotations

from collections.abc import Mapping

from fairloop.reporting.measured import (
    CellShare,
    Distance,
    Estimate,
    LeftOut,
    NoFace,
    RequestedRow,
    RequestedTable,
    Shares,
)
from fairloop.reporting.sections.parts import Body, conventions, estimate

DISTANCES = ("total_variation", "corrected_total_variation", "kl_to_target", "jensen_shannon")
"""Distances on the page, in order; the report holds more."""

OUTCOMES = (("no_face", "no face found"), ("uncertain", "label uncertain"), ("failed", "unreadable"))


def shares(
    before: Body | None,
    after: Body,
    change: Body | None = None,
    *,
    sample: str,
    names: tuple[str, str] = ("before", "after"),
) -> Shares:
    """The shares of one or two audits; `change` is what `compare_audits` said of them."""
    moved = {c["name"]: c for c in change["cells"]} if change else {}
    asked = _asked(after)
    return Shares(
        label_source=after["label_source"],
        sample=sample,
        before_name=names[0],
        after_name=names[1],
        before_images=before["counts"]["images"] if before else None,
        after_images=after["counts"]["images"],
        cells=tuple(_cell(record, before, moved.get(record["cell"]), asked) for record in after["cells"]),
        distances=tuple(
            _distance(before, after, name, change) for name in DISTANCES if name in after["summaries"]
        ),
        requested=_requested(after),
        left_out=tuple(_left_out(before, after, outcome, words) for outcome, words in OUTCOMES),
        conventions=conventions(after),
    )


def _asked(audit: Body) -> dict[str, float]:
    """Share of the requests per cell; empty where they are no cells, as prompts are not."""
    images = {record["requested"]: record["images"] for record in audit["requested"]}
    cells = [record["cell"] for record in audit["cells"]]
    if not images or not set(images) <= set(cells):
        return {}
    return {cell: images.get(cell, 0) / sum(images.values()) for cell in cells}


def _requested(audit: Body) -> RequestedTable | None:
    if not audit["requested"]:
        return None
    columns = list(dict.fromkeys(name for record in audit["requested"] for name in record["obtained"]))
    return RequestedTable(
        columns=tuple(columns),
        rows=tuple(
            RequestedRow(
                requested=record["requested"],
                images=record["images"],
                obtained=tuple(record["obtained"].get(name, 0) for name in columns),
            )
            for record in audit["requested"]
        ),
    )


def _cell(record: Body, before: Body | None, moved: Body | None, asked: Mapping[str, float]) -> CellShare:
    old = next((c for c in before["cells"] if c["cell"] == record["cell"]), None) if before else None
    return CellShare(
        cell=record["cell"],
        target=record["target"],
        requested=asked.get(record["cell"]),
        before_count=old["count"] if old else None,
        before=estimate(old["share"], old["interval"]) if old else None,
        before_of_faces=estimate(old["share_of_faces"], old["share_of_faces_interval"]) if old else None,
        after_count=record["count"],
        after=estimate(record["share"], record["interval"]),
        after_of_faces=estimate(record["share_of_faces"], record["share_of_faces_interval"]),
        ratio=estimate(moved["ratio"], moved["ratio_interval"]) if moved else None,
    )


def _distance(before: Body | None, after: Body, name: str, change: Body | None) -> Distance:
    new = after["summaries"][name]
    old = before["summaries"].get(name) if before else None
    moved = change["total_variation"] if change and name == "total_variation" else None
    return Distance(
        name=name,
        formula=new["formula"],
        before=estimate(old["value"], old["interval"]) if old else None,
        before_null_p95=old["null_p95"] if old else None,
        before_p_value=old["p_value"] if old else None,
        after=estimate(new["value"], new["interval"]),
        after_null_p95=new["null_p95"],
        after_p_value=new["p_value"],
        change=estimate(moved["difference"], moved["difference_interval"]) if moved else None,
    )


def _left_out(before: Body | None, after: Body, outcome: str, words: str) -> LeftOut:
    def rate(body: Body | None) -> Estimate | None:
        if body is None or outcome == "failed":
            return None
        return estimate(body[f"{outcome}_rate"], body[f"{outcome}_interval"])

    return LeftOut(
        outcome=words,
        before_count=before["outcomes"][outcome] if before else None,
        before=rate(before),
        after_count=after["outcomes"][outcome],
        after=rate(after),
    )


def no_faces(audits: Mapping[str, Body]) -> tuple[NoFace, ...]:
    """No-face and hit rates per requested cell, for every named set whose audit knows its requests."""
    return tuple(
        NoFace(
            set=name,
            cell=record["requested"],
            images=record["images"],
            no_face=estimate(record["no_face_rate"], record["no_face_interval"]),
            hit=None if record["hit_rate"] is None else estimate(record["hit_rate"], record["hit_interval"]),
        )
        for name, body in audits.items()
        for record in body["requested"]
    )
