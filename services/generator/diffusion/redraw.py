"""Images of a list of orders: drawn in full batches, and again where they come out black or refused."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fairloop.errors import PreconditionFailed
from fairloop.seeds import child_seed
from fairloop.serving.methods import Pools
from services.generator.diffusion.drawing import Drawing
from services.generator.diffusion.loading import DiffusionModel


@dataclass(frozen=True)
class Order:
    """One wanted image: its number, which its noise hangs on, and its prompt."""

    number: int
    prompt: str


@dataclass
class Drawn:
    """The image that counts. `attempt` is how often it was drawn before, `black` and `refused` why."""

    order: Order
    pixels: NDArray[np.uint8]
    attempt: int
    black: int
    refused: int


@dataclass
class _Open:
    """An order on its way: what came of each attempt, and the images that are good."""

    order: Order
    outcomes: dict[int, str] = field(default_factory=dict)
    images: dict[int, NDArray[np.uint8]] = field(default_factory=dict)
    next: int = 0

    def done(self) -> Drawn | None:
        """The first attempt that is neither black nor refused, when all before it are known."""
        for attempt in range(len(self.outcomes)):
            if attempt in self.images:
                before = [self.outcomes[earlier] for earlier in range(attempt)]
                return Drawn(
                    self.order, self.images[attempt], attempt, before.count("black"), before.count("refused")
                )
        return None


def noise_seed(seed: int, number: int, attempt: int) -> int:
    """The seed of the noise of one attempt at one image: it hangs on the three numbers alone."""
    return child_seed(child_seed(seed, "diffusion", number), "draw", attempt)


async def draw(
    model: DiffusionModel,
    orders: Sequence[Order],
    drawing: Drawing,
    seed: int,
    batch: int,
    pools: Pools,
    on_step: Callable[[int, int], None] | None = None,
) -> AsyncIterator[list[Drawn]]:
    """The images as they come, each list of a batch, in the order of the orders within it.

    Every batch is full, since the last digit of an image hangs on the size of the
    batch (not on who else is in it): places that are left over go to further
    attempts at the same images. Of those the first good one counts, so the result
    is the same for any number of orders.

    Raises `PreconditionFailed` when an image was drawn `max_redraws` + 1 times and
    never came out; and what `DiffusionModel.draw` raises. Cancelling stops at the
    next denoising step.
    """
    waiting = [_Open(order) for order in orders]
    while waiting:
        slots = _slots(waiting, batch, drawing.max_redraws)
        prompts = [item.order.prompt for item, _ in slots]
        seeds = [noise_seed(seed, item.order.number, attempt) for item, attempt in slots]
        stop = threading.Event()

        def step(done: int, steps: int, stop: threading.Event = stop) -> bool:
            if on_step is not None:
                on_step(done, steps)
            return not stop.is_set()

        try:
            pixels, refused = await pools.compute(model.draw, prompts, seeds, drawing, step)
        except asyncio.CancelledError:
            stop.set()
            raise
        for (item, attempt), image, unsafe in zip(slots, pixels, refused, strict=True):
            black = not image.any()
            item.outcomes[attempt] = "refused" if unsafe else "black" if black else "good"
            if not (unsafe or black):
                item.images[attempt] = image
        found = [(item, item.done()) for item in waiting]
        if ready := [drawn for _, drawn in found if drawn is not None]:
            yield ready
        waiting = [item for item, drawn in found if drawn is None]
        for item in waiting:
            if len(item.outcomes) > drawing.max_redraws:
                raise _given_up(item, drawing)


def _slots(waiting: list[_Open], batch: int, most: int) -> list[tuple[_Open, int]]:
    """A full batch: the next attempt of each order in turn, again and again until there is no place."""
    slots: list[tuple[_Open, int]] = []
    first = waiting[:batch]
    while len(slots) < batch:
        able = [item for item in first if item.next <= most]
        if not able:
            # All allowed attempts are in: what fills the rest is not looked at.
            return slots + [slots[-1]] * (batch - len(slots))
        for item in able[: batch - len(slots)]:
            slots.append((item, item.next))
            item.next += 1
    return slots


def _given_up(item: _Open, drawing: Drawing) -> PreconditionFailed:
    outcomes = list(item.outcomes.values())
    return PreconditionFailed(
        f"image {item.order.number} of {item.order.prompt[:80]!r} did not come out in {len(outcomes)} draws: "
        f"{outcomes.count('black')} were black and {outcomes.count('refused')} were refused by the safety "
        f"checker; change the prompt, or raise diffusion.max_redraws (it is {drawing.max_redraws})"
    )
