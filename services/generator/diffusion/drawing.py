"""How a diffusion model draws: the options of a request, checked and filled in."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from fairloop import names, prompt_safety, taxonomy
from fairloop.errors import InvalidInput
from fairloop.manifest import Manifest
from fairloop.preparation.captions import caption, check_template
from fairloop.prompts import LONGEST_PROMPT, MOST_PROMPTS, check_prompt_id
from fairloop.standalone.table import CONTROL
from fairloop.v1 import generator_pb2

DEFAULT_STEPS = 50
DEFAULT_GUIDANCE = 7.5
DEFAULT_REDRAWS = 10
MOST_STEPS = 1_000
LARGEST_SIDE = 2_048
LARGEST_BATCH = 64
LARGEST_IMAGES = 100_000

SCHEDULERS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    # Latents lie outside of ±1, so what clips samples must not, whatever it was switched over from.
    "ddim": ("DDIMScheduler", {"clip_sample": False}),
    "ddpm": ("DDPMScheduler", {"clip_sample": False}),
    "pndm": ("PNDMScheduler", {"skip_prk_steps": True}),
    "lms": ("LMSDiscreteScheduler", {}),
    "euler": ("EulerDiscreteScheduler", {}),
    "euler_ancestral": ("EulerAncestralDiscreteScheduler", {}),
    "heun": ("HeunDiscreteScheduler", {}),
    "dpmsolver++": ("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++"}),
    "unipc": ("UniPCMultistepScheduler", {}),
}
"""Class of diffusers and what is set beside the model's own configuration."""


@dataclass(frozen=True)
class Drawing:
    """Everything about a draw but its prompt and its noise. `batch` 0 is the server's choice."""

    negative_prompt: str
    steps: int
    guidance: float
    scheduler: str
    width: int
    height: int
    safety_checker: bool
    max_redraws: int
    truncate_prompts: bool
    batch: int

    def to_json(self) -> dict[str, Any]:
        """As the manifest of a dataset tells it."""
        return asdict(self)


@dataclass(frozen=True)
class Wish:
    """Images that are wanted of one prompt. `place` is the quota or prompt of the request, from 0."""

    place: int
    prompt: str
    images: int
    cell: str = ""
    prompt_id: str = ""

    @property
    def text(self) -> str:
        """How messages name it."""
        return self.prompt_id or self.cell or "any cell"


def check_options(message: generator_pb2.Diffusion) -> None:
    """`InvalidInput` for options that no model could draw with."""
    if not 0 <= message.steps <= MOST_STEPS:
        raise InvalidInput("diffusion.steps", f"{message.steps} is outside 0–{MOST_STEPS:,}")
    if message.HasField("guidance") and not (math.isfinite(message.guidance) and 1 <= message.guidance <= 30):
        raise InvalidInput("diffusion.guidance", f"{message.guidance:g} is outside 1–30")
    if message.scheduler and message.scheduler not in SCHEDULERS:
        raise InvalidInput(
            "diffusion.scheduler", f"{message.scheduler!r} is unknown; there are {', '.join(SCHEDULERS)}"
        )
    for side in ("width", "height"):
        value = getattr(message, side)
        if value and (value % 8 or not 8 <= value <= LARGEST_SIDE):
            raise InvalidInput(
                f"diffusion.{side}",
                f"{value} is no multiple of 8 in 8–{LARGEST_SIDE:,}; 0 is the model's own",
            )
    if message.HasField("max_redraws") and not 0 <= message.max_redraws <= 100:
        raise InvalidInput("diffusion.max_redraws", f"{message.max_redraws} is outside 0–100")
    if not 0 <= message.batch <= LARGEST_BATCH:
        raise InvalidInput("diffusion.batch", f"{message.batch} is outside 0–{LARGEST_BATCH}")
    if message.negative_prompt:
        check_text(message.negative_prompt, "diffusion.negative_prompt")


def drawing_of(message: generator_pb2.Diffusion, model: Manifest) -> Drawing:
    """The options with the model's own size and scheduler filled in."""
    own = str(model.details.get("scheduler"))
    scheduler = message.scheduler or next((name for name, (kind, _) in SCHEDULERS.items() if kind == own), "")
    if not scheduler:
        raise InvalidInput("diffusion.scheduler", f"{model.name} states none of its own: name one")
    side = int(model.details["image_size"])
    return Drawing(
        negative_prompt=message.negative_prompt,
        steps=message.steps or DEFAULT_STEPS,
        guidance=message.guidance if message.HasField("guidance") else DEFAULT_GUIDANCE,
        scheduler=scheduler,
        width=message.width or side,
        height=message.height or side,
        safety_checker=not message.without_safety_checker,
        max_redraws=message.max_redraws if message.HasField("max_redraws") else DEFAULT_REDRAWS,
        truncate_prompts=message.truncate_prompts,
        batch=message.batch,
    )


