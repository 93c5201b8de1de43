"""The quick call `Preview`: what a model makes, image by image, with nothing stored."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fairloop import names
from fairloop.errors import FairloopError, InvalidInput
from fairloop.provenance.marks import Mark, put_mark
from fairloop.seeds import check_seed
from fairloop.serving.batching import Batcher
from fairloop.serving.methods import Pools
from fairloop.store import ObjectStore
from fairloop.v1 import generator_pb2
from services.generator.diffusion import preview as diffusion
from services.generator.diffusion.computing import Computing
from services.generator.encode import encode_png
from services.generator.face_model import FaceModel, load_face_model
from services.generator.generate import LARGEST_IMAGES
from services.generator.latents import SUBJECT_RANGE, WITHIN_SUBJECT, check_latent, subject_id

DEFAULT_IMAGES = 16
BLOCK_IMAGES = 64
"""Rendered at a time (`dcgan.BLOCK`): the first images come before the last are drawn."""


@dataclass(frozen=True)
class _Draft:
    """What an image is made of."""

    latent: NDArray[np.float32]
    subject: int
    cell: str


class Previews:
    """Draws, renders and encodes; images of concurrent calls to one model are rendered together."""

    def __init__(self, store: ObjectStore, pools: Pools, computing: Computing) -> None:
        self._store = store
        self._pools = pools
        self._computing = computing
        self._batches: Batcher[FaceModel, NDArray[np.float32], NDArray[np.uint8]] = Batcher(
            lambda model, latents: pools.compute(_render, model, latents), weigh=lambda latent: latent.nbytes
        )

    async def images(
        self, request: generator_pb2.PreviewRequest, seconds: Callable[[], float | None]
    ) -> AsyncIterator[generator_pb2.PreviewResponse]:
        """The images in order; `seconds` says what the caller has left."""
        if request.HasField("diffusion"):
            drawn = diffusion.images(self._store, self._pools, self._computing, request)
            async with aclosing(drawn):
                async for response in drawn:
                    yield response
            return
        check_request(request)
        model = await self._pools.io(load_face_model, self._store, request.model)
        check_cell(request, model)
        drafts = _drafts(request, model)
        count = request.count or DEFAULT_IMAGES
        for start in range(0, count, BLOCK_IMAGES):
            block = [next(drafts) for _ in range(min(BLOCK_IMAGES, count - start))]
            found = await self._batches.submit(model, [draft.latent for draft in block], seconds())
            rendered = []
            for pixels in found:
                if isinstance(pixels, FairloopError):
                    raise pixels
                rendered.append(pixels)
            pngs = await self._pools.io(encode_png, np.stack(rendered))
            for index, (draft, png) in enumerate(zip(block, pngs, strict=True), start):
                yield generator_pb2.PreviewResponse(
                    index=index,
                    image=put_mark(png, _mark(request, model, draft, index)),
                    subject=draft.subject,
                    cell=draft.cell,
                    latent=generator_pb2.Latent(values=draft.latent.tolist()),
                    model=model.name,
                )


def check_request(request: generator_pb2.PreviewRequest) -> None:
    """Everything that can be wrong with a request without asking the store."""
    names.check("model version", request.model, "model")
    check_seed(request.seed)
    if not 0 <= request.count <= LARGEST_IMAGES:
        raise InvalidInput("count", f"{request.count} is outside 0–{LARGEST_IMAGES}")
    if not 0 <= request.within_subject <= 1:
        raise InvalidInput("within_subject", f"{request.within_subject} is outside 0–1")
    if not 0 <= request.first_subject <= SUBJECT_RANGE // 2:
        raise InvalidInput("first_subject", f"{request.first_subject} is outside 0–{SUBJECT_RANGE // 2}")
    if request.HasField("text") or request.report_steps:
        raise InvalidInput("text", "is for diffusion models, which need the field diffusion")
    if request.HasField("latent"):
        # Its length is the model's to check, which is not loaded yet.
        check_latent(np.array(request.latent.values, np.float32), "latent", len(request.latent.values))
        if request.first_subject:
            raise InvalidInput("first_subject", "is for subjects; images of a latent have none: leave it out")
    elif request.within_subject:
        raise InvalidInput(
            "within_subject", "is for variations of a latent; without one leave it out: one image a subject"
        )


def check_cell(request: generator_pb2.PreviewRequest, model: FaceModel) -> None:
    """`InvalidInput` for a cell that the model cannot be asked for."""
    if request.cell and request.cell not in model.cells:
        known = "; ".join(model.cells) or "none: it is unconditional, so leave the cell out"
        raise InvalidInput("cell", f"{model.name} cannot be asked for {request.cell!r}; it has {known}")


def _mark(request: generator_pb2.PreviewRequest, model: FaceModel, draft: _Draft, index: int) -> Mark:
    """What `Generate` would say of the image of a subject; a variation of a latent has no subject."""
    if request.HasField("latent"):
        return Mark(model.name, request.seed, index)
    return Mark(model.name, request.seed, 0, subject_id(model.name, request.seed, draft.subject))


def _drafts(request: generator_pb2.PreviewRequest, model: FaceModel) -> Iterator[_Draft]:
    """Lazily, in order: subjects as `Generate` numbers them, or variations of a latent."""
    if request.HasField("latent"):
        within = request.within_subject or WITHIN_SUBJECT
        centre = np.array(request.latent.values, np.float32)
        for latent in model.variations(centre, request.seed, request.count or DEFAULT_IMAGES, within):
            yield _Draft(latent, 0, "")
        return
    subject = request.first_subject
    while True:
        (latent,) = model.latents(request.cell, request.seed, subject, 1, WITHIN_SUBJECT)
        yield _Draft(latent, subject, model.component(request.cell, request.seed, subject))
        subject += 1


def _render(model: FaceModel, latents: Sequence[NDArray[np.float32]]) -> Sequence[NDArray[np.uint8]]:
    return list(model.render(np.stack(latents)))
