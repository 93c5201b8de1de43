"""The operation `Regenerate`: some images of a dataset made again from their rows, and compared."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fairloop import names, registry
from fairloop.dataset import Dataset, open_dataset
from fairloop.errors import InvalidInput, PreconditionFailed
from fairloop.provenance.marks import Mark, put_mark
from fairloop.seeds import check_seed, child_seed
from fairloop.serving.methods import Method, Pools, Shard, ShardContext, ShardOutput
from fairloop.serving.runner import RunningOperation
from fairloop.store import ObjectStore
from fairloop.v1 import generator_pb2
from services.generator.diffusion.computing import Computing
from services.generator.diffusion.drawing import Drawing
from services.generator.diffusion.loading import DiffusionModel, load_diffusion
from services.generator.diffusion.redraw import noise_seed
from services.generator.encode import encode_png
from services.generator.face_model import load_face_model
from services.generator.profile import differences, profile

NAME = "GeneratorService.Regenerate"
DEFAULT_IMAGES = 20
LARGEST_IMAGES = 1_000
BLOCK_IMAGES = 16

TOLERANCE = 1.0
"""Mean difference of the pixels' values, of 255, between two profiles of one data type.

The size of a batch and the number of threads change a value by at most 3e-4 of
the range (0.08 levels) on a CPU; another build of the libraries sums in another
order, and fifty steps carry that on.
"""
TOLERANCE_OF_TYPES = 8.0
"""The same where the data type differs, too: half precision has three digits."""


def check_request(request: generator_pb2.RegenerateRequest) -> None:
    """Everything that can be wrong with a request without asking the store."""
    names.check("dataset version", request.dataset, "dataset")
    check_seed(request.seed)
    if not 0 <= request.count <= LARGEST_IMAGES:
        raise InvalidInput("count", f"{request.count} is outside 0–{LARGEST_IMAGES:,}")


def make_method(store: ObjectStore, pools: Pools, computing: Computing) -> Method:
    """The method, bound to the store and to where this server computes."""

    async def validate(request: generator_pb2.RegenerateRequest) -> None:
        check_request(request)
        dataset = await pools.io(open_dataset, store, request.dataset)
        await pools.io(registry.open_model, store, _made_by(dataset), "generator")
        _drawing_of(dataset)

    async def run(operation: RunningOperation) -> generator_pb2.RegenerateResult:
        request: generator_pb2.RegenerateRequest = operation.request
        dataset = await pools.io(open_dataset, store, request.dataset)
        positions = chosen(len(dataset), request.count or DEFAULT_IMAGES, request.seed)
        shards = (
            Shard(number, {"positions": positions[start : start + BLOCK_IMAGES]})
            for number, start in enumerate(range(0, len(positions), BLOCK_IMAGES))
        )
        result = generator_pb2.RegenerateResult(dataset=dataset.name, model=_made_by(dataset))
        lines: set[str] = set()
        async for output in operation.shards(shards):
            lines.update(output.facts["differences"])
            result.images.extend(generator_pb2.RegeneratedImage(**found) for found in output.facts["images"])
            operation.progress("making again", len(result.images), len(positions), "images")
        result.differences.extend(sorted(lines))
        result.same_profile = not lines
        other_type = any(line.startswith("dtype:") for line in lines)
        result.tolerance = TOLERANCE_OF_TYPES if other_type else TOLERANCE
        result.kept = all(
            image.equal if result.same_profile else image.mean_difference <= result.tolerance
            for image in result.images
        )
        return result

    async def shard(
        request: generator_pb2.RegenerateRequest, spec: Mapping[str, Any], context: ShardContext
    ) -> ShardOutput:
        dataset = await pools.io(open_dataset, store, request.dataset)
        rows = [dataset.rows(position, position + 1)[0] for position in spec["positions"]]
        details = dataset.manifest.details
        if (drawing := _drawing_of(dataset)) is not None:
            loaded = await pools.io(
                load_diffusion, store, _made_by(dataset), computing.device, computing.dtype
            )
            batch = int(details["profile"]["batch"])
            now = loaded.profile(batch)
            pixels = await _drawn(rows, loaded, drawing, batch, pools)
        else:
            now = profile()
            pixels = await _rendered(rows, store, _made_by(dataset), details["within_subject"], pools)
        pngs = await pools.io(encode_png, pixels)
        found = [
            await pools.io(_compared, dataset, row, put_mark(png, _mark(row)))
            for row, png in zip(rows, pngs, strict=True)
        ]
        then = [details["profile"], *details.get("other_profiles", ())]
        lines = [line for one in then for line in differences(one, now)]
        return ShardOutput((), {"images": found, "differences": lines}, units=len(rows))

    return Method(NAME, generator_pb2.RegenerateRequest, validate, run, shard, derives=False)


def chosen(images: int, count: int, seed: int) -> list[int]:
    """Positions of `count` of so many images, ascending: those whose child seeds are the smallest."""
    ranked = sorted(range(images), key=lambda position: child_seed(seed, "regenerate", position))
    return sorted(ranked[:count])


def _made_by(dataset: Dataset) -> str:
    """The model that made a dataset; `PreconditionFailed` when `Generate` did not, or said too little."""
    details = dataset.manifest.details
    model = details.get("model")
    if not isinstance(model, str) or not isinstance(details.get("profile"), dict):
        parents = ", ".join(p for p in dataset.manifest.parents if p.startswith("datasets/"))
        raise PreconditionFailed(
            f"{dataset.name} does not say how its images were made: it was not made by Generate, or by an "
            f"older version of it{f'; ask for what it was derived from: {parents}' if parents else ''}"
        )
    return model


def _drawing_of(dataset: Dataset) -> Drawing | None:
    """How a diffusion model drew it, None for other models; `PreconditionFailed` where it is unclear."""
    told = dataset.manifest.details.get("diffusion")
    if told is None:
        return None
    try:
        return Drawing(**told)
    except TypeError as error:  # no mapping, or other options than this version's
        raise PreconditionFailed(
            f"{dataset.name} says how it was drawn in another way than this version does ({error})"
        ) from error


def _mark(row: Mapping[str, Any]) -> Mark:
    return Mark(row["model"], row["seed"], row["index"], row["subject_id"])


def _number(row: Mapping[str, Any]) -> int:
    return int(row["subject_id"].rsplit(":", 1)[1])


async def _rendered(
    rows: Sequence[Mapping[str, Any]], store: ObjectStore, name: str, within: float, pools: Pools
) -> NDArray[np.uint8]:
    model = await pools.io(load_face_model, store, name)
    latents = [
        # A subject's image is the same however many are asked for.
        model.latents(row["requested_cell"] or "", row["seed"], _number(row), row["index"] + 1, within)[-1]
        for row in rows
    ]
    return await pools.compute(model.render, np.stack(latents))


async def _drawn(
    rows: Sequence[Mapping[str, Any]], model: DiffusionModel, drawing: Drawing, batch: int, pools: Pools
) -> NDArray[np.uint8]:
    made = []
    for start in range(0, len(rows), batch):
        some = rows[start : start + batch]
        # Batches are full, as they were then; what fills the last one is thrown away.
        filled = [*some, *[some[-1]] * (batch - len(some))]
        seeds = [noise_seed(row["seed"], _number(row), row["index"]) for row in filled]
        pixels, _ = await pools.compute(model.draw, [row["prompt"] for row in filled], seeds, drawing)
        made.append(pixels[: len(some)])
    return np.concatenate(made)


def _compared(dataset: Dataset, row: Mapping[str, Any], again: bytes) -> dict[str, Any]:
    found: dict[str, Any] = {"image_id": row["image_id"], "equal": True}
    if hashlib.sha256(again).hexdigest() == row["sha256"]:
        return found
    stored = _pixels(dataset.read(row["image_id"]))
    difference = np.abs(stored - _pixels(again))
    return {
        **found,
        "equal": False,
        "greatest_difference": int(difference.max()),
        "mean_difference": float(difference.mean()),
    }


def _pixels(data: bytes) -> NDArray[np.int16]:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"), np.int16)
