"""What can be set in a training of a diffusion model."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from fairloop.errors import InvalidInput
from fairloop.seeds import check_seed

SCHEDULES = (
    "linear",
    "cosine",
    "cosine_with_restarts",
    "polynomial",
    "constant",
    "constant_with_warmup",
)
PRECISIONS = ("no", "fp16", "bf16")
PREDICTIONS = ("", "epsilon", "v_prediction")
OPTIMISERS = ("adamw", "adamw_8bit")
LAST_RATE = 1e-7
"""Where diffusers' polynomial schedule ends."""


LARGEST_RESOLUTION = 1600
"""Images are decoded to no more."""


@dataclass(frozen=True)
class Settings:
    """How a diffusion model is trained; the defaults are those of diffusers' `train_text_to_image.py`.

    The settings of one training are the same in every process and after a restart.
    """

    resolution: int = 512
    """Side of the images in pixels, a multiple of 8."""
    centre_crop: bool = False
    """Crops from the middle; otherwise from a drawn place."""
    flip: bool = False
    """Mirrors each image with probability ½."""
    batch_size: int = 16
    """Images of a forward pass of one process."""
    accumulation: int = 1
    """Forward passes of one process that make a step of the optimiser."""
    max_steps: int = 0
    """Steps of the optimiser; 0: as many as `epochs` take."""
    epochs: int = 100
    """Passes over the images, when `max_steps` is 0."""
    learning_rate: float = 1e-4
    scale_learning_rate: bool = False
    """Multiplies the rate by the images of a step."""
    schedule: str = "constant"
    """One of `SCHEDULES`."""
    warmup_steps: int = 500
    """Steps in which the rate rises from 0; `constant` has none."""
    cycles: int = 1
    """Restarts of `cosine_with_restarts`."""
    power: float = 1.0
    """Exponent of `polynomial`."""
    optimiser: str = "adamw"
    """`adamw`, or `adamw_8bit`, which needs bitsandbytes and CUDA."""
    beta1: float = 0.9
    beta2: float = 0.999
    weight_decay: float = 1e-2
    epsilon: float = 1e-8
    max_gradient_norm: float = 1.0
    """Largest norm of the whole gradient, above 0."""
    ema: bool = False
    """Publishes the exponential moving average of the weights."""
    ema_decay: float = 0.9999
    gradient_checkpointing: bool = False
    """Computes activations again in the backward pass: slower, with less memory."""
    mixed_precision: str = "no"
    """One of `PRECISIONS`; `fp16` needs CUDA."""
    allow_tf32: bool = False
    """Lets CUDA multiply in TF32."""
    prediction: str = ""
    """What the network is taught to predict; empty: what the base predicts."""
    snr_gamma: float = 0.0
    """Min-SNR weighting (Hang et al. 2023, arXiv 2303.09556) with this γ; 0: none. The paper takes 5."""
    noise_offset: float = 0.0
    """Standard deviation of an offset that a channel's noise shares; 0: none."""
    input_perturbation: float = 0.0
    """Extra noise on the network's input only (Ning et al. 2023, arXiv 2301.11706); 0: none, usual 0.1."""
    lora_rank: int = 0
    """Trains low-rank additions to the attention of this rank; 0: all weights of the UNet."""
    lora_alpha: int = 0
    """Their scale is alpha / rank; 0: alpha = rank."""
    train_text_encoder: bool = False
    prior_weight: float = 0.0
    """Weight of the class images' loss; 0: there are none."""
    balanced: bool = False
    """Draws every cell equally often, whatever its share of the images."""
    truncate: bool = False
    """Cuts captions of more tokens than the text encoder takes; otherwise they are an error."""
    seed: int = 0
    """0 … 2⁶³−1."""

    def __post_init__(self) -> None:
        check_seed(self.seed)
        if not 8 <= self.resolution <= LARGEST_RESOLUTION or self.resolution % 8:
            raise InvalidInput(
                "resolution", f"{self.resolution} is not a multiple of 8 in 8–{LARGEST_RESOLUTION:,}"
            )
        for name, least, most in (
            ("batch_size", 1, 4096),
            ("accumulation", 1, 4096),
            ("max_steps", 0, 10_000_000),
            ("epochs", 1, 100_000),
            ("warmup_steps", 0, 10_000_000),
            ("cycles", 1, 1000),
            ("lora_rank", 0, 1024),
            ("lora_alpha", 0, 4096),
        ):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
                raise InvalidInput(name, f"{value!r} is not a whole number in {least:,}–{most:,}")
        for name, low, high in (
            ("power", 0.0, 10.0),
            ("beta1", 0.0, 0.999),
            ("beta2", 0.0, 0.99999),
            ("weight_decay", 0.0, 1.0),
            ("ema_decay", 0.0, 1.0),
            ("snr_gamma", 0.0, 1000.0),
            ("noise_offset", 0.0, 1.0),
            ("input_perturbation", 0.0, 1.0),
            ("prior_weight", 0.0, 100.0),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise InvalidInput(name, f"{value} is outside {low:g}–{high:g}")
        for name, high in (("learning_rate", 1.0), ("max_gradient_norm", 1e6), ("epsilon", 1.0)):
            value = getattr(self, name)
            if not 0 < value <= high:
                raise InvalidInput(name, f"{value} is outside 0–{high:g}, 0 excluded")
        for name, allowed in (
            ("schedule", SCHEDULES),
            ("mixed_precision", PRECISIONS),
            ("prediction", PREDICTIONS),
            ("optimiser", OPTIMISERS),
        ):
            value = getattr(self, name)
            if value not in allowed:
                raise InvalidInput(
                    name, f"{value!r} is not one of {', '.join(word for word in allowed if word)}"
                )
        if self.schedule == "polynomial" and self.learning_rate <= LAST_RATE:
            raise InvalidInput("learning_rate", f"polynomial ends at {LAST_RATE:g}; start above it")
        if self.lora_alpha and not self.lora_rank:
            raise InvalidInput("lora_alpha", "is set without lora_rank")

    def images_per_step(self, processes: int) -> int:
        """Images of one step of the optimiser, all processes together."""
        return self.batch_size * self.accumulation * processes

    def steps(self, images: int, processes: int) -> int:
        """Steps of the optimiser that the whole training takes."""
        return self.max_steps or math.ceil(self.epochs * images / self.images_per_step(processes))

    def rate(self, processes: int) -> float:
        """The learning rate that the schedule multiplies."""
        return self.learning_rate * (self.images_per_step(processes) if self.scale_learning_rate else 1)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)
