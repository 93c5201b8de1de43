"""An audit of prompts as parts of the page: conversion, no computation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fairloop.prompt_audit import Target
from fairloop.prompt_comparison import PromptComparison
from fairloop.reporting.document import Highlight
from fairloop.reporting.measured import Estimate
from fairloop.reporting.prompted import (
    MissingGroup,
    PromptChange,
    PromptDistance,
    Prompted,
    PromptFaces,
    PromptShare,
    SetQuality,
)
from fairloop.stats.intervals import Interval


def prompted(
    found: PromptComparison,
    facts: Mapping[str, Any],
    targets: Sequence[Target],
    quality: Sequence[SetQuality] = (),
) -> Prompted:
    """The section; `facts` tells `label_source`, and where known `texts` of the prompts."""
    texts = facts.get("texts", {})
    return Prompted(
        label_source=facts["label_source"],
        attributes=found.attributes,
        models=found.models,
        paired=found.paired,
        rule=found.rule,
        faces=tuple(
            PromptFaces(
                model=row.model,
                prompt=row.prompt,
                text=texts.get(row.prompt, ""),
                images=row.images,
                no_face_count=row.no_face,
                no_face=_estimate(row.rate, row.interval),
                dropped=row.dropped,
            )
            for row in found.faces
        ),
        shares=tuple(
            PromptShare(
                model=row.model,
                prompt=row.prompt,
                group=",".join(row.group),
                count=row.count,
                share=_estimate(row.share, row.interval),
                of_seen=_estimate(row.of_seen, row.of_seen_interval),
            )
            for row in found.shares
        ),
        missing=tuple(
            MissingGroup(
                prompt=target.share.prompt,
                group=",".join(target.share.group),
                share=target.share.share,
                text=target.text,
            )
            for target in targets
        ),
        missing_source=facts.get("missing_source", ""),
        changes=tuple(
            PromptChange(
                model=row.model,
                prompt=row.prompt,
                group=",".join(row.group),
                before=row.before,
                after=row.after,
                change=_estimate(row.change, row.interval),
            )
            for row in found.changes
        ),
        distances=_distances(found),
        quality=tuple(quality),
        quality_features=facts.get("quality_features", ""),
        conventions=tuple(f"{key}: {value}" for key, value in conventions(found).items()),
    )


def conventions(found: PromptComparison) -> dict[str, str]:
    """How the numbers were made, in words."""
    told = {
        "share": "of all images of the prompt, those without a face included; 'of seen' leaves these out",
        "interval of a share": "Wilson 1927, 95 %",
        "under-represented": f"{found.rule}, of all images; prompts that mostly show no face are left out",
    }
    if len(found.models) > 1:
        told["change"] = (
            "pairs of images drawn from the same noise, Newcombe 1998 (17:2635), method 10, 95 %"
            if found.paired
            else "two samples, Newcombe 1998 (17:873), method 10, 95 %"
        )
        told["distance"] = (
            "mean over prompts of the total variation to equal shares among images with a face; images "
            f"redrawn within their prompt{', pairs together' if found.paired else ''}, 1,000 times"
        )
    return told


def prompt_highlights(found: PromptComparison) -> tuple[Highlight, ...]:
    """Distance and number of missing groups, before and after the last model; else those of the only one."""
    first, last = found.models[0], found.models[-1]
    whole = len({(row.prompt, row.group) for row in found.shares})
    counted = Highlight(
        label=f"under-represented groups of {whole}",
        before=Estimate(value=len(found.missing[first])) if last != first else None,
        after=Estimate(value=len(found.missing[last])),
        format="count",
        note=found.rule,
    )
    if last not in found.variation:
        return (counted,)
    moved = found.variation[last]
    return (
        Highlight(
            label="distance to equal shares, mean over prompts",
            before=_estimate(moved.before, moved.before_interval),
            after=_estimate(moved.after, moved.after_interval),
            note="total variation",
        ),
        counted,
    )


def _distances(found: PromptComparison) -> tuple[PromptDistance, ...]:
    left_out = {row.prompt for row in found.faces if row.dropped}
    whole = len({(row.prompt, row.group) for row in found.shares if row.prompt not in left_out})
    return tuple(
        PromptDistance(
            model=model,
            before=_estimate(moved.before, moved.before_interval),
            after=_estimate(moved.after, moved.after_interval),
            change=_estimate(moved.change, moved.change_interval),
            missing_before=len(found.missing[found.models[0]]),
            missing_after=len(found.missing[model]),
            groups=whole,
        )
        for model, moved in found.variation.items()
    )


def _estimate(value: float | None, interval: Interval | None) -> Estimate:
    low, high = interval or (None, None)
    return Estimate(value=value, low=low, high=high)
