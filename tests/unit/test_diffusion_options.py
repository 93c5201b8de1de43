"""What a request of a diffusion recipe asks for: presets, grids, captions, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from fairloop.errors import InvalidInput
from fairloop.v1 import generator_pb2
from services.generator import recipes
from services.generator.diffusion_training import options
from services.generator.diffusion_training.settings import Settings

MODEL = "models/sd/versions/0123456789abcdef"
DATASET = "datasets/faces/versions/0123456789abcdef"


def request(**recipe: Any) -> generator_pb2.FineTuneGeneratorRequest:
    return generator_pb2.FineTuneGeneratorRequest(
        model=MODEL, dataset=DATASET, target_model="models/mine", seed=3, **recipe
    )


def test_the_published_command_is_a_preset() -> None:
    asked = request(text_to_image=generator_pb2.TextToImage(preset="fairface_sd14"))
    found = options.text_to_image(asked, 64).settings
    # seeds.md 1.2, word for word.
    assert found == Settings(
        resolution=512,
        centre_crop=True,
        flip=True,
        batch_size=1,
        accumulation=4,
        gradient_checkpointing=True,
        mixed_precision="fp16",
        max_steps=15_000,
        learning_rate=1e-5,
        max_gradient_norm=1.0,
        schedule="constant",
        warmup_steps=0,
        ema=True,
        seed=3,
    )


def test_the_six_published_settings_are_a_grid() -> None:
    asked = request(dreambooth=generator_pb2.DreamBooth(preset="professions_sd15", class_prompt="a person"))
    found = {run.name: run for run in options.dreambooth(asked, 64)}
    assert {
        name: (run.settings.schedule, run.class_images, run.settings.max_steps) for name, run in found.items()
    } == {
        "linear300": ("linear", 300, 1000),
        "linear20": ("linear", 20, 100),
        "poly300": ("polynomial", 300, 1000),
        "poly20": ("polynomial", 20, 100),
        "constant300": ("constant", 300, 1000),
        "constant20": ("constant", 20, 100),
    }
    for run in found.values():
        chosen = run.settings
        assert (chosen.learning_rate, chosen.batch_size, chosen.accumulation) == (1e-6, 1, 1)
        assert (chosen.prior_weight, chosen.warmup_steps, chosen.resolution) == (1.0, 0, 512)
        assert (chosen.optimiser, chosen.mixed_precision, chosen.gradient_checkpointing) == (
            "adamw_8bit",
            "fp16",
            True,
        )


def test_what_the_request_sets_wins_over_the_preset() -> None:
    training = generator_pb2.DiffusionTraining(
        mixed_precision=generator_pb2.MIXED_PRECISION_NO, ema=False, max_steps=0, resolution=64, epochs=2
    )
    asked = request(text_to_image=generator_pb2.TextToImage(preset="fairface_sd14", training=training))
    found = options.text_to_image(asked, 32).settings
    assert (found.mixed_precision, found.ema, found.max_steps, found.resolution) == ("no", False, 0, 64)
    assert (found.learning_rate, found.accumulation) == (1e-5, 4)
    # Two passes over 10 images, four a step.
    assert found.steps(10, 1) == 5


def test_every_option_of_the_request_reaches_the_settings() -> None:
    """A field of the message that no setting has would be silently ignored."""
    beside = {
        "adam_8bit",
        "lora",
        "checkpoint_steps",
        "checkpoint_limit",
        "validation_prompts",
        "validation_steps",
        "max_samples",
        "caption_template",
        "annotations",
        "sources",
        "balance",
    }
    fields = {field.name for field in generator_pb2.DiffusionTraining.DESCRIPTOR.fields}
    assert fields - beside == set(Settings.__dataclass_fields__) - {
        "optimiser",
        "prior_weight",
        "balanced",
        "seed",
    }


def test_the_rate_is_scaled_by_the_images_of_a_step() -> None:
    chosen = Settings(learning_rate=1e-4, scale_learning_rate=True, batch_size=2, accumulation=4)
    assert chosen.rate(3) == pytest.approx(24e-4)


def training(**fields: Any) -> generator_pb2.TextToImage:
    return generator_pb2.TextToImage(training=generator_pb2.DiffusionTraining(**fields))


@pytest.mark.parametrize(
    ("recipe", "field"),
    [
        ({"text_to_image": generator_pb2.TextToImage(preset="sd9")}, "text_to_image.preset"),
        ({"text_to_image": training(train_text_encoder=True)}, "text_to_image.training.train_text_encoder"),
        ({"text_to_image": training(resolution=33)}, "resolution"),
        ({"text_to_image": training(caption_template="face of {race")}, "template"),
        ({"text_to_image": training(balance=["height"])}, "attribute"),
        (
            {"text_to_image": training(annotations="annotations/0123456789abcdef")},
            "text_to_image.training.sources",
        ),
        ({"text_to_image": training(lora=MODEL)}, "text_to_image.training.lora"),
        ({"text_to_image": training(lora="../x", lora_rank=4)}, "text_to_image.training.lora"),
        ({"text_to_image": training(validation_prompts=[" "])}, "text_to_image.training.validation_prompts"),
        ({"dreambooth": generator_pb2.DreamBooth()}, "dreambooth.class_prompt"),
        (
            {"dreambooth": generator_pb2.DreamBooth(class_prompt="a", instance_prompt=" ")},
            "dreambooth.instance_prompt",
        ),
        ({"dreambooth": generator_pb2.DreamBooth(class_prompt="a", prior_weight=101)}, "prior_weight"),
        (
            {"dreambooth": generator_pb2.DreamBooth(class_prompt="a", class_guidance=0.5)},
            "dreambooth.class_guidance",
        ),
        (
            {
                "dreambooth": generator_pb2.DreamBooth(
                    prior_weight=0, grid=[generator_pb2.DreamBoothRun(name="a")] * 2
                )
            },
            "dreambooth.grid.name",
        ),
    ],
)
def test_a_wrong_option_is_refused_before_the_store_is_asked(recipe: Any, field: str) -> None:
    with pytest.raises(InvalidInput, match=f"^{field}:"):
        recipes.check(request(**recipe))


def test_a_request_needs_a_base_and_a_dataset() -> None:
    asked = request(text_to_image=generator_pb2.TextToImage())
    recipes.check(asked)
    asked.dataset = ""
    with pytest.raises(InvalidInput, match=r"^dataset:"):
        recipes.check(asked)


@pytest.mark.parametrize(
    ("recipe", "field"),
    [
        (
            {"text_to_image": {"training": {"validation_prompts": ["a face", "a nude 13-19 year old"]}}},
            "text_to_image.training.validation_prompts[1]",
        ),
        ({"dreambooth": {"class_prompt": "a naked boy"}}, "dreambooth.class_prompt"),
        (
            {"dreambooth": {"class_prompt": "a boy", "instance_prompt": "sks boy in underwear"}},
            "dreambooth.instance_prompt",
        ),
    ],
)
def test_texts_that_pair_minors_with_sexual_content_are_refused_without_asking_the_store(
    recipe: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidInput, match="pairs people under 18") as caught:
        recipes.check(request(**recipe))
    assert [violation.field for violation in caught.value.violations] == [field]
