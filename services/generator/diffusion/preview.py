"""`Preview` with a diffusion model: images as they come, and every step where that is asked for."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator

import numpy as np

from fairloop import names, taxonomy
from fairloop.errors import InvalidInput
from fairloop.provenance.marks import Mark, put_mark
from fairloop.seeds import check_seed
from fairloop.serving.methods import Pools
from fairloop.store import ObjectStore
from fairloop.v1 import generator_pb2
from services.generator.diffusion.computing import Computing
from services.generator.diffusion.drawing import (
    Wish,
    check_kind,
    check_options,
    check_text,
    check_wishes,
    drawing_of,
    prompt_of,
)
from services.generator.diffusion.generate import check_against_model
from services.generator.diffusion.loading import load_diffusion, open_diffusion
from services.generator.diffusion.redraw import Drawn, Order, draw
from services.generator.encode import encode_png
from services.generator.latents import SUBJECT_RANGE, subject_id

DEFAULT_IMAGES = 16
LARGEST_IMAGES = 256
BATCHES_AHEAD = 2


async def images(
    store: ObjectStore, pools: Pools, computing: Computing, request: generator_pb2.PreviewRequest
) -> AsyncGenerator[generator_pb2.PreviewResponse, None]:
    """The images in order, and a response per denoising step where `report_steps` asks for it.

    They are those that `Generate` makes of its first quota or prompt: byte for
    byte where as many are drawn at a time, else up to the last digit.
    """
    wish = check_request(request)
    model, _ = await pools.io(open_diffusion, store, request.model)
    check_kind(model, True)
    field = "text" if request.HasField("text") else "diffusion.prompt_template"
    await pools.io(check_against_model, store, request.model, [wish.prompt], request.diffusion, field)
    loaded = await pools.io(load_diffusion, store, request.model, computing.device, computing.dtype)
    drawing = drawing_of(request.diffusion, model)
    # Fewer images than a batch need no full one: somebody is looking on.
    batch = request.diffusion.batch or min(computing.batch, wish.images)
    orders = [Order(request.first_subject + n, wish.prompt) for n in range(wish.images)]
    told: asyncio.Queue[tuple[int, int] | list[tuple[Drawn, bytes]] | None] = asyncio.Queue()
    # Whoever reads slowly holds up the drawing: images of two batches wait here, not of all.
    room = asyncio.Semaphore(BATCHES_AHEAD)
    loop = asyncio.get_running_loop()

    def step(done: int, steps: int) -> None:
        loop.call_soon_threadsafe(told.put_nowait, (done, steps))

    async def work() -> None:
        try:
            async for ready in draw(
                loaded, orders, drawing, request.seed, batch, pools, step if request.report_steps else None
            ):
                pngs = await pools.io(encode_png, np.stack([one.pixels for one in ready]))
                await room.acquire()
                await told.put(list(zip(ready, pngs, strict=True)))
        finally:
            told.put_nowait(None)

    working = asyncio.create_task(work())
    try:
        waiting: dict[int, tuple[Drawn, bytes]] = {}
        index = 0
        while (news := await told.get()) is not None:
            if isinstance(news, tuple):
                done, steps = news
                yield generator_pb2.PreviewResponse(
                    index=index, model=model.name, step=done, steps=steps, prompt=wish.prompt
                )
                continue
            waiting.update((one.order.number - request.first_subject, (one, png)) for one, png in news)
            while index in waiting:
                one, png = waiting.pop(index)
                subject = subject_id(model.name, request.seed, one.order.number)
                yield generator_pb2.PreviewResponse(
                    index=index,
                    image=put_mark(png, Mark(model.name, request.seed, one.attempt, subject)),
                    subject=one.order.number,
                    cell=wish.cell,
                    model=model.name,
                    redraws=one.attempt,
                    prompt=wish.prompt,
                )
                index += 1
            room.release()
        await working
    finally:
        working.cancel()  # stops at the next step when the caller has gone
        with contextlib.suppress(asyncio.CancelledError):
            await working


def check_request(request: generator_pb2.PreviewRequest) -> Wish:
    """Everything that can be wrong with a request without asking the store; what it wants."""
    names.check("model version", request.model, "model")
    check_seed(request.seed)
    check_options(request.diffusion)
    if not 0 <= request.count <= LARGEST_IMAGES:
        raise InvalidInput("count", f"{request.count} is outside 0–{LARGEST_IMAGES}")
    if not 0 <= request.first_subject <= SUBJECT_RANGE // 2:
        raise InvalidInput("first_subject", f"{request.first_subject} is outside 0–{SUBJECT_RANGE // 2}")
    if request.HasField("latent") or request.within_subject:
        raise InvalidInput("latent", "is for models that draw from latents; a diffusion model takes a text")
    count = request.count or DEFAULT_IMAGES
    if request.HasField("text"):
        if request.diffusion.prompt_template:
            raise InvalidInput("diffusion.prompt_template", "stands beside a text; give one of the two")
        check_text(request.text, "text")
        wish = Wish(0, request.text, count)
        field = "text"
    else:
        taxonomy.parse_cell(request.cell)
        field = "diffusion.prompt_template"
        wish = Wish(0, prompt_of(request.diffusion.prompt_template, request.cell), count, request.cell)
    check_wishes([wish], request.diffusion, field)
    return wish
