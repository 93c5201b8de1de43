"""Checks of drawing: speed and memory in each data type, images made again, memory that runs out."""

from __future__ import annotations

import time
from typing import Any

from deploy.gpu_check.world import OPERATION_SECONDS, PROMPT, World, Wrong
from fairloop.dataset import Dataset
from fairloop.v1 import generator_pb2

SCARCE_BATCH = 64
SCARCE_IMAGES = 6
AGAIN = 4


def draws(world: World, dtype: str) -> dict[str, Any]:
    """Images in this data type: how many a second, and in how much memory."""
    world.start_generator(dtype)
    drawing = generator_pb2.Diffusion(steps=world.scale.steps)
    with world.meter("generator") as meter:
        # Loads the model and lets the libraries choose their ways.
        _generate(world, world.need("diffusion model"), 1, generator_pb2.Diffusion(steps=2))
        begun = time.monotonic()
        dataset = _generate(world, world.need("diffusion model"), world.scale.images, drawing)
        seconds = time.monotonic() - begun
    profile = dataset.manifest.details["profile"]
    if (profile["device"], profile["dtype"]) != (world.device.kind, dtype):
        raise Wrong(f"they were drawn on {profile['device']} in {profile['dtype']}")
    world.made["drawn images"] = dataset.name
    return {
        "images": len(dataset),
        "images_per_second": len(dataset) / seconds,
        "denoising_steps": world.scale.steps,
        "side": world.scale.diffusion.size,
        "batch": profile["batch"],
        "peak_bytes": meter.peak,
        "profile": profile,
    }


def made_again(world: World) -> dict[str, Any]:
    """Some of them once more, from what is known of them: equal bytes."""
    world.start_generator()
    request = generator_pb2.RegenerateRequest(dataset=world.need("drawn images"), count=AGAIN)
    found = world.servers.client.generator.regenerate(request).result(OPERATION_SECONDS)
    equal = sum(image.equal for image in found.images)
    worst = max(image.greatest_difference for image in found.images)
    if not (found.kept and found.same_profile):
        raise Wrong(
            f"{equal} of {len(found.images)} images have equal bytes; they differ by up to {worst} of 255 "
            f"({'; '.join(found.differences) or 'the profile is the same'})"
        )
    return {"images": len(found.images), "equal": equal}


def with_lora(world: World) -> dict[str, Any]:
    """One image of the base with the LoRA that was trained before."""
    world.start_generator()
    drawing = generator_pb2.Diffusion(steps=2)
    return {"images": len(_generate(world, world.need("LoRA"), 1, drawing))}


def short_of_memory(world: World) -> dict[str, Any]:
    """A batch that does not fit: it is halved until it does, and the server lives on."""
    world.start_generator()
    side = world.scale.scarce_side
    drawing = generator_pb2.Diffusion(steps=1, guidance=1, width=side, height=side, batch=1)
    _generate(world, world.need("diffusion model"), 1, drawing)  # one of that size fits, with what stays
    pid = world.servers.pid("generator")
    drawing.batch = SCARCE_BATCH
    with world.device.scarce(pid, world.scale.room):
        dataset = _generate(world, world.need("diffusion model"), SCARCE_IMAGES, drawing)
    batch = dataset.manifest.details["profile"]["batch"]
    if not 0 < batch < SCARCE_BATCH or SCARCE_BATCH % batch:
        raise Wrong(f"memory for {world.scale.room:,} bytes more was left, and {batch} were drawn at a time")
    drawing.batch = 1
    _generate(world, world.need("diffusion model"), 2, drawing)
    if world.servers.pid("generator") != pid:
        raise Wrong("the server did not survive it")
    return {"asked_batch": SCARCE_BATCH, "batch": batch, "room_bytes": world.scale.room, "side": side}


def _generate(world: World, model: str, images: int, drawing: generator_pb2.Diffusion) -> Dataset:
    """A dataset of so many images of noise."""
    request = generator_pb2.GenerateRequest(
        model=model,
        prompts=[generator_pb2.PromptItem(prompt_id="one", prompt=PROMPT, images=images)],
        diffusion=drawing,
        seed=3,
        dataset="datasets/drawn",
    )
    result = world.servers.client.generator.generate(request).result(OPERATION_SECONDS)
    if result.images != images:
        raise Wrong(f"{result.images} images were made of {images}")
    return Dataset.open(world.store, result.dataset)
