"""Checks of trainings: a LoRA, one that is killed and goes on, and a step of all weights."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deploy.gpu_check.servers import wait_for
from deploy.gpu_check.world import OPERATION_SECONDS, World, Wrong
from fairloop import diffusion_models, registry
from fairloop.manifest import read_part
from fairloop.parquet import read_parquet
from fairloop.scratch import scratch_folder
from fairloop.v1 import generator_pb2

LORA_STEPS = 16
KILLED_AT = 4
"""Steps after which the training is killed; a checkpoint of each is kept."""
TOLERANCE = 0.05
"""Of what the LoRA learned. Sums on a GPU come in another order each time, and the steps amplify it."""

PRECISIONS = {
    "no": generator_pb2.MIXED_PRECISION_NO,
    "fp16": generator_pb2.MIXED_PRECISION_FP16,
    "bf16": generator_pb2.MIXED_PRECISION_BF16,
}


def lora(world: World) -> dict[str, Any]:
    """A LoRA of the whole geometry learns something, on the device."""
    world.start_generator()
    with world.meter("generator") as meter:
        found = world.servers.client.generator.fine_tune(_lora(world)).result(OPERATION_SECONDS)
    world.made["LoRA"] = found.model
    moved = float(np.linalg.norm(_learned(world, found.model)))
    if not moved > 0 or not math.isfinite(moved):
        raise Wrong(f"after {LORA_STEPS} steps the LoRA's weights have the norm {moved}: nothing was learned")
    return {
        "precision": world.device.low_precision,
        "norm": moved,
        "peak_bytes": meter.peak,
        **_plan(world, found),
    }


def resumed(world: World) -> dict[str, Any]:
    """The same training, killed with its server: it goes on from its checkpoint and learns the same."""
    whole = world.need("LoRA")
    client, servers = world.servers.client, world.servers
    operation = client.generator.fine_tune(_lora(world))
    checkpoints = f"{operation.name}/checkpoints/"

    def kept() -> int:
        """The last step of which there is a whole checkpoint."""
        keys = [key.split("/") for key in world.store.list(checkpoints) if key.endswith("manifest.json")]
        return max((int(key[3]) for key in keys), default=0)

    wait_for(lambda: kept() >= KILLED_AT, OPERATION_SECONDS, f"a checkpoint of step {KILLED_AT}")
    servers.kill("generator")
    step = kept()
    servers.again()
    found = operation.result(OPERATION_SECONDS)
    attempt = operation.metadata().attempt
    later = [int(told["step"]) for told in servers.events("generator", "checkpoint")]
    if attempt < 2 or step >= LORA_STEPS:
        raise Wrong(f"the training ended (attempt {attempt}, step {step}) before it could be killed")
    if not later or min(later) <= step:
        raise Wrong(f"killed after step {step}, it went on with checkpoints of the steps {later}")
    first, second = _learned(world, whole), _learned(world, found.model)
    difference = float(np.linalg.norm(first - second) / np.linalg.norm(first))
    losses = [_losses(world, model) for model in (whole, found.model)]
    if not difference <= TOLERANCE or len(losses[0]) != len(losses[1]):
        raise Wrong(
            f"killed and resumed, it differs by {difference:.1%} of what the uninterrupted one learned "
            f"({len(losses[1])} losses to {len(losses[0])}); at most {TOLERANCE:.0%} is rounding"
        )
    return {
        "killed_after_step": step,
        "went_on_at_step": min(later),
        "relative_difference": difference,
        "equal_weights": bool(np.array_equal(first, second)),
        "largest_loss_difference": float(np.abs(losses[0] - losses[1]).max()),
    }


def full(world: World) -> dict[str, Any]:
    """One step of all weights of the UNet."""
    request = _request(world, "models/check-full")
    training = request.text_to_image.training
    training.max_steps = 1
    training.gradient_checkpointing = True
    training.mixed_precision = PRECISIONS[world.device.full_precision]
    # The server has drawn nothing yet: its model would lie on the device, where these weights with their
    # gradients and moments leave little room.
    world.start_generator()
    with world.meter("generator") as meter:
        found = world.servers.client.generator.fine_tune(request).result(OPERATION_SECONDS)
    if not math.isfinite(found.runs[0].loss):
        raise Wrong(f"the loss is {found.runs[0].loss}")
    return {"precision": world.device.full_precision, "peak_bytes": meter.peak, **_plan(world, found)}


def _request(world: World, target: str) -> generator_pb2.FineTuneGeneratorRequest:
    training = generator_pb2.DiffusionTraining(batch_size=1, warmup_steps=0, learning_rate=1e-3)
    return generator_pb2.FineTuneGeneratorRequest(
        model=world.need("diffusion model"),
        dataset=world.need("captioned images"),
        target_model=target,
        seed=7,
        text_to_image=generator_pb2.TextToImage(training=training),
    )


def _lora(world: World) -> generator_pb2.FineTuneGeneratorRequest:
    request = _request(world, "models/check-lora")
    training = request.text_to_image.training
    training.lora_rank, training.max_steps = 4, LORA_STEPS
    training.checkpoint_steps = 1
    training.mixed_precision = PRECISIONS[world.device.low_precision]
    # AdamW divides by the gradient's size; a large epsilon lets rounding be rounding.
    training.epsilon = 1e-3
    return request


def _plan(world: World, found: generator_pb2.FineTuneGeneratorResult) -> dict[str, Any]:
    """What the trainer itself says; `Wrong` when it computed elsewhere."""
    if not found.plan.device.startswith(world.device.kind):
        raise Wrong(f"the training computed on {found.plan.device}, not on {world.device.kind}")
    return {
        "parameters": found.runs[0].parameters,
        "loss": found.runs[0].loss,
        "steps": found.steps,
        "seconds_per_step": found.plan.seconds_per_step,
        "trainer_bytes": found.plan.memory_bytes,
    }


def _learned(world: World, model: str) -> NDArray[np.float64]:
    """The second matrices of a LoRA in a row: they begin at 0, so what they hold was learned."""
    from safetensors.numpy import load_file

    with scratch_folder("lora") as folder:
        found = registry.open_model(world.store, model, "generator")
        weights = load_file(diffusion_models.download_lora(world.store, found, folder))
    names = sorted(name for name in weights if "lora_B" in name or "lora.up" in name)
    return np.concatenate([weights[name].astype(np.float64).ravel() for name in names])


def _losses(world: World, model: str) -> NDArray[np.float64]:
    part = registry.open_model(world.store, model, "generator").part("/training/losses.parquet")
    table = read_parquet(read_part(world.store, part), part.key)
    return np.asarray(table["loss"].to_numpy(), np.float64)
