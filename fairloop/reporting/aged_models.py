"""What one or two recognisers do with images over the years: as JSON, tables, figures and a section."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from fairloop.reporting.aged import Aged, AgePoint, GroupOfPairs, PicturesFault, WorsePicture
from fairloop.reporting.document import Highlight
from fairloop.reporting.drawing import Plot
from fairloop.reporting.figures.aged import garbe_figure, kernel_figure, quality_figures
from fairloop.reporting.measured import Estimate
from fairloop.stats.age_similarity import (
    GROUPS,
    AgeSimilarity,
    IdentitySimilarity,
    MatedScore,
    SimilarityGroup,
)
from fairloop.stats.age_sweep import AgeSweep
from fairloop.stats.kernel_density import KernelDensity, kernel_densities
from fairloop.stats.robustness import EqualQuality, Robustness, RobustnessGap, RobustnessRow

SCHEMA = "fairloop.aged-models/1"


@dataclass(frozen=True)
class AgedModel:
    """One recogniser's numbers; `name` is unique among those shown together."""

    name: str
    similarity: AgeSimilarity
    sweep: AgeSweep
    robustness: Robustness | None = None


def aged_body(found: Sequence[AgedModel], facts: Mapping[str, Any]) -> dict[str, Any]:
    """What report.json holds; people and their scores are in the tables alone."""
    models = []
    for one in found:
        model = {"name": one.name, "similarity": one.similarity.to_dict(), "sweep": one.sweep.to_dict()}
        if one.robustness is not None:
            model["robustness"] = one.robustness.to_dict()
        models.append(model)
    return {"schema": SCHEMA, "models": models, "conventions": conventions(found), **facts}


def conventions(found: Sequence[AgedModel]) -> dict[str, str]:
    """How the numbers were made, in words."""
    first = found[0]
    told = dict(first.similarity.conventions)
    if first.sweep.missing == "non_match":
        told["people without a pair"] = (
            "in the rates of age groups counted as non-matches and correct rejections, as the second "
            "reference system does; left out of the groups of pairs"
        )
    if first.robustness is not None:
        target = first.robustness.fmr_target
        told["threshold of worse pictures"] = (
            f"smallest with FMR ≤ {target:g} on the untouched images"
            if target is not None
            else f"{first.robustness.threshold:.6g}, as given"
        )
    return told


def aged_tables(found: Sequence[AgedModel]) -> dict[str, bytes]:
    """One row per model and thing: groups, people, mated scores, thresholds, densities, worse pictures."""
    from fairloop.reporting.parquet import columns_of, table

    def records(name: str, kind: type, rows: Sequence[tuple[str, Any]]) -> bytes:
        columns = {"model": pa.string(), **columns_of(kind)}
        return table(SCHEMA, name, columns, [{"model": model, **asdict(row)} for model, row in rows])

    files = {
        "similarity_groups.parquet": records(
            "groups", SimilarityGroup, [(one.name, row) for one in found for row in one.similarity.groups]
        ),
        "identities.parquet": records(
            "identities",
            IdentitySimilarity,
            [(one.name, row) for one in found for row in one.similarity.identities],
        ),
        "similarities.parquet": records(
            "similarities", MatedScore, [(one.name, row) for one in found for row in one.similarity.scores]
        ),
    }
    texts = {name: pa.string() for name in ("model", "group")}
    numbers = {name: pa.float64() for name in ("threshold", "fmr", "fnmr", "garbe")}
    points = [point.model_dump() for one in found for point in _points(one)]
    files["age_sweep.parquet"] = table(SCHEMA, "age_sweep", {**texts, **numbers}, points)
    rows = [
        {"model": one.name, "group": density.name, "at": at, "density": height}
        for one in found
        for density in _densities(one)
        for at, height in zip(density.at, density.density, strict=True)
    ]
    places = {name: pa.float64() for name in ("at", "density")}
    files["densities.parquet"] = table(SCHEMA, "densities", {**texts, **places}, rows)
    robust = [(one.name, one.robustness) for one in found if one.robustness is not None]
    if robust:
        files["robustness.parquet"] = records(
            "robustness", RobustnessRow, [(name, row) for name, one in robust for row in one.rows]
        )
        files["robustness_gaps.parquet"] = records(
            "gaps", RobustnessGap, [(name, row) for name, one in robust for row in one.gaps]
        )
        files["equal_quality.parquet"] = records(
            "equal_quality", EqualQuality, [(name, row) for name, one in robust for row in one.equal_quality]
        )
    return files


def aged_plots(found: Sequence[AgedModel]) -> list[Plot]:
    """`distribution_plot` of each model, each group of two models, GARBE, and worse pictures."""
    plots = []
    for number, one in enumerate(found):
        plots.append(
            kernel_figure(
                _densities(one),
                f"distribution_plot{'_baseline' if number else ''}",
                f"Similarity of the groups: {one.name}",
                "Means of people (their number in brackets), Gaussian kernels, Scott's bandwidth.",
            )
        )
    if len(found) > 1:
        for group in GROUPS:
            densities = kernel_densities({one.name: one.similarity.values(group) for one in found})
            plots.append(
                kernel_figure(
                    densities,
                    f"arcfaceVsFineTuned_{group.replace(' ', '_')}_plot",
                    f"{group}: {found[0].name} against {found[1].name}",
                    f"Means of people in the group {group}.",
                )
            )
    plots.append(garbe_figure({one.name: one.sweep for one in found}))
    for number, one in enumerate(found):
        if one.robustness is not None:
            name = f"worse_pictures{'_baseline' if number else ''}"
            plots += quality_figures(one.robustness, one.name, name)
    return plots


def aged_section(found: Sequence[AgedModel], facts: Mapping[str, Any]) -> Aged:
    """The part of the page; conversion only."""
    robust = [(one.name, one.robustness) for one in found if one.robustness is not None]
    return Aged(
        label_source=facts["label_source"],
        groups=tuple(
            GroupOfPairs(model=one.name, **asdict(one.similarity.groups[number]))
            for number in range(len(GROUPS))
            for one in found
        ),
        sweep=tuple(point for one in found for point in _points(one)),
        pictures=tuple(
            WorsePicture(
                model=name,
                **{key: getattr(row, key) for key in WorsePicture.model_fields if key != "model"},
            )
            for name, one in robust
            for row in one.rows
        ),
        faults=tuple(
            PicturesFault(model=name, **asdict(row)) for name, one in robust for row in one.equal_quality
        ),
        picture_groups=facts.get("picture_groups", ""),
        conventions=tuple(f"{key}: {value}" for key, value in conventions(found).items()),
    )


def aged_highlights(found: Sequence[AgedModel]) -> tuple[Highlight, ...]:
    """The mean of every group, beside the baseline's where there is one."""
    return tuple(
        Highlight(
            label=after.group,
            before=None if len(found) < 2 else Estimate(value=found[1].similarity.groups[number].mean),
            after=Estimate(value=after.mean),
            note=f"{after.identities} people, {after.left_out} left out",
        )
        for number, after in enumerate(found[0].similarity.groups)
    )


def _densities(one: AgedModel) -> tuple[KernelDensity, ...]:
    return kernel_densities({group: one.similarity.values(group) for group in GROUPS})


def _points(one: AgedModel) -> list[AgePoint]:
    return [
        AgePoint(
            model=one.name,
            threshold=threshold,
            group=group.group,
            fmr=group.fmr[at],
            fnmr=group.fnmr[at],
            garbe=one.sweep.garbe[at],
        )
        for at, threshold in enumerate(one.sweep.thresholds)
        for group in one.sweep.groups
    ]
