"""Trains a residual network with ArcFace, and embeds images with the result.

Every draw is derived from (seed, purpose, index): the weights from the seed, the
order of an epoch from its number, the flips from the step's. So a checkpoint
needs no generator's state, and a training that went on from one ends in the
same bits as one that was never stopped (same machine, same number of threads).
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from fairloop.errors import InvalidInput
from fairloop.seeds import check_seed, child_seed
from services.recognizer import arcface, residual

SCHEMA = "fairloop.checkpoint/1"
OPTIMISERS = ("sgd", "adamw")
SCHEDULES = ("constant", "cosine", "polynomial")

Loader = Callable[[NDArray[np.int64]], NDArray[np.uint8]]
"""Gives the images with these indices, uint8 (n, size, size, 3), in this order."""


@dataclass(frozen=True)
class Config:
    """Settings of one training; InvalidInput names the field that is not allowed.

    The defaults are for a few hundred subjects with ten small images each: 300
    train in a quarter of a minute on two cores. For large sets insightface's
    recipe is learning rate 0.1, scale 64, batch 128, 20 epochs, polynomial.
    """

    epochs: int = 6
    """Passes over the images, 1–10,000. An epoch drops what is left after its last full batch."""
    batch_size: int = 50
    """Images a step, 2–4096."""
    optimiser: str = "sgd"
    """sgd (Nesterov momentum) | adamw."""
    learning_rate: float = 0.05
    """Highest learning rate, above 0, at most 10."""
    momentum: float = 0.9
    """0–0.999; the first beta of adamw."""
    weight_decay: float = 5e-4
    """0–1."""
    schedule: str = "cosine"
    """After the warm-up: constant | cosine (to 0) | polynomial (square of what is left, as insightface)."""
    warmup: float = 0.1
    """Share of all steps in which the rate rises linearly, 0–0.5."""
    margin: float = 0.5
    """ArcFace's angular margin in radians, 0–π/2."""
    scale: float = 32.0
    """ArcFace's scale, above 0, at most 1000. Published: 64, for many thousands of classes."""
    size: int = 64
    """Side of the images in pixels; this and the next three are `residual.Shape`."""
    widths: tuple[int, int, int, int] = (16, 32, 64, 128)
    """Channels of the four stages."""
    depths: tuple[int, int, int, int] = (0, 1, 1, 1)
    """Blocks of the four stages."""
    embedding: int = 128
    """Length of the embedding."""
    flip: bool = True
    """Mirrors each image with probability ½."""
    clip: float = 5.0
    """Largest norm of the whole gradient, above 0."""
    frozen: tuple[str, ...] = ()
    """Parts of the base model that stay as they are, running statistics included: `residual.STAGES`."""
    seed: int = 0
    """0 … 2⁶³−1."""
    checkpoint_every: int = 50
    """Steps between checkpoints, 1 or more."""
    threads: int = 0
    """Threads of torch while training, 1–256; 0 leaves the process's number."""

    def __post_init__(self) -> None:
        check_seed(self.seed)
        arcface.check(self.scale, self.margin)
        self.shape()
        _one_of("optimiser", self.optimiser, OPTIMISERS)
        _one_of("schedule", self.schedule, SCHEDULES)
        for name, least, most in (
            ("epochs", 1, 10_000),
            ("batch_size", 2, 4096),
            ("checkpoint_every", 1, 1_000_000),
            ("threads", 0, 256),
        ):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
                raise InvalidInput(name, f"{value!r} is not a whole number in {least}–{most}")
        for name, low, high in (("momentum", 0.0, 0.999), ("weight_decay", 0.0, 1.0), ("warmup", 0.0, 0.5)):
            if not low <= getattr(self, name) <= high:
                raise InvalidInput(name, f"{getattr(self, name)} is outside {low:g}–{high:g}")
        for name, high in (("learning_rate", 10.0), ("clip", 1e6)):
            if not 0 < getattr(self, name) <= high:
                raise InvalidInput(name, f"{getattr(self, name)} is outside 0–{high:g}, 0 excluded")
        for name in self.frozen:
            _one_of("frozen", name, residual.STAGES)
        if set(self.frozen) == set(residual.STAGES):
            raise InvalidInput("frozen", "every part is frozen: nothing is left to train")

    def shape(self) -> residual.Shape:
        """The network's shape."""
        return residual.Shape(self.size, self.widths, self.depths, self.embedding)


@dataclass(frozen=True)
class Result:
    """What a training came to.

    `net` is in evaluation mode. `step` of `total` steps were done; `losses` is
    float32 (step,), those before a resumed checkpoint included. `stopped` is
    true when `should_stop` ended it before its last step.
    """

    net: residual.Residual
    step: int
    total: int
    losses: NDArray[np.float32]
    stopped: bool


