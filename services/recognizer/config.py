"""Settings of one training of a recogniser."""

from __future__ import annotations

from dataclasses import dataclass

from fairloop.errors import InvalidInput
from fairloop.seeds import check_seed
from services.recognizer import arcface, iresnet, residual
from services.recognizer.margins import LOSSES, Margins

OPTIMISERS = ("sgd", "adamw")
SCHEDULES = ("constant", "cosine", "polynomial")
PRECISIONS = ("float32", "bfloat16", "float16")
SAMPLINGS = ("shuffled", "balanced")
ARCHITECTURES = ("residual", "iresnet")
CRITERIA = {"tmr": 1, "worst_group_fnmr": -1, "garbe": -1, "loss": -1}
"""What a best checkpoint may be chosen by, and the sign that makes more better."""


@dataclass(frozen=True)
class Config:
    """Settings of one training; InvalidInput names the field that is not allowed.

    The defaults are for a few hundred subjects with ten small images each: 300
    train in a quarter of a minute on two cores. For large sets insightface's
    recipe is learning rate 0.1, scale 64, batch 128, 20 epochs, polynomial.
    """

    epochs: int = 6
    """Passes over the images, 1–10,000. An epoch drops what is left after its last full step."""
    batch_size: int = 50
    """Images of one forward pass, 2–4096."""
    accumulation: int = 1
    """Forward passes of one process whose gradients one step adds up, 1–1024."""
    optimiser: str = "sgd"
    """sgd | adamw."""
    learning_rate: float = 0.05
    """Highest learning rate, above 0, at most 10."""
    momentum: float = 0.9
    """0–0.999; the first beta of adamw."""
    nesterov: bool = True
    """Whether momentum of sgd is Nesterov's; published recipes (insightface) have plain momentum."""
    weight_decay: float = 5e-4
    """0–1."""
    schedule: str = "cosine"
    """After the warm-up: constant | cosine (to 0) | polynomial (`power` of what is left)."""
    power: float = 2.0
    """Degree of the polynomial, above 0, at most 10; 2 is insightface's."""
    warmup: float = 0.1
    """Share of all steps in which the rate rises linearly, 0–0.5."""
    loss: str = "arcface"
    """arcface | cosface | combined."""
    margin: float = 0.5
    """Angular margin in radians, 0–π/2; CosFace has none."""
    margin_multiplier: float = 1.0
    """What the combined margin multiplies the angle with, 1–4."""
    cosine_margin: float = 0.4
    """What CosFace and the combined margin take off the cosine, 0–1."""
    scale: float = 32.0
    """Scale of the cosines, above 0, at most 1000. Published: 64, for many thousands of classes."""
    interclass_filter: float = 0.0
    """Cosines of other classes beyond this count as 0; 0 filters none. 0–1."""
    sample_rate: float = 1.0
    """Partial FC: share of the classes that a step sees, above 0, at most 1."""
    group_margins: tuple[tuple[str, float], ...] = ()
    """(cell, margin) of groups that have another margin than the rest."""
    worst_share: float = 0.0
    """CVaR: the loss is the mean over this share of the groups, the worst ones; 0: over all rows. 0–1."""
    sampling: str = "shuffled"
    """shuffled: every image once an epoch | balanced: every cell equally often."""
    architecture: str = "residual"
    """residual | iresnet; the next four are its shape."""
    size: int = 64
    """Side of the images in pixels."""
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
    """Parts of the base model that stay as they are: `residual.STAGES`."""
    statistics_move: bool = False
    """Whether the running statistics of frozen parts go on moving."""
    precision: str = "float32"
    """Of the forward and backward pass: float32 | bfloat16 | float16 (with loss scaling)."""
    validate_every: int = 0
    """Epochs between validations, of which one comes before the first step; 0 for none."""
    criterion: str = "tmr"
    """The best checkpoint's: tmr | worst_group_fnmr | garbe | loss."""
    patience: int = 0
    """Validations in a row without a better value that end the training; 0: it never ends early."""
    seed: int = 0
    """0 … 2⁶³−1."""
    checkpoint_every: int = 50
    """Steps between checkpoints, 1 or more."""
    threads: int = 0
    """Threads of torch while training, 1–256; 0 leaves the process's number."""

    def __post_init__(self) -> None:
        check_seed(self.seed)
        arcface.check(self.scale, self.margin)
        for name, allowed in (
            ("optimiser", OPTIMISERS),
            ("schedule", SCHEDULES),
            ("loss", LOSSES),
            ("sampling", SAMPLINGS),
            ("architecture", ARCHITECTURES),
            ("precision", PRECISIONS),
            ("criterion", tuple(CRITERIA)),
        ):
            one_of(name, getattr(self, name), allowed)
        self.margins()
        self.shape()
        self._check_numbers()
        for name in self.frozen:
            one_of("frozen", name, residual.STAGES)
        if set(self.frozen) == set(residual.STAGES):
            raise InvalidInput("frozen", "every part is frozen: nothing is left to train")
        highest = 1.0 if self.loss == "cosface" else 1.5
        for cell, margin in self.group_margins:
            if not 0 <= margin <= highest:
                raise InvalidInput("group_margins", f"{margin} of {cell} is outside 0–{highest:g}")

    def _check_numbers(self) -> None:
        for name, least, most in (
            ("epochs", 1, 10_000),
            ("batch_size", 2, 4096),
            ("accumulation", 1, 1024),
            ("validate_every", 0, 10_000),
            ("patience", 0, 10_000),
            ("checkpoint_every", 1, 1_000_000),
            ("threads", 0, 256),
        ):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
                raise InvalidInput(name, f"{value!r} is not a whole number in {least}–{most}")
        for name, low, high in (
            ("momentum", 0.0, 0.999),
            ("weight_decay", 0.0, 1.0),
            ("warmup", 0.0, 0.5),
            ("interclass_filter", 0.0, 1.0),
            ("worst_share", 0.0, 1.0),
        ):
            if not low <= getattr(self, name) <= high:
                raise InvalidInput(name, f"{getattr(self, name)} is outside {low:g}–{high:g}")
        for name, high in (("learning_rate", 10.0), ("clip", 1e6), ("power", 10.0), ("sample_rate", 1.0)):
            if not 0 < getattr(self, name) <= high:
                raise InvalidInput(name, f"{getattr(self, name)} is outside 0–{high:g}, 0 excluded")
        if self.patience and not self.validate_every:
            raise InvalidInput("patience", f"{self.patience} without a validation that could get no better")

    def shape(self) -> residual.Shape | iresnet.Shape:
        """The network's shape."""
        if self.architecture == "iresnet":
            return iresnet.Shape(self.depths, self.widths, self.size, self.embedding)
        return residual.Shape(self.size, self.widths, self.depths, self.embedding)

    def margins(self) -> Margins:
        """The loss's margins."""
        if self.loss == "arcface":
            return Margins(angle=self.margin)
        if self.loss == "cosface":
            return Margins(angle=0.0, cosine=self.cosine_margin)
        return Margins(self.margin_multiplier, self.margin, self.cosine_margin)


def one_of(field: str, value: str, allowed: tuple[str, ...]) -> None:
    """InvalidInput unless the value is one of these."""
    if value not in allowed:
        raise InvalidInput(field, f"{value!r} is not one of {', '.join(allowed)}")