def wishes_of(request: generator_pb2.GenerateRequest) -> list[Wish]:
    """What a request wants, in order: one wish per quota, its prompt from the template, or per prompt."""
    if request.quotas and request.prompts:
        raise InvalidInput("prompts", "stand beside quotas; ask for one of the two")
    if request.prompts:
        if request.diffusion.prompt_template:
            raise InvalidInput("diffusion.prompt_template", "is for quotas; prompts are taken verbatim")
        return _prompted(request)
    if not request.quotas:
        raise InvalidInput("quotas", "is empty, and so is prompts; ask for a cell or a prompt")
    template = request.diffusion.prompt_template
    if not template.strip():
        raise InvalidInput(
            "diffusion.prompt_template", "is empty; write a prompt such as 'detailed face of {race} person'"
        )
    for place, quota in enumerate(request.quotas):
        if quota.images_per_subject != 1:
            raise InvalidInput(
                f"quotas[{place}].images_per_subject",
                f"is {quota.images_per_subject}; a diffusion model draws a new person each time: ask for 1",
            )
    return [wish_at(request, place) for place in range(len(request.quotas))]


def wish_at(request: generator_pb2.GenerateRequest, place: int) -> Wish:
    """The wish of one quota or prompt of a checked request."""
    if request.prompts:
        item = request.prompts[place]
        return Wish(place, item.prompt, item.images, item.cell, item.prompt_id)
    quota = request.quotas[place]
    prompt = prompt_of(request.diffusion.prompt_template, quota.cell)
    return Wish(place, prompt, quota.subjects, quota.cell)


def prompt_of(template: str, cell: str) -> str:
    """The prompt of a cell; `InvalidInput` for a template that names a term which the cell does not have.

    A template without terms is the same prompt for every cell.
    """
    check_text(template, "diffusion.prompt_template")
    if "{" not in template and "}" not in template:
        return template
    terms = taxonomy.parse_cell(cell) if cell else {}
    named = check_template(template)
    if missing := [name for name in named if name not in terms]:
        raise InvalidInput(
            "diffusion.prompt_template", f"names {', '.join(missing)}, which the cell {cell!r} does not have"
        )
    return caption(template, terms)


def check_wishes(wishes: Sequence[Wish], message: generator_pb2.Diffusion, field: str = "") -> None:
    """`InvalidInput` for prompts that are not drawn, or not drawn without the safety checker.

    On `field`, or where that is empty on the prompt of the request.
    """
    for wish in wishes:
        where = field or f"prompts[{wish.place}].prompt"
        check_text(wish.prompt, where)
        prompt_safety.check_prompt(wish.prompt, wish.cell, where, message.negative_prompt)
        if message.without_safety_checker and prompt_safety.names_minor(wish.prompt, wish.cell):
            raise InvalidInput(
                "diffusion.without_safety_checker",
                f"the safety checker stays on for people under 20 ({wish.text}: {wish.prompt[:80]!r})",
            )


def check_text(text: str, field: str) -> None:
    """`InvalidInput` for what is no prompt: empty, too long, or with control characters."""
    if not text.strip():
        raise InvalidInput(field, "is empty; a prompt says what to draw")
    if len(text) > LONGEST_PROMPT or CONTROL.search(text):
        raise InvalidInput(field, f"is no plain text of at most {LONGEST_PROMPT:,} characters")


def _prompted(request: generator_pb2.GenerateRequest) -> list[Wish]:
    if request.HasField("acceptance"):
        raise InvalidInput("acceptance", "decides cells; ask for quotas with a prompt template instead")
    if len(request.prompts) > MOST_PROMPTS:
        raise InvalidInput("prompts", f"has {len(request.prompts):,}; at most {MOST_PROMPTS:,}")
    seen: set[str] = set()
    for place, item in enumerate(request.prompts):
        where = f"prompts[{place}]"
        check_prompt_id(item.prompt_id, f"{where}.prompt_id")
        if item.prompt_id.lower() in seen:
            raise InvalidInput(f"{where}.prompt_id", f"{item.prompt_id!r} stands there twice")
        seen.add(item.prompt_id.lower())
        check_text(item.prompt, f"{where}.prompt")
        if not 1 <= item.images <= LARGEST_IMAGES:
            raise InvalidInput(f"{where}.images", f"{item.images} is outside 1–{LARGEST_IMAGES:,}")
        if item.cell:
            taxonomy.parse_cell(item.cell, f"{where}.cell")
    return [wish_at(request, place) for place in range(len(request.prompts))]


def check_kind(model: Manifest, wanted: bool) -> None:
    """`InvalidInput` when a diffusion model is asked without its options, or another model with them."""
    kind = model.details["kind"]
    is_diffusion = kind in ("diffusion", "diffusion_lora")
    if is_diffusion and not wanted:
        raise InvalidInput("diffusion", f"is missing; {names.collection(model.name)} is a diffusion model")
    if wanted and not is_diffusion:
        raise InvalidInput("diffusion", f"is for diffusion models; {model.name} is a {kind}")
