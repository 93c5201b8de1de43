"""The operation `EvaluateRobustness`: error rates per group on worse pictures, from tables of copies."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fairloop import names
from fairloop.degraded import TRANSFORMS
from fairloop.errors import InvalidInput, PreconditionFailed
from fairloop.manifest import Manifest, inherited_terms, load
from fairloop.reporting.protocol_files import robustness_files
from fairloop.standalone.evaluation import DEFAULT_FMR, Tell
from fairloop.stats.report import number
from fairloop.stats.robustness import Copies, robustness
from fairloop.stats.watch import watched
from fairloop.store import ObjectStore
from fairloop.table_store import ANNOTATIONS, EMBEDDINGS
from fairloop.v1 import metrics_pb2
from services.metrics.reports import Made, inputs_of
from services.metrics.verification import (
    check_common,
    check_grouping,
    check_same_images,
    grouping_facts,
    read_embeddings,
    read_faces,
)

MOST_TABLES = 100
DEFAULT_REPLICATES = 200

Embedded = tuple[Manifest, pa.Table, NDArray[np.float32], NDArray[np.bool_]]
"""What `read_embeddings` gives."""

COPIES = (
    "Worse pictures are copies made by computation: noise, motion and real pose are not in them, and "
    "narrowing shows no new side of a head."
)


def check(request: metrics_pb2.EvaluateRobustnessRequest) -> None:
    """Everything that can be wrong with a request without asking the store."""
    if not 2 <= len(request.embeddings) <= MOST_TABLES:
        raise InvalidInput(
            "embeddings",
            f"{len(request.embeddings)} tables; it is 2–{MOST_TABLES}, as `EmbedCopies` made them",
        )
    for name in request.embeddings:
        names.check("embeddings", name, "embeddings")
    if len(set(request.embeddings)) < len(request.embeddings):
        raise InvalidInput("embeddings", "names a table twice")
    check_grouping(request.grouping)
    check_common(request.fmr, request.replicates, request.seed)
    if request.HasField("threshold"):
        if not -1 <= request.threshold <= 1:
            raise InvalidInput("threshold", f"{request.threshold} is outside -1–1: scores are cosines")
        if request.fmr:
            raise InvalidInput("fmr", "does not go with `threshold`")


def needed(request: metrics_pb2.EvaluateRobustnessRequest) -> list[tuple[str, str]]:
    """Tables that must exist."""
    return [*((name, EMBEDDINGS) for name in request.embeddings), (request.grouping.annotations, ANNOTATIONS)]


def evaluate(store: ObjectStore, request: metrics_pb2.EvaluateRobustnessRequest, tell: Tell) -> Made:
    """FMR, FNMR and their gaps under every transform and level, at one threshold."""
    tell("reading", 0, 3)
    read = [load(store, name, EMBEDDINGS) for name in request.embeddings]
    check_series(read)
    first = read_embeddings(store, read[0].name)
    faces = read_faces(store, first[1], request.grouping)
    threshold = request.threshold if request.HasField("threshold") else None
    tell("rates", 1, 3)
    with watched(lambda done, total: tell("rates", done, total, "pairs of a copy")):
        found = robustness(
            series(store, read, first),
            faces.subjects,
            faces.groups,
            fmr=None if threshold is not None else request.fmr or DEFAULT_FMR,
            threshold=threshold,
            replicates=request.replicates or DEFAULT_REPLICATES,
            seed=request.seed,
        )
    inputs = inputs_of([*read, faces.manifest])
    model = read[0].details["model"]
    target = found.fmr_target
    facts: dict[str, Any] = {
        **grouping_facts(faces, inputs),
        "title": f"{model.split('/')[1]} on worse pictures",
        "model": model,
        "notes": [COPIES],
        "conventions": {
            "threshold policy": f"smallest with FMR ≤ {target:g} on the untouched images"
            if target is not None
            else f"fixed at {found.threshold:.6g}",
            "impostors": "within groups, both images copies of one level",
            "seed": str(request.seed),
        },
    }
    tell("figures", 2, 3)
    files = robustness_files(found, model.split("/")[1], facts)
    gaps = [gap for gap in found.gaps if gap.fnmr_gap is not None]
    widest = max(gaps, key=lambda gap: gap.fnmr_gap or 0.0, default=None)
    headline = (
        "no copy has a rate in every group"
        if widest is None
        else f"FNMR gap {number(found.gaps[0].fnmr_gap)} on untouched images, at most "
        f"{number(widest.fnmr_gap)} ({widest.transform} {widest.level:g})"
    )
    terms = inherited_terms([*read, faces.manifest])
    return Made("robustness", files, {**found.to_dict(), **facts}, headline, inputs, terms)


def copied(manifest: Manifest) -> tuple[str, float]:
    """Transform and level of a table of copies; `PreconditionFailed` for any other table."""
    told = manifest.details.get("copies")
    if told is None or told["transform"] not in TRANSFORMS:
        raise PreconditionFailed(
            f"{manifest.name} is no table of copies; `RecognizerService.EmbedCopies` makes them"
        )
    return str(told["transform"]), float(told["level"])


def check_series(read: Sequence[Manifest]) -> None:
    """`PreconditionFailed` unless the tables are of one model and options, the first of untouched images."""
    for field in ("model", "flip", "alignment"):
        values = [manifest.details.get(field) for manifest in read]
        other = next((k for k, value in enumerate(values) if value != values[0]), None)
        if other is not None:
            raise PreconditionFailed(
                f"{read[other].name} was made with {field} {values[other]!r}, "
                f"{read[0].name} with {values[0]!r}"
            )
    seen = [copied(manifest) for manifest in read]
    if not _untouched(seen[0]):
        raise PreconditionFailed(f"{read[0].name} is not of untouched images; name such a table first")
    twice = next((k for k, pair in enumerate(seen) if pair in seen[:k]), None)
    if twice is not None:
        raise PreconditionFailed(f"{read[twice].name} is of {seen[twice][0]} {seen[twice][1]:g} once more")


def series(store: ObjectStore, read: Sequence[Manifest], first: Embedded) -> Iterator[Copies]:
    """The copies one by one, every transform beginning with the untouched images, which `first` holds."""
    manifest, table, vectors, failed = first
    told = [copied(one) for one in read]
    for transform in dict.fromkeys(name for name, _ in told):
        mine = [one for one, (name, _) in zip(read, told, strict=True) if name == transform]
        if not any(_untouched(copied(one)) for one in mine):
            yield Copies(transform, TRANSFORMS[transform].untouched, vectors, failed)
        for one in mine:
            _, other, rows, lost = first if one.name == manifest.name else read_embeddings(store, one.name)
            check_same_images(table, other, one.name)
            quality, measured_by = _quality(transform, other, lost)
            level = copied(one)[1]
            if _untouched((transform, level)):
                # Evaluated once: these are the first table's images again.
                rows, lost = vectors, failed
            yield Copies(transform, level, rows, lost, quality, measured_by)


def _untouched(told: tuple[str, float]) -> bool:
    return told[1] == TRANSFORMS[told[0]].untouched


def _quality(
    transform: str, table: pa.Table, failed: NDArray[np.bool_]
) -> tuple[NDArray[np.float64] | None, str]:
    """What was measured of each copy and by what; NaN where it has no embedding, None without a measure."""
    if TRANSFORMS[transform].quality is None:
        return None, ""
    quality = np.array(table["quality"].to_pylist(), dtype=np.float64)
    quality[failed] = np.nan
    return quality, TRANSFORMS[transform].measured_by