def fit(
    images: NDArray[np.uint8] | Loader,
    labels: NDArray[np.integer[Any]],
    config: Config,
    *,
    base: residual.Residual | None = None,
    checkpoint: bytes | None = None,
    on_checkpoint: Callable[[int, bytes], None] | None = None,
    on_progress: Callable[[int, int, float], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Result:
    """Trains a network to tell the subjects `labels` apart.

    `images` is uint8 (N, size, size, 3), sRGB, or a `Loader`, which is asked
    for one batch at a time, so that memory does not grow with N. `labels` is
    (N,), any whole numbers; each distinct one is a class. `base` is copied and
    trained further; its shape must be the configured one. `checkpoint` is what
    `on_checkpoint(step, bytes)` got, from a training of the same labels with
    the same settings (`threads` and `checkpoint_every` may differ).

    `on_progress(step, total, loss)` comes after every step. `should_stop` is
    asked before every step; when it says yes, a last checkpoint is given and
    the result is marked `stopped`.

    Raises InvalidInput naming the argument; on `learning_rate`, with the step,
    when the loss or a gradient is no longer finite.
    """
    classes, own = _classes(labels, config)
    if not callable(images) and len(images) != len(own):
        raise InvalidInput("labels", f"{len(own)} for {len(images)} images")
    net = _network(config, base)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(child_seed(config.seed, "centres", 0))
        loss_function = arcface.ArcFace(classes, config.embedding, scale=config.scale, margin=config.margin)
    parameters = [p for p in (*net.parameters(), *loss_function.parameters()) if p.requires_grad]
    optimiser = _optimiser(parameters, config)
    state = _State(config, own, net, loss_function, optimiser)
    losses = [] if checkpoint is None else state.restore(checkpoint)
    per_epoch = len(own) // config.batch_size
    total = config.epochs * per_epoch

    with _threads(config.threads):
        _train_mode(net, config.frozen)
        for step in range(len(losses), total):
            if should_stop is not None and should_stop():
                if on_checkpoint is not None:
                    on_checkpoint(step, state.dump(losses))
                return Result(net.eval(), step, total, np.asarray(losses, np.float32), stopped=True)
            x, chosen = batch(images, len(own), config, step)
            for group in optimiser.param_groups:
                group["lr"] = learning_rate(config, step, total)
            loss = loss_function(net(x), torch.from_numpy(own[chosen]))
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            norm = nn.utils.clip_grad_norm_(parameters, config.clip)
            if not (math.isfinite(loss.item()) and math.isfinite(norm.item())):
                raise InvalidInput(
                    "learning_rate",
                    f"training diverged at step {step + 1} of {total} (loss {loss.item():g}, gradient "
                    f"{norm.item():g}); a rate under {config.learning_rate:g} or a longer warm-up is needed",
                    step=str(step + 1),
                )
            optimiser.step()
            losses.append(loss.item())
            if on_checkpoint is not None and (step + 1) % config.checkpoint_every == 0:
                on_checkpoint(step + 1, state.dump(losses))
            if on_progress is not None:
                on_progress(step + 1, total, losses[-1])
    return Result(net.eval(), total, total, np.asarray(losses, np.float32), stopped=False)


def batch(
    images: NDArray[np.uint8] | Loader, count: int, config: Config, step: int
) -> tuple[Tensor, NDArray[np.int64]]:
    """The network's input of one step, flips included, and which of the `count` images it holds."""
    chosen = _batch(config, count, step, count // config.batch_size)
    x = residual.pixels(_load(images, chosen), config.shape())
    if config.flip:
        x = _flipped(x, child_seed(config.seed, "flip", step))
    return x, chosen


def embed(
    net: residual.Residual, images: NDArray[np.uint8], *, batch: int = 128, flip: bool = False
) -> NDArray[np.float32]:
    """L2-normalised embeddings, float32 (N, embedding), of uint8 (N, size, size, 3) images.

    With `flip`, of f(x) + f(mirrored x), as is usual on LFW. The network is put
    into evaluation mode.
    """
    net.eval()
    rows = [np.empty((0, net.shape.embedding), np.float32)]
    with torch.inference_mode():
        for start in range(0, len(images), batch):
            x = residual.pixels(images[start : start + batch], net.shape)
            y = net(x) + net(x.flip(3)) if flip else net(x)
            rows.append(functional.normalize(y).numpy())
    return np.concatenate(rows)


def learning_rate(config: Config, step: int, total: int) -> float:
    """The rate of step 0 … total − 1: rises linearly in the warm-up, then follows the schedule."""
    warm = round(config.warmup * total)
    if step < warm:
        return config.learning_rate * (step + 1) / warm
    if config.schedule == "constant":
        return config.learning_rate
    left = 1 - (step - warm) / (total - warm)
    share = left**2 if config.schedule == "polynomial" else (1 - math.cos(math.pi * left)) / 2
    return config.learning_rate * share


class _State:
    """What a checkpoint holds, and the objects it is taken from and put back into."""

    def __init__(
        self,
        config: Config,
        labels: NDArray[np.int64],
        net: residual.Residual,
        loss_function: arcface.ArcFace,
        optimiser: torch.optim.Optimizer,
    ) -> None:
        self._parts: dict[str, Any] = {"net": net, "loss": loss_function, "optimiser": optimiser}
        settings = {k: v for k, v in asdict(config).items() if k not in ("threads", "checkpoint_every")}
        # Through JSON, so that tuples compare equal to the lists that come back.
        self._settings = json.loads(json.dumps(settings))
        self._settings["labels_sha256"] = hashlib.sha256(labels.tobytes()).hexdigest()

    def dump(self, losses: list[float]) -> bytes:
        buffer = io.BytesIO()
        parts = {name: part.state_dict() for name, part in self._parts.items()}
        torch.save({"schema": SCHEMA, "settings": self._settings, "losses": losses, **parts}, buffer)
        return buffer.getvalue()

    def restore(self, checkpoint: bytes) -> list[float]:
        """Puts everything back and returns the losses of the steps that were done."""
        try:
            found = torch.load(io.BytesIO(checkpoint), map_location="cpu", weights_only=True)
            if found["schema"] != SCHEMA:
                raise InvalidInput(
                    "checkpoint", f"its schema is {found['schema']!r}; this version reads {SCHEMA}"
                )
            for name, value in self._settings.items():
                if found["settings"].get(name) != value:
                    was = found["settings"].get(name)
                    raise InvalidInput(
                        "checkpoint", f"was made with {name} {was!r}, this training has {value!r}"
                    )
            for name, part in self._parts.items():
                part.load_state_dict(found[name])
            return [float(loss) for loss in found["losses"]]
        except (RuntimeError, pickle.UnpicklingError, EOFError, LookupError, TypeError, ValueError) as error:
            raise InvalidInput("checkpoint", f"is not one of this training: {error}") from error


def _classes(labels: NDArray[np.integer[Any]], config: Config) -> tuple[int, NDArray[np.int64]]:
    """The number of distinct labels, and each label's place among them."""
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise InvalidInput("labels", f"{labels.dtype} {labels.shape} is not a row of whole numbers")
    distinct, own = np.unique(labels, return_inverse=True)
    if len(distinct) < 2:
        raise InvalidInput("labels", f"{len(distinct)} distinct; two or more subjects are needed")
    if len(labels) < config.batch_size:
        raise InvalidInput("batch_size", f"{config.batch_size} is more than there are images ({len(labels)})")
    return len(distinct), own.astype(np.int64)


def _network(config: Config, base: residual.Residual | None) -> residual.Residual:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(child_seed(config.seed, "weights", 0))
        net = residual.Residual(config.shape())
    if base is not None:
        if base.shape != net.shape:
            raise InvalidInput("base", f"has the shape {base.shape}; configured is {net.shape}")
        net.load_state_dict(base.state_dict())
    elif config.frozen:
        raise InvalidInput(
            "frozen", f"{', '.join(config.frozen)}: there is no base model whose parts could stay"
        )
    for name in config.frozen:
        getattr(net, name).requires_grad_(False)
    return net


def _train_mode(net: residual.Residual, frozen: tuple[str, ...]) -> None:
    net.train()
    for name in frozen:
        # Running statistics that move under frozen weights end in NaN (an insightface user's report).
        getattr(net, name).eval()


def _optimiser(parameters: list[nn.Parameter], config: Config) -> torch.optim.Optimizer:
    if config.optimiser == "adamw":
        betas = (config.momentum, 0.999)
        return torch.optim.AdamW(parameters, config.learning_rate, betas, weight_decay=config.weight_decay)
    return torch.optim.SGD(
        parameters,
        config.learning_rate,
        config.momentum,
        weight_decay=config.weight_decay,
        nesterov=config.momentum > 0,
    )


def _batch(config: Config, count: int, step: int, per_epoch: int) -> NDArray[np.int64]:
    epoch, place = divmod(step, per_epoch)
    order = np.random.default_rng(child_seed(config.seed, "epoch", epoch)).permutation(count)
    return order[place * config.batch_size : (place + 1) * config.batch_size]


def _load(images: NDArray[np.uint8] | Loader, chosen: NDArray[np.int64]) -> NDArray[np.uint8]:
    batch = images(chosen) if callable(images) else images[chosen]
    if len(batch) != len(chosen):
        raise InvalidInput(
            "images", f"the loader gave {len(batch)} images where {len(chosen)} were asked for"
        )
    return batch


def _flipped(x: Tensor, seed: int) -> Tensor:
    chosen = torch.from_numpy(np.random.default_rng(seed).random(len(x)) < 0.5)
    return torch.where(chosen[:, None, None, None], x.flip(3), x)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _one_of(field: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise InvalidInput(field, f"{value!r} is not one of {', '.join(allowed)}")
