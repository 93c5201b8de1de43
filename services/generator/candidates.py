"""One block of candidate subjects: drawn, rendered, looked at, and what of it counts."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from fairloop import taxonomy
from fairloop.client import AnnotatorClient
from fairloop.serving.methods import ShardContext, ShardOutput
from fairloop.table_store import to_parquet
from fairloop.v1 import generator_pb2
from services.generator.acceptance import Seen, look, subject_counts
from services.generator.encode import encode_png
from services.generator.face_model import FaceModel
from services.generator.latents import WITHIN_SUBJECT

BLOCK_IMAGES = 256

ACCEPTED = pa.schema(
    [
        ("subject", pa.int64()),
        ("image", pa.int32()),
        ("png", pa.binary()),
        ("labels", pa.map_(pa.string(), pa.string())),
    ]
)
"""What a block hands to its owner: one row per image of a subject that counts."""


async def run_block(
    request: generator_pb2.GenerateRequest,
    spec: Mapping[str, Any],
    context: ShardContext,
    model: FaceModel,
    annotator: AnnotatorClient,
) -> ShardOutput:
    """Draws subjects `start` … `stop`−1 for the quotas `spec["quotas"]` and keeps those that count.

    Centres are looked at first; only subjects whose centre is of a quota in
    `spec["open"]` get their other images. Without acceptance everything counts.
    `facts["accepted"]` lists each subject with the quotas that it fits,
    `facts["annotators"]` who decided.
    """
    quotas = [request.quotas[index] for index in spec["quotas"]]
    within = request.within_subject or WITHIN_SUBJECT
    drawn_for = quotas[0].cell if len(quotas) == 1 else ""
    most = max(quota.images_per_subject for quota in quotas)
    subjects = range(spec["start"], spec["stop"])
    latents = await context.pools.io(
        lambda: {s: model.latents(drawn_for, request.seed, s, most, within) for s in subjects}
    )
    rows: list[dict[str, Any]] = []
    facts: dict[str, Any] = {"candidates": len(latents), "no_face": 0, "images": 0, "accepted": []}

    if not request.HasField("acceptance"):
        images = quotas[0].images_per_subject
        pngs = await _images(context, model, latents, 0, images)
        for subject in subjects:
            facts["accepted"].append([subject, spec["quotas"]])
            rows += [
                {"subject": subject, "image": k, "png": png, "labels": []}
                for k, png in enumerate(pngs[subject])
            ]
        facts["images"] = images * len(latents)
    else:
        rows = await _accepted(request, spec, context, model, annotator, latents, facts)
    data = await context.pools.io(to_parquet, rows, ACCEPTED)
    part = await context.put(hashlib.sha256(data).hexdigest(), data)
    return ShardOutput((part,), facts, units=facts["images"])


async def _accepted(
    request: generator_pb2.GenerateRequest,
    spec: Mapping[str, Any],
    context: ShardContext,
    model: FaceModel,
    annotator: AnnotatorClient,
    latents: Mapping[int, Any],
    facts: dict[str, Any],
) -> list[dict[str, Any]]:
    acceptance = request.acceptance
    sources = list(acceptance.sources)
    wanted = {index: taxonomy.parse_cell(request.quotas[index].cell) for index in spec["open"]}
    centres = await _images(context, model, latents, 0, 1)
    views = await look(context.pools, annotator, [pngs[0] for pngs in centres.values()], sources)
    facts["no_face"] = sum(view.status == "no_face" for view in views)
    facts["images"] = len(views)
    facts["annotators"] = views[0].annotators
    fits: dict[int, tuple[Seen, list[int]]] = {}
    for subject, view in zip(latents, views, strict=True):
        if view.status == "ok" and view.quality >= acceptance.min_quality:
            indices = [index for index, cell in wanted.items() if view.is_in(cell)]
            if indices:
                fits[subject] = (view, indices)
    if not fits:
        return []
    most = max(request.quotas[i].images_per_subject for _, indices in fits.values() for i in indices)
    rest = await _images(context, model, {s: latents[s] for s in fits}, 1, most)
    flat = [png for pngs in rest.values() for png in pngs]
    facts["images"] += len(flat)
    answers = iter(await look(context.pools, annotator, flat, sources) if flat else [])
    rows: list[dict[str, Any]] = []
    for subject, (centre, indices) in fits.items():
        seen = [centre, *(next(answers) for _ in rest[subject])]
        kept = [
            index
            for index in indices
            if subject_counts(
                seen[: request.quotas[index].images_per_subject], wanted[index], acceptance.min_consistency
            )
        ]
        if not kept:
            continue
        facts["accepted"].append([subject, kept])
        rows += [
            {"subject": subject, "image": k, "png": png, "labels": labels(request, view)}
            for k, (png, view) in enumerate(zip([*centres[subject], *rest[subject]], seen, strict=True))
        ]
    return rows


def labels(request: generator_pb2.GenerateRequest, view: Seen) -> list[tuple[str, str]]:
    """What was obtained, labelled as obtained and by whom."""
    annotators = {source.attribute: source.annotator for source in request.acceptance.sources}
    return sorted((f"perceived_{a}.{annotators[a]}", value) for a, value in view.labels.items())


async def _images(
    context: ShardContext, model: FaceModel, latents: Mapping[int, Any], first: int, stop: int
) -> dict[int, list[bytes]]:
    """PNG bytes of images first … stop−1 of each subject."""
    count = stop - first
    if count <= 0:
        return {subject: [] for subject in latents}
    stacked = np.concatenate([z[first:stop] for z in latents.values()])
    pixels = await context.pools.compute(model.render, stacked)
    pngs = await context.pools.io(encode_png, pixels)
    return {subject: pngs[k * count : (k + 1) * count] for k, subject in enumerate(latents)}
